// Package augment changes training images at random: colour, blur, noise, and by moving pixels.
//
// All randomness comes from the generator that is handed in, which a loader seeds by the sample's place in the run, so that what is
// made depends neither on the number of loaders nor on where a run was interrupted.
package augment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Spec says what is changed, and how far at most; zero leaves a thing as it is.
type Spec struct {
	Colour float64 // part (0..1) by which brightness, contrast and the balance of channels change
	Blur   float64 // standard deviation of a Gaussian, in pixels
	Noise  float64 // standard deviation of Gaussian noise in steps of 255
	Rotate float64 // in degrees, to either side
	Scale  float64 // part by which the image grows, or its inverse
	Crop   float64 // smallest side of a crop as a part of the image's, 0..1; 0 crops nothing
	Flip   bool    // mirror images every second time
}

// rows are the things that a list may name, with what they are without a value and the largest value there is.
var rows = []struct {
	name      string
	usual     float64
	most      float64
	set       func(s *Spec, v float64)
	unlabeled bool // would make labels of poses wrong
}{
	{"colour", 0.2, 1, func(s *Spec, v float64) { s.Colour = v }, false},
	{"blur", 1, 10, func(s *Spec, v float64) { s.Blur = v }, false},
	{"noise", 6, 100, func(s *Spec, v float64) { s.Noise = v }, false},
	{"rotate", 20, 180, func(s *Spec, v float64) { s.Rotate = v }, false},
	{"scale", 0.25, 1, func(s *Spec, v float64) { s.Scale = v }, false},
	{"crop", 0.6, 1, func(s *Spec, v float64) { s.Crop = v }, true},
	{"flip", 1, 1, func(s *Spec, v float64) { s.Flip = v > 0 }, true},
}

// presets are lists by name.
var presets = map[string]string{
	"none":  "",
	"light": "colour=0.1,noise=3",
	"full":  "colour,blur,noise,rotate,scale,crop,flip",
}

// Parse reads none, light, full or a list such as colour=0.2,rotate=30. With poses nothing is mirrored or cropped: the mirror image of
// an object is another object, and a crop moves the principal point, which the network cannot see; full leaves both out and a list that
// names them is an error. nil means that nothing is changed.
func Parse(text string, poses bool) (*Spec, error) {
	list, preset := presets[text]
	if !preset {
		list = text
	}
	s := &Spec{}
	for _, item := range strings.Split(list, ",") {
		name, value, given := strings.Cut(strings.TrimSpace(item), "=")
		if name == "" && preset {
			continue
		}
		found := false
		for _, r := range rows {
			if r.name != name {
				continue
			}
			found = true
			v := r.usual
			if given {
				var err error
				if v, err = strconv.ParseFloat(value, 64); err != nil || !(v >= 0 && v <= r.most) {
					return nil, fmt.Errorf("augment: %s=%s: a number from 0 to %g", name, value, r.most)
				}
			}
			switch {
			case r.unlabeled && poses && !preset:
				return nil, fmt.Errorf("augment: %s would make poses wrong; it is for networks without labels", name)
			case r.unlabeled && poses:
			default:
				r.set(s, v)
			}
		}
		if !found {
			return nil, fmt.Errorf("augment: %q is none of none, light, full or a list of %s", item, strings.Join(Names(), ", "))
		}
	}
	if *s == (Spec{}) {
		return nil, nil
	}
	return s, nil
}

// Names lists the things that a list may name.
func Names() []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.name)
	}
	return out
}

// Moves reports whether pixels change places, so that targets of the image as it was no longer fit.
func (s *Spec) Moves() bool { return s.Rotate > 0 || s.Scale > 0 || s.Crop > 0 || s.Flip }

// Motion draws a rotation in radians and a factor of size.
func (s *Spec) Motion(rng *rand.Rand) (angle, factor float64) {
	angle = (2*rng.Float64() - 1) * s.Rotate * math.Pi / 180
	return angle, math.Exp((2*rng.Float64() - 1) * math.Log1p(s.Scale))
}

// Map takes a place in the new image to one in the old: X = m[0]*x + m[1]*y + m[2], Y = m[3]*x + m[4]*y + m[5], pixel i covering i..i+1.
type Map [6]float64

// At is where a place of the new image lies in the old one.
func (m Map) At(x, y float64) (float64, float64) {
	return m[0]*x + m[1]*y + m[2], m[3]*x + m[4]*y + m[5]
}

// Turn is the map of an image turned by angle and grown by factor about (cx, cy), as a camera of focal lengths fx and fy sees it that is
// itself turned about its axis and given focal lengths factor*fx, factor*fy.
func Turn(angle, factor, fx, fy, cx, cy float64) Map {
	sin, cos := math.Sincos(angle)
	a, b := cos/factor, sin/factor*fx/fy
	c, d := -sin/factor*fy/fx, cos/factor
	return Map{a, b, cx - a*cx - b*cy, c, d, cy - c*cx - d*cy}
}

// Warp is an RGB image of w x h seen through a map: bilinear, and beyond the edges as the nearest pixel of the edge, which shows no object
// a second time.
func Warp(rgb []uint8, w, h int, m Map) []uint8 {
	out := make([]uint8, len(rgb))
	clamp := func(v, n int) int { return max(0, min(v, n-1)) }
	for y := range h {
		for x := range w {
			sx, sy := m.At(float64(x)+0.5, float64(y)+0.5)
			sx, sy = sx-0.5, sy-0.5
			fx, fy := math.Floor(sx), math.Floor(sy)
			ax, ay := sx-fx, sy-fy
			x0, x1 := clamp(int(fx), w), clamp(int(fx)+1, w)
			y0, y1 := clamp(int(fy), h), clamp(int(fy)+1, h)
			p00, p01, p10, p11 := 3*(y0*w+x0), 3*(y0*w+x1), 3*(y1*w+x0), 3*(y1*w+x1)
			for c := range 3 {
				top := float64(rgb[p00+c])*(1-ax) + float64(rgb[p01+c])*ax
				low := float64(rgb[p10+c])*(1-ax) + float64(rgb[p11+c])*ax
				out[3*(y*w+x)+c] = uint8(top*(1-ay) + low*ay + 0.5)
			}
		}
	}
	return out
}

// Window is part of an RGB image of w x h, mirrored or not.
func Window(rgb []uint8, w int, x0, y0, cw, ch int, mirror bool) []uint8 {
	out := make([]uint8, 3*cw*ch)
	for y := range ch {
		row := rgb[3*((y0+y)*w+x0):][:3*cw]
		dst := out[3*y*cw:][:3*cw]
		if !mirror {
			copy(dst, row)
			continue
		}
		for x := range cw {
			copy(dst[3*(cw-1-x):][:3], row[3*x:][:3])
		}
	}
	return out
}

// Cut draws a crop with sides of at least the part least of the image's: its corner and sides.
func Cut(w, h int, least float64, rng *rand.Rand) (x0, y0, cw, ch int) {
	cw = max(1, int(math.Round(float64(w)*(least+(1-least)*rng.Float64()))))
	ch = max(1, int(math.Round(float64(h)*(least+(1-least)*rng.Float64()))))
	return rng.IntN(w - cw + 1), rng.IntN(h - ch + 1), cw, ch
}

// Image changes an RGB image of w x h in every way that the spec says; the result may have another size.
func (s *Spec) Image(rgb []uint8, w, h int, rng *rand.Rand) ([]uint8, int, int) {
	x0, y0, cw, ch, mirror := 0, 0, w, h, false
	if s.Crop > 0 {
		x0, y0, cw, ch = Cut(w, h, s.Crop, rng)
	}
	if s.Flip {
		mirror = rng.IntN(2) == 1
	}
	if s.Crop > 0 || mirror {
		rgb, w, h = Window(rgb, w, x0, y0, cw, ch, mirror), cw, ch
	}
	if s.Rotate > 0 || s.Scale > 0 {
		angle, factor := s.Motion(rng)
		rgb = Warp(rgb, w, h, Turn(angle, factor, 1, 1, float64(w)/2, float64(h)/2))
	}
	return s.Pixels(rgb, w, h, rng), w, h
}
