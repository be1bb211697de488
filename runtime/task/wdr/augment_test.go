package wdr_test

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/task/augment"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
)

// dots are images of four landmarks on an object, as bright dots, and of its mask, in blue.
type dots struct{ n int }

const (
	dotsW, dotsH = 160, 120
	ground       = 40
)

var (
	landmarks = [][3]float64{{-50, -40, 0}, {55, -35, 20}, {45, 40, -20}, {-40, 45, 30}}
	dotsK     = [9]float64{210, 0, 71, 0, 180, 66, 0, 0, 1}
)

func (d dots) Len() int { return d.n }

func (d dots) Models() []*bop.Model {
	return []*bop.Model{{ID: 1, Diameter: 130, Min: [3]float64{-60, -60, -60}, Size: [3]float64{120, 120, 120}}}
}

func (d dots) Sample(i int) (*bop.Sample, error) {
	sin, cos := math.Sincos(0.3 * float64(i))
	r := [9]float64{cos, -sin, 0, sin, cos, 0, 0, 0, 1}
	at := [3]float64{5, -4, 250 + 20*float64(i)}
	var seen [][2]float64
	for _, p := range landmarks {
		x := [3]float64{r[0]*p[0] + r[1]*p[1] + at[0], r[3]*p[0] + r[4]*p[1] + at[1], p[2] + at[2]}
		seen = append(seen, [2]float64{dotsK[0]*x[0]/x[2] + dotsK[2], dotsK[4]*x[1]/x[2] + dotsK[5]})
	}
	inside := func(x, y int) bool { return x >= 45 && x < 100 && y >= 30 && y < 95 }
	pixels := func() (*bop.Pixels, error) {
		rgb := make([]uint8, 3*dotsW*dotsH)
		for y := range dotsH {
			for x := range dotsW {
				v := float64(ground)
				for _, u := range seen {
					dx, dy := float64(x)+0.5-u[0], float64(y)+0.5-u[1]
					v += 200 * math.Exp(-(dx*dx+dy*dy)/(2*1.5*1.5))
				}
				p := rgb[3*(y*dotsW+x):]
				p[0], p[1] = uint8(min(v, 255)+0.5), uint8(i)
				if inside(x, y) {
					p[2] = 255
				}
			}
		}
		return &bop.Pixels{W: dotsW, H: dotsH, RGB: rgb}, nil
	}
	mask := func() (*bop.Mask, error) { return &bop.Mask{W: dotsW, H: dotsH, On: inside}, nil }
	return bop.NewSample(string(rune('a'+i)), dotsK, []bop.Instance{bop.NewInstance(1, r, at, mask)}, pixels), nil
}

func dotData(t *testing.T, spec *augment.Spec) *wdr.Data {
	t.Helper()
	in := &prep.Input{Spec: prep.Default(), Name: "image", Channels: 3}
	in.Width, in.Height = dotsW, dotsH
	var outs []*ir.Value
	g := ir.NewGraph("net")
	for _, o := range []struct {
		name string
		ch   int64
	}{{"reg", 8}, {"cls", 1}} {
		v, err := g.AddInput(o.name, ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(o.ch), ir.D(30), ir.D(40)}))
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, v)
	}
	layout, err := wdr.FindLayout(outs, dotsW, dotsH)
	if err != nil {
		t.Fatal(err)
	}
	config, err := wdr.Config{Keypoints: map[int][][3]float64{1: landmarks}}.WithDefaults(dotsW)
	if err != nil {
		t.Fatal(err)
	}
	d, err := wdr.NewData(in, layout, config, dots{5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Augment = spec
	return d
}

// TestAugmentedPosesAreTrue projects the landmarks of changed samples by their cameras and looks for the dots in the changed images.
func TestAugmentedPosesAreTrue(t *testing.T) {
	spec, err := augment.Parse("rotate=60,scale=0.3", true)
	if err != nil {
		t.Fatal(err)
	}
	d := dotData(t, spec)
	floats := func(f train.Feeds, name string) []float32 {
		v, err := f[name].Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	checked, covered := 0, 0
	for i := range 60 {
		f, err := d.Sample(i%d.Len(), rand.New(rand.NewPCG(1, uint64(i))))
		if err != nil {
			t.Fatal(err)
		}
		image, neg := floats(f, "image"), floats(f, "wdr_negative")
		xy, z, inv, center := floats(f, "wdr_xy"), floats(f, "wdr_z"), floats(f, "wdr_focal"), floats(f, "wdr_center")
		L, K := d.Layout.Cells, d.Layout.Keypoints
		cell := -1
		for c := range L {
			// A cell's centre is the corner of four pixels.
			corner := 2*dotsW*dotsH + (4*(c/40)+2)*dotsW + 4*(c%40) + 2
			least, most := float32(1), float32(0)
			for _, at := range []int{corner, corner - 1, corner - dotsW, corner - dotsW - 1} {
				least, most = min(least, image[at]), max(most, image[at])
			}
			if neg[c] == 0 && most == 0 || neg[c] != 0 && least == 1 {
				t.Errorf("sample %d, cell %d: covered %v where the mask's colour is %v to %v", i, c, neg[c] == 0, least, most)
			}
			if neg[c] == 0 {
				cell = c
				covered++
			}
		}
		if cell < 0 {
			t.Fatalf("sample %d: no cell is covered", i)
		}
		var points [][3]float64
		for k := range K {
			p := [3]float64{float64(xy[k*L+cell]), float64(xy[(K+k)*L+cell]), float64(z[k*L+cell])}
			points = append(points, p)
			u := (p[0]/p[2] - float64(center[0])) / float64(inv[0])
			v := (p[1]/p[2] - float64(center[1])) / float64(inv[1])
			if u < 9 || v < 9 || u > dotsW-9 || v > dotsH-9 {
				continue
			}
			x, y := centroid(image, u, v)
			if math.Hypot(x-u, y-v) > 0.12 {
				t.Errorf("sample %d: landmark %d is projected to (%.2f, %.2f), the image shows it at (%.2f, %.2f)", i, k, u, v, x, y)
			}
			checked++
		}
		for a := range points {
			for b := range a {
				got := math.Sqrt(square(points[a], points[b])) * 130
				if want := math.Sqrt(square(landmarks[a], landmarks[b])); math.Abs(got-want) > 1e-3 {
					t.Errorf("sample %d: landmarks %d and %d are %.4f apart, not %.4f", i, a, b, got, want)
				}
			}
		}
	}
	if checked < 150 || covered < 1000 {
		t.Errorf("only %d landmarks and %d cells were looked at", checked, covered)
	}
}

func square(a, b [3]float64) float64 {
	s := 0.0
	for i := range a {
		s += (a[i] - b[i]) * (a[i] - b[i])
	}
	return s
}

// centroid is the middle of the dot near (u, v).
func centroid(image []float32, u, v float64) (x, y float64) {
	sum := 0.0
	for py := int(v) - 7; py <= int(v)+7; py++ {
		for px := int(u) - 7; px <= int(u)+7; px++ {
			w := max(0, float64(image[py*dotsW+px])*255-ground-1)
			x, y, sum = x+w*(float64(px)+0.5), y+w*(float64(py)+0.5), sum+w
		}
	}
	return x / sum, y / sum
}

func TestAugmentationDoesNotDependOnWorkers(t *testing.T) {
	spec, err := augment.Parse("full", true)
	if err != nil {
		t.Fatal(err)
	}
	batches := func(workers, from int) [][]byte {
		l, err := train.NewLoader(dotData(t, spec), train.LoaderOptions{Batch: 3, Seed: 4, Workers: workers}, from)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var out [][]byte
		for range 6 {
			b, err := l.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, append(bytes.Clone(b[0]["image"].Raw()), b[0]["wdr_xy"].Raw()...))
		}
		return out
	}
	want := batches(1, 0)
	for _, workers := range []int{2, 4} {
		for i, b := range batches(workers, 0) {
			if !bytes.Equal(b, want[i]) {
				t.Errorf("%d workers make another batch %d than one", workers, i)
			}
		}
	}
	if !bytes.Equal(batches(3, 2)[0], want[2]) {
		t.Error("a run that goes on at step 2 sees another batch")
	}
	for i := range want[1:] {
		if bytes.Equal(want[i], want[i+1]) {
			t.Error("two steps see the same batch")
		}
	}
	d := dotData(t, spec)
	a, err := d.Sample(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := dotData(t, nil).Sample(0, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a["image"].Raw(), b["image"].Raw()) || !bytes.Equal(a["wdr_weight"].Raw(), b["wdr_weight"].Raw()) {
		t.Error("an image that is not drawn for training is changed")
	}
}
