package cubesat

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestModel(t *testing.T) {
	if d := Diameter(); math.Abs(d-192.63) > 0.005 {
		t.Errorf("diameter %v, want 192.63", d)
	}
	m := Model()
	var volume, far float64
	for _, tri := range m.Triangles {
		a, b, c := m.Vertices[tri[0]], m.Vertices[tri[1]], m.Vertices[tri[2]]
		volume += dot(a, cross(b, c)) / 6
		e := [3]float64{b[0] - a[0], b[1] - a[1], b[2] - a[2]}
		f := [3]float64{c[0] - a[0], c[1] - a[1], c[2] - a[2]}
		if dot(cross(e, f), m.Normals[tri[0]]) <= 0 {
			t.Fatalf("triangle %v is not counter-clockwise from outside", tri)
		}
	}
	if want := 1e6 + 45.*90*6 + 8*8*35 + 30*12*30; math.Abs(volume-want) > 1e-6*want {
		t.Errorf("mesh encloses %v mm3, the boxes %v", volume, want)
	}
	lo, hi := Bounds()
	for _, a := range m.Vertices {
		for k := range 3 {
			if a[k] < lo[k] || a[k] > hi[k] {
				t.Fatalf("vertex %v outside the bounds", a)
			}
		}
		for _, b := range m.Vertices {
			far = max(far, math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2]))
		}
	}
	if math.Abs(far-Diameter()) > 1e-9 {
		t.Errorf("mesh diameter %v, want %v", far, Diameter())
	}
	if c := Corners(); c[0] != lo || c[7] != hi || c[4] != [3]float64{hi[0], lo[1], lo[2]} || c[1] != [3]float64{lo[0], lo[1], hi[2]} {
		t.Errorf("corner order %v", c)
	}
}

func TestModelPointsLieOnFacesByArea(t *testing.T) {
	const n = 40000
	pts := ModelPoints(n, 5)
	var total, body float64
	for _, f := range faces() {
		du, dv := f.size()
		total += du * dv
		if f.texture < 6 {
			body += du * dv
		}
	}
	body += 90*6 + 8*8 + 30*30 // the other parts' sides that touch the body
	var onBody int
	for _, p := range pts {
		best, at := math.Inf(1), 0
		for bi, b := range boxes {
			d := math.Inf(1)
			for k := range 3 {
				d = min(d, math.Abs(p[k]-b.lo[k]), math.Abs(p[k]-b.hi[k]))
				if p[k] < b.lo[k]-1e-9 || p[k] > b.hi[k]+1e-9 {
					d = math.Inf(1)
					break
				}
			}
			if d < best {
				best, at = d, bi
			}
		}
		if best > 1e-9 {
			t.Fatalf("point %v lies on no face", p)
		}
		if at == 0 {
			onBody++
		}
	}
	if got, want := float64(onBody)/n, body/total; math.Abs(got-want) > 0.01 {
		t.Errorf("%.3f of the points on the body, %.3f of the area", got, want)
	}
}

// castRay is the oracle: the nearest box along the ray through a point of the
// image, by the slab method, and the texel it shows.
func castRay(cam *camera, x, y float64) (inv float64, texel int32, margin float64) {
	s := float64(cam.size)
	d := [3]float64{(x - s/2) / s, (y - s/2) / s, 1}
	var o, q [3]float64
	for k := range 3 {
		for j := range 3 {
			o[k] -= cam.r[3*j+k] * cam.t[j]
			q[k] += cam.r[3*j+k] * d[j]
		}
	}
	texel, margin = -1, math.Inf(1)
	best := math.Inf(1)
	for bi, b := range boxes {
		enter, leave, side := math.Inf(-1), math.Inf(1), 0
		for k := range 3 {
			ta, tb := (b.lo[k]-o[k])/q[k], (b.hi[k]-o[k])/q[k]
			sa := 2 * k
			if ta > tb {
				ta, tb, sa = tb, ta, sa+1
			}
			if ta > enter {
				enter, side = ta, sa
			}
			leave = min(leave, tb)
		}
		margin = min(margin, math.Abs(leave-enter))
		if enter < leave {
			margin = min(margin, math.Abs(enter-best))
		}
		if enter < leave && enter < best {
			best = enter
			ax := side / 2
			var uv [2]int
			for j := range 2 {
				a := (ax + 1 + j) % 3
				f := (o[a] + enter*q[a] - b.lo[a]) / (b.hi[a] - b.lo[a]) * textureSize
				uv[j] = min(max(int(f), 0), textureSize-1)
				margin = min(margin, math.Abs(f-math.Round(f)))
			}
			texel = int32((6*bi+side)*textureSize*textureSize + uv[0]*textureSize + uv[1])
		}
	}
	return 1 / best, texel, margin
}

func TestRasterizerAgreesWithRayCasting(t *testing.T) {
	var seen, compared int
	for i := range 60 {
		s, err := Render(Config{Seed: 11, EvenBins: true}, i)
		if err != nil {
			t.Fatal(err)
		}
		cam := camera{r: s.R, t: s.T, size: s.Size}
		var z rasterizer
		z.draw(&cam)
		for row := range len(z.samples) / z.width {
			for col := range z.width {
				x := float64(z.area.x0) + (float64(col)+0.5)/supersampling
				y := float64(z.area.y0) + (float64(row)+0.5)/supersampling
				inv, texel, margin := castRay(&cam, x, y)
				if margin < 1e-6 {
					continue
				}
				compared++
				got := z.samples[row*z.width+col]
				if got.texel != texel {
					t.Fatalf("image %d sample (%v, %v): texel %d, ray casting %d", i, x, y, got.texel, texel)
				}
				if texel >= 0 {
					seen++
					if math.Abs(float64(got.invDepth)/inv-1) > 1e-5 {
						t.Fatalf("image %d sample (%v, %v): inverse depth %v, ray casting %v", i, x, y, got.invDepth, inv)
					}
				}
			}
		}
	}
	if seen < 100000 || compared <= seen {
		t.Fatalf("only %d of %d samples on the object", seen, compared)
	}
}

func TestImagesDependOnSeedAndIndexAlone(t *testing.T) {
	cfg := Config{Seed: 9, Size: 64}
	one, err := Generate(cfg, 24, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan int, 64)
	many, err := Generate(cfg, 31, 5, func(done, total int) { calls <- done })
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) != 31 {
		t.Errorf("progress called %d times", len(calls))
	}
	for i := range 24 {
		s, err := Render(cfg, i)
		if err != nil {
			t.Fatal(err)
		}
		r, tr := many.Pose(i)
		if !bytes.Equal(one.RGB(i), many.RGB(i)) || !bytes.Equal(s.RGB, many.RGB(i)) || r != s.R || tr != s.T || many.DepthBin(i) != s.DepthBin {
			t.Fatalf("image %d differs between runs", i)
		}
		for k, m := range s.Mask {
			if many.OnObject(i, k%64, k/64) != (m == 255) {
				t.Fatalf("image %d mask differs at %d", i, k)
			}
		}
		if i > 0 && bytes.Equal(one.RGB(i), one.RGB(i-1)) {
			t.Fatalf("images %d and %d are equal", i, i-1)
		}
	}
	other, err := Render(Config{Seed: 10, Size: 64}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.RGB, one.RGB(0)) {
		t.Error("another seed gives the same image")
	}
	if many.OnObject(0, -1, 0) || many.OnObject(0, 0, 64) {
		t.Error("a pixel outside the image is on the object")
	}
}

func TestPosesAndBins(t *testing.T) {
	near, far := DepthRange()
	center, corners := Center(), Corners()
	var drawn [3]int
	const n = 900
	for _, even := range []bool{true, false} {
		set, err := Generate(Config{Seed: 2, Size: 32, EvenBins: even}, n, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		var bins [3]int
		for i := range n {
			r, tr := set.Pose(i)
			cam := camera{r: r, t: tr, size: 32}
			depth := cam.transform(center)[2]
			bin := int((depth - near) / (far - near) * 3)
			if bin != set.DepthBin(i) || even && bin != i%3 {
				t.Fatalf("image %d: depth %v is in bin %d, the set says %d", i, depth, bin, set.DepthBin(i))
			}
			bins[bin]++
			for _, c := range corners {
				x, y, _ := cam.project(c)
				if min(x, y) < -0.04*32 || max(x, y) > 1.04*32 {
					t.Fatalf("image %d: corner at (%v, %v)", i, x, y)
				}
			}
			var off float64
			for a := range 3 {
				for b := range 3 {
					v := r[3*a]*r[3*b] + r[3*a+1]*r[3*b+1] + r[3*a+2]*r[3*b+2]
					if a == b {
						v--
					}
					off = max(off, math.Abs(v))
				}
			}
			if off > 1e-12 {
				t.Fatalf("image %d: rotation off orthonormal by %v", i, off)
			}
		}
		drawn = bins
	}
	for b, k := range drawn {
		if math.Abs(float64(k)-n/3) > 5*math.Sqrt(n*2./9) {
			t.Errorf("bin %d drawn %d times of %d", b, k, n)
		}
	}
}

func TestWriteIsReproducible(t *testing.T) {
	base := t.TempDir()
	read := func(name string, workers int) map[string]string {
		dir := filepath.Join(base, name)
		if err := Write(dir, Config{Seed: 4, Size: 48}, 5, workers, nil); err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			files[rel] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	a, b := read("a", 1), read("b", 3)
	if len(a) != 3+3+2*5 || len(a) != len(b) {
		t.Fatalf("%d and %d files", len(a), len(b))
	}
	for name, data := range a {
		if b[name] != data {
			t.Errorf("%s differs between runs", name)
		}
	}
	if entries, _ := os.ReadDir(base); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	if err := Write(filepath.Join(base, "a"), Config{}, 1, 1, nil); err == nil {
		t.Error("wrote into a folder that is not empty")
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Render(Config{Size: 3}, 0); err == nil {
		t.Error("size 3 accepted")
	}
	if _, err := Render(Config{}, -1); err == nil {
		t.Error("index -1 accepted")
	}
	if _, err := Generate(Config{Size: 4096}, 1<<30, 1, nil); err == nil {
		t.Error("huge set accepted")
	}
	if err := Write(filepath.Join(t.TempDir(), "x"), Config{}, 0, 1, nil); err == nil {
		t.Error("no images accepted")
	}
}

func BenchmarkRender(b *testing.B) {
	if _, err := Generate(Config{Seed: 1}, b.N, 1, nil); err != nil {
		b.Fatal(err)
	}
}
