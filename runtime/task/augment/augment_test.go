package augment

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

func picture(w, h int) []uint8 {
	rgb := make([]uint8, 3*w*h)
	for i := range rgb {
		rgb[i] = uint8(128 + 100*math.Sin(float64(i/3%w)/5)*math.Cos(float64(i/3/w)/7) + float64(10*(i%3)))
	}
	return rgb
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text  string
		poses bool
		want  *Spec
	}{
		{"none", false, nil}, {"none", true, nil}, {"colour=0", false, nil},
		{"light", true, &Spec{Colour: 0.1, Noise: 3}},
		{"full", true, &Spec{Colour: 0.2, Blur: 1, Noise: 6, Rotate: 20, Scale: 0.25}},
		{"full", false, &Spec{Colour: 0.2, Blur: 1, Noise: 6, Rotate: 20, Scale: 0.25, Crop: 0.6, Flip: true}},
		{"rotate=90, blur", false, &Spec{Rotate: 90, Blur: 1}},
	} {
		got, err := Parse(c.text, c.poses)
		if err != nil || (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%q, poses %v: %+v, %v", c.text, c.poses, got, err)
		}
	}
	for _, text := range []string{"", "heavy", "rotate=200", "rotate=x", "noise=NaN", "colour=-1", "colour,,blur"} {
		if _, err := Parse(text, false); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"flip", "colour,crop=0.9"} {
		if _, err := Parse(text, true); err == nil {
			t.Errorf("%q was accepted with poses", text)
		}
	}
}

func TestTurnIsACamerasTurn(t *testing.T) {
	const fx, fy, cx, cy, angle, factor = 300, 250, 70, 40, 0.6, 1.3
	m := Turn(angle, factor, fx, fy, cx, cy)
	sin, cos := math.Sincos(angle)
	for _, p := range [][3]float64{{1, 2, 9}, {-3, 0.5, 8}, {0, 0, 5}} {
		x, y := cos*p[0]-sin*p[1], sin*p[0]+cos*p[1]
		u, v := m.At(factor*fx*x/p[2]+cx, factor*fy*y/p[2]+cy)
		if wu, wv := fx*p[0]/p[2]+cx, fy*p[1]/p[2]+cy; math.Hypot(u-wu, v-wv) > 1e-9 {
			t.Errorf("%v: comes from (%v, %v), lay at (%v, %v)", p, u, v, wu, wv)
		}
	}
}

func TestWarp(t *testing.T) {
	const w, h = 37, 23
	rgb := picture(w, h)
	if !bytes.Equal(Warp(rgb, w, h, Turn(0, 1, 1, 1, 5, 9)), rgb) {
		t.Error("the identity changes an image")
	}
	back := Warp(Warp(rgb, w, h, Turn(math.Pi, 1, 1, 1, w/2.0, h/2.0)), w, h, Turn(math.Pi, 1, 1, 1, w/2.0, h/2.0))
	if !bytes.Equal(back, rgb) {
		t.Error("two half turns change an image")
	}
}

func TestPixels(t *testing.T) {
	const w, h = 40, 30
	rgb := picture(w, h)
	keep := bytes.Clone(rgb)
	for _, s := range []Spec{{Colour: 0.3}, {Blur: 2}, {Noise: 10}, {Colour: 0.2, Blur: 1, Noise: 4}} {
		a := s.Pixels(rgb, w, h, rand.New(rand.NewPCG(1, 2)))
		b := s.Pixels(rgb, w, h, rand.New(rand.NewPCG(1, 2)))
		c := s.Pixels(rgb, w, h, rand.New(rand.NewPCG(1, 3)))
		if !bytes.Equal(a, b) || bytes.Equal(a, c) || bytes.Equal(a, rgb) {
			t.Errorf("%+v: same seed %v, other seed %v, unchanged %v", s, bytes.Equal(a, b), bytes.Equal(a, c), bytes.Equal(a, rgb))
		}
	}
	if !bytes.Equal(rgb, keep) {
		t.Error("the image itself was changed")
	}
	// A blur keeps the mean and takes variance away.
	v := make([]float32, len(rgb))
	for i, p := range rgb {
		v[i] = float32(p)
	}
	mean, variance := moments(v)
	blur(v, w, h, 2)
	m2, v2 := moments(v)
	if math.Abs(m2-mean) > 3 || v2 >= variance {
		t.Errorf("blurred: mean %v -> %v, variance %v -> %v", mean, m2, variance, v2)
	}
}

func moments(v []float32) (mean, variance float64) {
	for _, x := range v {
		mean += float64(x) / float64(len(v))
	}
	for _, x := range v {
		variance += (float64(x) - mean) * (float64(x) - mean) / float64(len(v))
	}
	return mean, variance
}

func TestImage(t *testing.T) {
	rgb := picture(50, 40)
	s := Spec{Crop: 0.6, Flip: true}
	for i := range 50 {
		out, w, h := s.Image(rgb, 50, 40, rand.New(rand.NewPCG(3, uint64(i))))
		if w < 30 || w > 50 || h < 24 || h > 40 || len(out) != 3*w*h {
			t.Fatalf("a crop of %dx%d with %d bytes", w, h, len(out))
		}
	}
	full, w, h := (&Spec{Crop: 1, Flip: false}).Image(rgb, 50, 40, rand.New(rand.NewPCG(1, 1)))
	if w != 50 || h != 40 || !bytes.Equal(full, rgb) {
		t.Error("a crop of the whole image is not the image")
	}
	if mirrored := Window(Window(rgb, 50, 0, 0, 50, 40, true), 50, 0, 0, 50, 40, true); !bytes.Equal(mirrored, rgb) {
		t.Error("mirrored twice is not the image")
	}
}
