package prep

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mqatc/onnx/ir"
)

// slow is linear interpolation with half-pixel centres in float64, pixel by pixel.
func slow(src []uint8, w, h, nw, nh, x, y, c int) float64 {
	at := func(i, j int) float64 {
		i, j = min(max(i, 0), w-1), min(max(j, 0), h-1)
		return float64(src[3*(j*w+i)+c])
	}
	fx := (float64(x)+0.5)*float64(w)/float64(nw) - 0.5
	fy := (float64(y)+0.5)*float64(h)/float64(nh) - 0.5
	ix, iy := int(math.Floor(fx)), int(math.Floor(fy))
	ax, ay := fx-float64(ix), fy-float64(iy)
	return (at(ix, iy)*(1-ax)+at(ix+1, iy)*ax)*(1-ay) + (at(ix, iy+1)*(1-ax)+at(ix+1, iy+1)*ax)*ay
}

func TestBilinearAgainstFormula(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][4]int{{17, 11, 40, 30}, {64, 48, 20, 31}, {5, 7, 5, 3}, {1, 1, 4, 4}, {640, 427, 96, 96}} {
		w, h, nw, nh := s[0], s[1], s[2], s[3]
		src := make([]uint8, 3*w*h)
		for i := range src {
			src[i] = uint8(rng.UintN(256))
		}
		got := bilinear(src, w, h, nw, nh)
		for y := range nh {
			for x := range nw {
				for c := range 3 {
					want := slow(src, w, h, nw, nh, x, y, c)
					if d := math.Abs(float64(got[3*(y*nw+x)+c]) - want); d > 0.75 {
						t.Fatalf("%v: pixel %d,%d,%d is %d, formula %v", s, x, y, c, got[3*(y*nw+x)+c], want)
					}
				}
			}
		}
	}
}

func input(dims ...int64) []*ir.Value {
	g := ir.NewGraph("g")
	s := make(ir.Shape, len(dims))
	for i, d := range dims {
		s[i] = ir.D(d)
		if d < 0 {
			s[i] = ir.UnknownDim()
		}
	}
	v, _ := g.AddInput("x", ir.TensorType(ir.Float32, s))
	return []*ir.Value{v}
}

func TestTensorOrderAndLayout(t *testing.T) {
	rgb := []uint8{10, 20, 30, 40, 50, 60} // two pixels side by side
	spec := Spec{Order: "bgr", Scale: 2, Mean: [3]float64{1, 2, 3}, Std: [3]float64{10, 20, 40}, Fit: "stretch"}
	for _, c := range []struct {
		dims []int64
		want []float32
	}{
		{[]int64{1, 3, 1, 2}, []float32{5.9, 11.9, 1.9, 4.9, 0.425, 1.925}},
		{[]int64{1, 1, 2, 3}, []float32{5.9, 1.9, 0.425, 11.9, 4.9, 1.925}},
		{[]int64{1, 1, 1, 2}, []float32{3.5, 9.5}},
	} {
		in, err := Fit(spec, input(c.dims...))
		if err != nil {
			t.Fatal(err)
		}
		v, err := in.Image(2, 1, rgb)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := v.Float32s()
		for i := range got {
			if math.Abs(float64(got[i]-c.want[i])) > 1e-6 {
				t.Fatalf("%v: %v, want %v", c.dims, got, c.want)
			}
		}
	}
}

func TestLetterboxKeepsCameraAndPixelsTogether(t *testing.T) {
	spec := Default()
	spec.Fit, spec.Fill = "letterbox", 114
	in, err := Fit(spec, input(1, 3, 64, 64))
	if err != nil {
		t.Fatal(err)
	}
	w, h := 100, 50
	rgb := make([]uint8, 3*w*h)
	for y := range h {
		for x := range w {
			if x >= 50 && y < 25 {
				rgb[3*(y*w+x)] = 255
			}
		}
	}
	out := in.Resize(w, h, rgb)
	g := in.Geometry(w, h)
	if out[0] != 114 || out[3*64*63] != 114 {
		t.Error("no border above or below")
	}
	// The red quadrant begins at source x = 50: network x = 32; it ends at source y = 25: network y = 32.
	if x := 50*g.X + g.OffX; math.Abs(x-32) > 1e-9 {
		t.Errorf("x 50 maps to %v", x)
	}
	if y := 25*g.Y + g.OffY; math.Abs(y-32) > 1e-9 {
		t.Errorf("y 25 maps to %v", y)
	}
	at := func(x, y int) uint8 { return out[3*(y*64+x)] }
	if at(34, 29) != 255 || at(29, 29) != 0 || at(34, 34) != 0 {
		t.Errorf("red at %d %d %d", at(34, 29), at(29, 29), at(34, 34))
	}
	k := g.Camera([9]float64{100, 0, 50, 0, 100, 25, 0, 0, 1})
	if k[2] != 32 || k[5] != 32 || k[0] != 64 || k[4] != 64 {
		t.Errorf("camera %v", k)
	}
}

func TestFitRefusals(t *testing.T) {
	for name, in := range map[string][]*ir.Value{
		"rank":  input(1, 3, 8),
		"open":  input(1, 3, -1, -1),
		"depth": input(1, 5, 8, 8),
		"two":   append(input(1, 3, 8, 8), input(1, 3, 8, 8)...),
		"none":  nil,
	} {
		if _, err := Fit(Default(), in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := Default()
	s.Others = map[string]Other{"x": {Values: []float64{1}}}
	if _, err := Fit(s, input(1, 3, 8, 8)); err == nil {
		t.Error("a network without an image was accepted")
	}
	for name, o := range map[string]Other{"neither": {}, "both": {Values: []float64{1}, Coordinates: true}} {
		s.Others = map[string]Other{"x": o}
		if s.Check() == nil {
			t.Errorf("others, %s: accepted", name)
		}
	}
	s = Default()
	s.Width = 9
	if _, err := Fit(s, input(1, 3, 8, 8)); err == nil {
		t.Error("a width other than the network's was accepted")
	}
	s.Std[1] = 0
	if s.Check() == nil {
		t.Error("a deviation of zero was accepted")
	}
}

func TestOtherInputs(t *testing.T) {
	named := func(name string, v []*ir.Value) *ir.Value {
		if err := v[0].Graph().Rename(v[0], name); err != nil {
			t.Fatal(err)
		}
		return v[0]
	}
	image := named("image", input(-1, 3, 8, 8))
	spec := Default()
	for _, c := range []struct {
		o    Other
		dims []int64
		want []float32 // nil: refused
	}{
		{Other{Values: []float64{1, 2, 3}}, []int64{-1, 3}, []float32{1, 2, 3}},
		{Other{Values: []float64{5}}, []int64{1, 2, 2}, []float32{5, 5, 5, 5}},
		{Other{Coordinates: true}, []int64{-1, 2, 1, 2}, []float32{0.25, 0.75, 0.5, 0.5}},
		{Other{Coordinates: true}, []int64{-1, 3, 1, 2}, nil},
		{Other{Values: []float64{1, 2}}, []int64{-1, 3}, nil},
		{Other{Values: []float64{1}}, []int64{-1, -1}, nil},
		{Other{Values: []float64{1}}, []int64{1 << 13, 1 << 13}, nil},
	} {
		spec.Others = map[string]Other{"more": c.o}
		in, err := Fit(spec, []*ir.Value{image, named("more", input(c.dims...))})
		if (err == nil) != (c.want != nil) {
			t.Errorf("%+v %v: %v", c.o, c.dims, err)
		}
		if err != nil {
			continue
		}
		img, err := in.Image(8, 8, make([]uint8, 192))
		if err != nil {
			t.Fatal(err)
		}
		feeds := in.Feeds(img)
		got, err := feeds["more"].Float32s()
		if err != nil || len(feeds) != 2 || feeds["image"] != img || !slices.Equal(got, c.want) {
			t.Errorf("%+v %v: %v, want %v; %d feeds, %v", c.o, c.dims, got, c.want, len(feeds), err)
		}
	}
}
