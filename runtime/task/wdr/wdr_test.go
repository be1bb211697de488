package wdr_test

import (
	"context"
	"math"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/pose"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

// outputsFor declares outputs of C classes and K keypoints for maps of the given sides.
func outputsFor(t testing.TB, c, k int64, sides ...int64) []*ir.Value {
	t.Helper()
	g := ir.NewGraph("net")
	var out []*ir.Value
	for i, s := range sides {
		for _, o := range []struct {
			name string
			ch   int64
		}{{"reg", 2 * c * k}, {"cls", c}} {
			v, err := g.AddInput(o.name+string(rune('0'+i)), ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(o.ch), ir.D(s), ir.D(s)}))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, v)
		}
	}
	return out
}

func dataFor(t testing.TB, size, n int, sides ...int64) *wdr.Data {
	t.Helper()
	in := &prep.Input{Spec: prep.Default(), Name: "image", Channels: 3}
	in.Width, in.Height = size, size
	layout, err := wdr.FindLayout(outputsFor(t, 1, 8, sides...), size, size)
	if err != nil {
		t.Fatal(err)
	}
	config, err := wdr.Config{AnchorScale: 3}.WithDefaults(size)
	if err != nil {
		t.Fatal(err)
	}
	set, err := cubesat.Generate(cubesat.Config{Size: 96, Seed: 5}, n, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := wdr.NewData(in, layout, config, set.Source(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// perfect makes the outputs of a network that knows the truth, from the targets of one image: every covered cell is sure and
// predicts the exact image points of the keypoints, shifted by off network pixels.
func perfect(t testing.TB, d *wdr.Data, f train.Feeds, off float64) map[string]*ir.Tensor {
	t.Helper()
	get := func(name string) []float32 {
		v, err := f[name].Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	xy, z, neg, inv, center := get("wdr_xy"), get("wdr_z"), get("wdr_negative"), get("wdr_focal"), get("wdr_center")
	out := map[string]*ir.Tensor{}
	K, L := d.Layout.Keypoints, d.Layout.Cells
	for _, lv := range d.Layout.Levels {
		n := lv.W * lv.H
		cls, reg := make([]float32, n), make([]float32, 2*K*n)
		for j := range n {
			i := lv.First + j
			cls[j] = 6
			if neg[i] == 1 {
				cls[j] = -6
			}
			at := [2]float64{(float64(j%lv.W) + 0.5) * lv.StrideX, (float64(j/lv.W) + 0.5) * lv.StrideY}
			for k := range K {
				for a := range 2 {
					ray := float64(xy[(a*K+k)*L+i]) / float64(z[k*L+i])
					pixel := (ray - float64(center[a])) / float64(inv[a])
					reg[(a*K+k)*n+j] = float32((pixel + off - at[a]) / d.Config.Anchor(lv))
				}
			}
		}
		var err error
		if out[lv.Cls], err = ir.FromFloat32s(cls, 1, 1, int64(lv.H), int64(lv.W)); err != nil {
			t.Fatal(err)
		}
		if out[lv.Reg], err = ir.FromFloat32s(reg, 1, int64(2*K), int64(lv.H), int64(lv.W)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestPerfectOutputsGiveTheTruePoses(t *testing.T) {
	for _, size := range []int{96, 160} {
		d := dataFor(t, size, 30, int64(size/8), int64(size/16), int64(size/32))
		next := 0
		run := func(map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
			f, err := d.Sample(next, nil)
			if err != nil {
				return nil, err
			}
			next++
			return perfect(t, d, f, 0), nil
		}
		s, err := d.Evaluate(context.Background(), run, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := s.Detail.(*pose.Summary)
		if s.Main != 1 || sum.ADD01 != 1 || sum.MedianADD > 1e-3 {
			t.Errorf("size %d: %+v", size, sum.Score)
		}
	}
}

func lossOf(t *testing.T, s *ort.Session, out map[string]*ir.Tensor, f train.Feeds, eps float32) float64 {
	t.Helper()
	feeds := map[string]*ir.Tensor{}
	for k, v := range f {
		if k != "image" {
			feeds[k] = v
		}
	}
	for k, v := range out {
		feeds[k] = v
	}
	feeds[wdr.TargetEps], _ = ir.FromFloat32s([]float32{eps}, 1)
	r, err := s.Run(feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r["loss"].Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return float64(v[0])
}

// lossSession makes a loss of d's network ready to run.
func lossSession(t *testing.T, loss func(*wdr.Layout, wdr.Config) (*ir.Model, error), d *wdr.Data) *ort.Session {
	t.Helper()
	m, err := loss(d.Layout, d.Config)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestLossAgainstFormula compares the graph with the same loss written down in float64, on outputs that are wrong on purpose.
func TestLossAgainstFormula(t *testing.T) {
	orttest.TestLibrary(t)
	d := dataFor(t, 96, 6, 12, 6, 3)
	s := lossSession(t, wdr.Loss, d)
	for i := range 6 {
		f, err := d.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []float64{0, 3} {
			out := perfect(t, d, f, off)
			for _, eps := range []float32{5, 50} {
				got, want := lossOf(t, s, out, f, eps), formula(t, d, f, out, float64(eps))
				if math.Abs(got-want) > 1e-4*(1+want) {
					t.Errorf("image %d, %v px off, eps %v: loss %v, formula %v", i, off, eps, got, want)
				}
				if (off == 0) != (want < 0.03) {
					t.Errorf("image %d, %v px off: loss %v", i, off, want)
				}
			}
		}
	}
}

func formula(t *testing.T, d *wdr.Data, f train.Feeds, out map[string]*ir.Tensor, eps float64) float64 {
	v := func(x *ir.Tensor) []float32 {
		r, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	pos, neg, weight, xy, z := v(f["wdr_positive"]), v(f["wdr_negative"]), v(f["wdr_weight"]), v(f["wdr_xy"]), v(f["wdr_z"])
	inv, center := v(f["wdr_focal"]), v(f["wdr_center"])
	K, L := d.Layout.Keypoints, d.Layout.Cells
	var cls, npos, space, wsum float64
	for _, lv := range d.Layout.Levels {
		c, r := v(out[lv.Cls]), v(out[lv.Reg])
		n := lv.W * lv.H
		for j := range n {
			i := lv.First + j
			p := min(max(1/(1+math.Exp(-float64(c[j]))), 1e-6), 1-1e-6)
			cls -= 0.25*(1-p)*(1-p)*math.Log(p)*float64(pos[i]) + 0.75*p*p*math.Log(1-p)*float64(neg[i])
			npos += float64(pos[i])
			at := [2]float64{(float64(j%lv.W) + 0.5) * lv.StrideX, (float64(j/lv.W) + 0.5) * lv.StrideY}
			cell := 0.0
			for k := range K {
				x := [3]float64{float64(xy[k*L+i]), float64(xy[(K+k)*L+i]), float64(z[k*L+i])}
				b := [3]float64{0, 0, 1}
				for a := range 2 {
					px := at[a] + d.Config.Anchor(lv)*float64(r[(a*K+k)*n+j])
					b[a] = px*float64(inv[a]) + float64(center[a])
				}
				foot := (b[0]*x[0] + b[1]*x[1] + b[2]*x[2]) / (b[0]*b[0] + b[1]*b[1] + b[2]*b[2])
				for a := range 3 {
					e := math.Abs(eps * (foot*b[a] - x[a]))
					if e < 1 {
						cell += 0.5 * e * e
					} else {
						cell += e - 0.5
					}
				}
			}
			space += cell / float64(3*K) / eps * 10 * float64(weight[i])
			wsum += float64(weight[i])
		}
	}
	return cls/max(npos, 1) + 3*space/max(wsum, 1)
}

func TestLayouts(t *testing.T) {
	l, err := wdr.FindLayout(outputsFor(t, 3, 11, 40, 20), 320, 640)
	if err != nil {
		t.Fatal(err)
	}
	if l.Classes != 3 || l.Keypoints != 11 || l.Cells != 2000 || l.Levels[1].StrideX != 16 || l.Levels[1].StrideY != 32 || l.Levels[1].First != 1600 {
		t.Errorf("%+v", l)
	}
	if _, err := wdr.FindLayout(outputsFor(t, 1, 8, 12)[:1], 96, 96); err == nil {
		t.Error("a single output was accepted")
	}
	if _, err := wdr.FindLayout(outputsFor(t, 1, 3, 12), 96, 96); err == nil {
		t.Error("three keypoints were accepted")
	}
}

// TestHullStandsForMask gives an object without a mask the hull of its keypoints.
func TestHullStandsForMask(t *testing.T) {
	masked := dataFor(t, 96, 4, 12, 6, 3)
	set, err := cubesat.Generate(cubesat.Config{Size: 96, Seed: 5}, 4, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := wdr.NewData(masked.Input, masked.Layout, masked.Config, unmasked{set.Source()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		a, err := masked.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bare.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		inMask, inHull := a["wdr_negative"], b["wdr_negative"]
		m, _ := inMask.Float32s()
		h, _ := inHull.Float32s()
		lost, more := 0, 0
		for k := range m {
			if m[k] == 0 && h[k] == 1 {
				lost++
			}
			if m[k] == 1 && h[k] == 0 {
				more++
			}
		}
		if lost > 2 || more == 0 {
			t.Errorf("image %d: the hull of the box loses %d covered cells and adds %d", i, lost, more)
		}
	}
}

type unmasked struct{ bop.Source }

func (u unmasked) Sample(i int) (*bop.Sample, error) {
	s, err := u.Source.Sample(i)
	if err != nil {
		return nil, err
	}
	in := []bop.Instance{bop.NewInstance(s.Instances[0].ObjID, s.Instances[0].R, s.Instances[0].T, nil)}
	return bop.NewSample(s.Name, s.K, in, s.Pixels), nil
}
