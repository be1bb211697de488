// Package prep turns 8-bit RGB images into what networks eat.
package prep

import (
	"fmt"
	"maps"
	"math"

	"mqatc/onnx/ir"
)

// Spec says how an image becomes a network's input: resized to Width x Height (0: what the network says), channels in Order, and
// each pixel value v (0..255) turned into (v*Scale - Mean)/Std, with Mean and Std by channel in that order.
type Spec struct {
	Width  int        `yaml:"width,omitempty"`
	Height int        `yaml:"height,omitempty"`
	Order  string     `yaml:"order"` // rgb or bgr
	Scale  float64    `yaml:"scale"`
	Mean   [3]float64 `yaml:"mean,flow"`
	Std    [3]float64 `yaml:"std,flow"`
	Fit    string     `yaml:"fit"` // stretch or letterbox
	// Fill is the pixel value around a letterboxed image, 0..255.
	Fill uint8 `yaml:"fill,omitempty"`
	// Others says what the network's inputs beside the image are fed, by name.
	Others map[string]Other `yaml:"others,omitempty"`
}

// Default is RGB, divided by 255, stretched.
func Default() Spec {
	return Spec{Order: "rgb", Scale: 1.0 / 255, Std: [3]float64{1, 1, 1}, Fit: "stretch"}
}

// Check refuses what cannot be meant.
func (s Spec) Check() error {
	if s.Order != "rgb" && s.Order != "bgr" {
		return fmt.Errorf("order %q: rgb or bgr", s.Order)
	}
	if s.Fit != "stretch" && s.Fit != "letterbox" {
		return fmt.Errorf("fit %q: stretch or letterbox", s.Fit)
	}
	if s.Scale == 0 || !finite(s.Scale) {
		return fmt.Errorf("scale %v", s.Scale)
	}
	for c := range 3 {
		if !finite(s.Mean[c]) || !finite(s.Std[c]) || s.Std[c] == 0 {
			return fmt.Errorf("channel %d: mean %v, std %v", c, s.Mean[c], s.Std[c])
		}
	}
	for name, o := range s.Others {
		if o.Coordinates == (len(o.Values) > 0) {
			return fmt.Errorf("others: %s: either values or coordinates", name)
		}
	}
	if s.Width < 0 || s.Height < 0 || s.Width > maxSide || s.Height > maxSide {
		return fmt.Errorf("size %dx%d", s.Width, s.Height)
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

const maxSide = 1 << 14

// Input is a Spec fitted to a network's image input.
type Input struct {
	Spec
	Name     string
	Channels int  // 3, or 1 for gray
	Last     bool // channels come last (NHWC)
	// Fixed is what the inputs beside the image are fed, for one image, by name.
	Fixed map[string]*ir.Tensor
}

// Fit finds the image input of a network: its only input of rank 4 with 1 or 3 channels, but for those that the spec says are
// others. It is an error if there is none or more than one, or if neither the network nor the spec gives a size.
func Fit(s Spec, inputs []*ir.Value) (*Input, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("preprocessing: %w", err)
	}
	var found *Input
	fixed := map[string]*ir.Tensor{}
	for _, v := range inputs {
		if v.IsInitializer() {
			continue
		}
		if o, ok := s.Others[v.Name()]; ok {
			t, err := o.tensor(v)
			if err != nil {
				return nil, fmt.Errorf("preprocessing: others: input %q of shape %v: %w", v.Name(), v.Shape(), err)
			}
			fixed[v.Name()] = t
			continue
		}
		sh := v.Shape()
		if len(sh) != 4 || v.DType() != ir.Float32 {
			return nil, fmt.Errorf("input %q is %v: only networks that eat float images of 4 dimensions can be fed from image files", v.Name(), v.Type)
		}
		if found != nil {
			return nil, fmt.Errorf("the network has several inputs (%q, %q) and one image to feed: a task's file says what %q gets, as input: {others: {%s: {values: [0.1]}}}",
				found.Name, v.Name(), v.Name(), v.Name())
		}
		found = &Input{Spec: s, Name: v.Name(), Channels: 3}
		h, w := sh[2], sh[3]
		switch {
		case is(sh[1], 3):
		case is(sh[3], 3), is(sh[3], 1) && !is(sh[1], 1):
			found.Channels, found.Last = int(sh[3].Size), true
			h, w = sh[1], sh[2]
		case is(sh[1], 1):
			found.Channels = 1
		case sh[1].Known():
			return nil, fmt.Errorf("input %q of shape %v is no image", v.Name(), sh)
		}
		for _, side := range []struct {
			d    ir.Dim
			have *int
			name string
		}{{w, &found.Width, "width"}, {h, &found.Height, "height"}} {
			if *side.have == 0 && side.d.Known() {
				*side.have = int(side.d.Size)
			}
			if *side.have <= 0 || *side.have > maxSide {
				return nil, fmt.Errorf("input %q of shape %v leaves the image's %s open: give --input-shape %s=1x3xHxW or a task with a size", v.Name(), sh, side.name, v.Name())
			}
			if side.d.Known() && int64(*side.have) != side.d.Size {
				return nil, fmt.Errorf("the task gives %s %d, the network's input %q has shape %v", side.name, *side.have, v.Name(), sh)
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("the network has no input for an image")
	}
	found.Fixed = fixed
	return found, nil
}

// Feeds is what a network is fed for an image, given as its tensor.
func (in *Input) Feeds(image *ir.Tensor) map[string]*ir.Tensor {
	f := maps.Clone(in.Fixed)
	if f == nil {
		f = map[string]*ir.Tensor{}
	}
	f[in.Name] = image
	return f
}

func is(d ir.Dim, n int64) bool { return d.Known() && d.Size == n }

// Dims are the sizes of the tensor of one image.
func (in *Input) Dims() []int64 {
	if in.Last {
		return []int64{1, int64(in.Height), int64(in.Width), int64(in.Channels)}
	}
	return []int64{1, int64(in.Channels), int64(in.Height), int64(in.Width)}
}

// Geometry maps source to network pixels: x' = X*x + OffX, y' = Y*y + OffY, where pixel i covers i..i+1.
type Geometry struct{ X, Y, OffX, OffY float64 }

// Geometry is where an image of w x h comes to lie.
func (in *Input) Geometry(w, h int) Geometry {
	sx, sy := float64(in.Width)/float64(w), float64(in.Height)/float64(h)
	if in.Fit != "letterbox" {
		return Geometry{X: sx, Y: sy}
	}
	s := min(sx, sy)
	nw, nh := max(1, int(math.Round(s*float64(w)))), max(1, int(math.Round(s*float64(h))))
	nw, nh = min(nw, in.Width), min(nh, in.Height)
	return Geometry{
		X: float64(nw) / float64(w), Y: float64(nh) / float64(h),
		OffX: float64((in.Width - nw) / 2), OffY: float64((in.Height - nh) / 2),
	}
}

// Camera maps a camera matrix to network pixels.
func (g Geometry) Camera(k [9]float64) [9]float64 {
	return [9]float64{
		g.X * k[0], g.X * k[1], g.X*k[2] + g.OffX,
		0, g.Y * k[4], g.Y*k[5] + g.OffY,
		0, 0, 1,
	}
}

// Resize brings an RGB image of w x h to the input's size; the result has Height x Width x 3 bytes.
func (in *Input) Resize(w, h int, rgb []uint8) []uint8 {
	if w == in.Width && h == in.Height {
		return rgb
	}
	if in.Fit != "letterbox" {
		return bilinear(rgb, w, h, in.Width, in.Height)
	}
	g := in.Geometry(w, h)
	nw, nh := int(math.Round(g.X*float64(w))), int(math.Round(g.Y*float64(h)))
	small := bilinear(rgb, w, h, nw, nh)
	out := make([]uint8, 3*in.Width*in.Height)
	for i := range out {
		out[i] = in.Fill
	}
	ox, oy := int(g.OffX), int(g.OffY)
	for y := range nh {
		copy(out[3*((oy+y)*in.Width+ox):][:3*nw], small[3*y*nw:])
	}
	return out
}

// Tensor normalizes an RGB image of the input's size.
func (in *Input) Tensor(rgb []uint8) (*ir.Tensor, error) {
	px := in.Width * in.Height
	if len(rgb) != 3*px {
		return nil, fmt.Errorf("an image of %d bytes is not %dx%d", len(rgb), in.Width, in.Height)
	}
	out := make([]float32, in.Channels*px)
	step, plane := 1, px
	if in.Last {
		step, plane = in.Channels, 1
	}
	if in.Channels == 1 {
		lut := in.table(0)
		for i := range px {
			r, g, b := int(rgb[3*i]), int(rgb[3*i+1]), int(rgb[3*i+2])
			out[i] = lut[(r*19595+g*38470+b*7471+1<<15)>>16]
		}
		return ir.FromFloat32s(out, in.Dims()...)
	}
	for c := range 3 {
		src := c
		if in.Order == "bgr" {
			src = 2 - c
		}
		lut := in.table(c)
		for i := range px {
			out[c*plane+i*step] = lut[rgb[3*i+src]]
		}
	}
	return ir.FromFloat32s(out, in.Dims()...)
}

// table is the normalized value of each pixel value.
func (in *Input) table(c int) *[256]float32 {
	var t [256]float32
	for v := range t {
		t[v] = float32((float64(v)*in.Scale - in.Mean[c]) / in.Std[c])
	}
	return &t
}

// Image is Resize followed by Tensor.
func (in *Input) Image(w, h int, rgb []uint8) (*ir.Tensor, error) {
	if w <= 0 || h <= 0 || len(rgb) != 3*w*h {
		return nil, fmt.Errorf("an image of %d bytes is not %dx%d", len(rgb), w, h)
	}
	return in.Tensor(in.Resize(w, h, rgb))
}
