package wdr_test

import (
	"maps"
	"math"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task/distill"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
)

// TestTeachAgainstFormula compares the graph with the same loss in float64, for a network that is off by some pixels and less sure
// than the float network, and for one that agrees.
func TestTeachAgainstFormula(t *testing.T) {
	orttest.TestLibrary(t)
	d := dataFor(t, 96, 6, 12, 6, 3)
	s := lossSession(t, wdr.Teach, d)
	for i := range 6 {
		f, err := d.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		teacher := perfect(t, d, f, 1)
		targets := train.Feeds{}
		for _, name := range []string{"wdr_z", "wdr_focal", "wdr_weight", "wdr_positive"} {
			targets[name] = f[name]
		}
		for name, x := range teacher {
			targets[name+distill.Teacher] = x
		}
		for _, off := range []float64{1, 0, 4} {
			out := maps.Clone(perfect(t, d, f, off))
			if off != 1 {
				for _, lv := range d.Layout.Levels {
					out[lv.Cls] = halved(t, out[lv.Cls])
				}
			}
			for _, eps := range []float32{5, 50} {
				got, want := lossOf(t, s, out, targets, eps), teachFormula(t, d, f, out, teacher, float64(eps))
				if math.Abs(got-want) > 1e-4*(1+want) || (off == 1) != (want < 1e-9) {
					t.Errorf("image %d, %v px off, eps %v: loss %v, formula %v", i, off, eps, got, want)
				}
			}
		}
	}
}

func halved(t *testing.T, x *ir.Tensor) *ir.Tensor {
	t.Helper()
	f := append([]float32(nil), floats(t, x)...)
	for i := range f {
		f[i] /= 2
	}
	out, err := ir.FromFloat32s(f, x.Dims()...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func floats(t *testing.T, x *ir.Tensor) []float32 {
	t.Helper()
	f, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func teachFormula(t *testing.T, d *wdr.Data, f train.Feeds, out, teacher map[string]*ir.Tensor, eps float64) float64 {
	t.Helper()
	pos, weight, z, inv := floats(t, f["wdr_positive"]), floats(t, f["wdr_weight"]), floats(t, f["wdr_z"]), floats(t, f["wdr_focal"])
	K, L := d.Layout.Keypoints, d.Layout.Cells
	probability := func(x float32) float64 { return min(max(1/(1+math.Exp(-float64(x))), 1e-6), 1-1e-6) }
	var kl, npos, space, wsum float64
	for _, lv := range d.Layout.Levels {
		c, r := floats(t, out[lv.Cls]), floats(t, out[lv.Reg])
		tc, tr := floats(t, teacher[lv.Cls]), floats(t, teacher[lv.Reg])
		n := lv.W * lv.H
		for j := range n {
			i := lv.First + j
			p, q := probability(c[j]), probability(tc[j])
			kl += q*math.Log(q/p) + (1-q)*math.Log((1-q)/(1-p))
			npos += float64(pos[i])
			cell := 0.0
			for k := range K {
				for a := range 2 {
					at := (a*K+k)*n + j
					e := eps * math.Abs(float64(r[at]-tr[at])*d.Config.Anchor(lv)*float64(inv[a])*float64(z[k*L+i]))
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
	return 0.25*kl/max(npos, 1) + 3*space/max(wsum, 1)
}
