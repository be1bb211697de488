package cubesat

import (
	"bytes"
	"math"
	"path/filepath"
	"testing"

	"mqatc/runtime/data/bop"
)

func TestWrittenSetReadsBack(t *testing.T) {
	cfg := Config{Seed: 21, Size: 64, EvenBins: true}
	const n = 7
	dir := filepath.Join(t.TempDir(), "set")
	if err := Write(dir, cfg, n, 2, nil); err != nil {
		t.Fatal(err)
	}
	disk, err := bop.Open(dir, bop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := Generate(cfg, n, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	mem := set.Source()
	if disk.Len() != n || mem.Len() != n {
		t.Fatalf("%d on disk, %d in memory", disk.Len(), mem.Len())
	}
	for i := range n {
		a, err := disk.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		b, err := mem.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if a.K != b.K || len(a.Instances) != 1 || a.Instances[0].R != b.Instances[0].R || a.Instances[0].T != b.Instances[0].T || a.Instances[0].ObjID != ObjectID {
			t.Fatalf("image %d: %+v and %+v", i, a, b)
		}
		pa, err := a.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		pb, err := b.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		if pa.W != 64 || pa.H != 64 || !bytes.Equal(pa.RGB, pb.RGB) {
			t.Fatalf("image %d differs", i)
		}
		ma, err := a.Instances[0].Mask()
		if err != nil {
			t.Fatal(err)
		}
		mb, err := b.Instances[0].Mask()
		if err != nil {
			t.Fatal(err)
		}
		box := a.Instances[0].BoxVisible
		for y := range 64 {
			for x := range 64 {
				on := ma.On(x, y)
				inBox := float64(x) >= box[0] && float64(y) >= box[1] && float64(x) < box[0]+box[2] && float64(y) < box[1]+box[3]
				if on != mb.On(x, y) || on && !inBox {
					t.Fatalf("image %d: mask differs at (%d, %d)", i, x, y)
				}
			}
		}
		if v := a.Instances[0].Visible; v < 0.8 || v > 1 {
			t.Errorf("image %d: visible fraction %v", i, v)
		}
	}
	da, db := disk.Models(), mem.Models()
	if len(da) != 1 || len(db) != 1 || da[0].ID != ObjectID || math.Abs(da[0].Diameter-db[0].Diameter) > 1e-12 || da[0].Corners() != Corners() || db[0].Corners() != Corners() {
		t.Fatalf("models %+v and %+v", da, db)
	}
	va, err := da[0].Mesh()
	if err != nil {
		t.Fatal(err)
	}
	vb, err := db[0].Mesh()
	if err != nil {
		t.Fatal(err)
	}
	if len(va.Vertices) != len(vb.Vertices) || len(va.Triangles) != len(vb.Triangles) {
		t.Fatalf("%d and %d vertices", len(va.Vertices), len(vb.Vertices))
	}
	for i, v := range va.Vertices {
		for k := range 3 {
			if math.Abs(v[k]-vb.Vertices[i][k]) > 1e-5 {
				t.Fatalf("vertex %d: %v and %v", i, v, vb.Vertices[i])
			}
		}
	}
}
