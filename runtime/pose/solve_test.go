package pose

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

var testK = [9]float64{800, 3, 320, 0, 780, 240, 0, 0, 1}

// scene is n random points of a cube of the given size with their images.
func scene(rng *rand.Rand, n int, size, noise float64) (truth Pose, x [][3]float64, u [][2]float64) {
	truth = randomPose(rng)
	truth.T = scale(truth.T, size)
	for range n {
		p := scale(randomPoint(rng), size)
		a, b, _ := truth.Project(testK, p)
		x = append(x, p)
		u = append(u, [2]float64{a + noise*rng.NormFloat64(), b + noise*rng.NormFloat64()})
	}
	return truth, x, u
}

func TestExactPosesAreRecovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "scene"), 4))
		n := rapid.IntRange(6, 40).Draw(t, "n")
		size := math.Pow(10, rapid.Float64Range(-3, 4).Draw(t, "log size"))
		truth, x, u := scene(rng, n, size, 0)
		p, in, err := Solve(x, u, nil, testK, Options{Seed: rapid.Uint64().Draw(t, "seed")})
		if err != nil {
			t.Fatal(err)
		}
		if e := poseError(p, truth); e > 1e-6 || len(in) != n {
			t.Fatalf("%d points of size %v: error %v, %d inliers", n, size, e, len(in))
		}
	})
}

func TestPlanarPosesAreRecovered(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 200 {
		truth, x, u := scene(rng, 8, 1, 0)
		for j := range x {
			x[j][2] = 0
			a, b, _ := truth.Project(testK, x[j])
			u[j] = [2]float64{a, b}
		}
		p, _, err := Solve(x, u, nil, testK, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if e := poseError(p, truth); e > 1e-6 {
			t.Fatalf("scene %d: error %v", i, e)
		}
	}
}

func TestOutliersDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "scene"), 5))
		n := rapid.IntRange(20, 60).Draw(t, "n")
		bad := rapid.IntRange(0, n*2/5).Draw(t, "outliers")
		truth, x, u := scene(rng, n, 100, 0)
		for i := range bad {
			angle := 2 * math.Pi * rng.Float64()
			far := 60 + 200*rng.Float64()
			u[i][0] += far * math.Cos(angle)
			u[i][1] += far * math.Sin(angle)
		}
		p, in, err := Solve(x, u, nil, testK, Options{Threshold: 3})
		if err != nil {
			t.Fatal(err)
		}
		if e := poseError(p, truth); e > 1e-6 || len(in) != n-bad {
			t.Fatalf("%d of %d outliers: error %v, %d inliers", bad, n, e, len(in))
		}
		for k, i := range in {
			if i < bad || k > 0 && in[k-1] >= i {
				t.Fatalf("inliers %v of %d outliers", in, bad)
			}
		}
	})
}

func TestResultDependsOnSeedAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	s, err := NewSolver(Options{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, x, u := scene(rng, 20, 1, 4)
		a, _, err1 := Solve(x, u, nil, testK, Options{Seed: 5})
		b, _, err2 := s.Solve(x, u, nil, testK)
		if a != b || (err1 == nil) != (err2 == nil) {
			t.Fatalf("%v %v and %v %v", a, err1, b, err2)
		}
	}
}

func TestWeights(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var plain, weighted float64
	for range 200 {
		truth, x, u := scene(rng, 24, 1, 0)
		w := make([]float64, len(u))
		for i := range u {
			w[i] = 1
			sigma := 0.3
			if i%2 == 0 {
				w[i], sigma = 0.1, 3
			}
			u[i][0] += sigma * rng.NormFloat64()
			u[i][1] += sigma * rng.NormFloat64()
		}
		a, _, err := Solve(x, u, nil, testK, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := Solve(x, u, w, testK, Options{})
		if err != nil {
			t.Fatal(err)
		}
		plain += poseError(a, truth)
		weighted += poseError(b, truth)
		// A weight of zero takes a correspondence out.
		u[3] = [2]float64{1e6, -1e6}
		w[3] = 0
		if _, in, err := Solve(x, u, w, testK, Options{}); err != nil || len(in) > 23 {
			t.Fatalf("%v %v", in, err)
		}
	}
	if weighted > 0.75*plain {
		t.Errorf("mean error %v with weights, %v without", weighted/200, plain/200)
	}
}

func TestRefineReachesAStationaryPoint(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 20 {
		truth, x, u := scene(rng, 30, 1, 1)
		p, _, err := Solve(x, u, nil, testK, Options{})
		if err != nil {
			t.Fatal(err)
		}
		cost := func(p Pose) float64 {
			var sum float64
			for i := range x {
				a, b, _ := p.Project(testK, x[i])
				s := (a-u[i][0])*(a-u[i][0]) + (b-u[i][1])*(b-u[i][1])
				sum += 4 * math.Log1p(s/4)
			}
			return sum
		}
		if c, tc := cost(p), cost(truth); c > tc {
			t.Fatalf("cost %v above the truth's %v", c, tc)
		}
		const h = 1e-5
		for k := range 6 {
			move := func(d float64) Pose {
				q := p
				if k < 3 {
					var w [3]float64
					w[k] = d
					q.R = rotateBy(w, &p.R)
				} else {
					q.T[k-3] += d
				}
				return q
			}
			g, curve := (cost(move(h))-cost(move(-h)))/(2*h), (cost(move(h))+cost(move(-h))-2*cost(p))/(h*h)
			if math.Abs(g) > 1e-3*curve*0.01 {
				t.Fatalf("slope %v with curvature %v along %d", g, curve, k)
			}
		}
	}
}

func TestDegenerateInput(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	_, x, u := scene(rng, 12, 1, 0)
	line, point := make([][3]float64, 12), make([][3]float64, 12)
	for i := range line {
		line[i] = [3]float64{0.1 * float64(i), 0.2 * float64(i), 5 - float64(i)}
		point[i] = [3]float64{1, 2, 3}
	}
	noise := make([][2]float64, 12)
	for i := range noise {
		noise[i] = [2]float64{rng.Float64() * 640, rng.Float64() * 480}
	}
	bad := append([][2]float64{}, u...)
	bad[3][1] = math.NaN()
	for name, c := range map[string]struct {
		x    [][3]float64
		u    [][2]float64
		w    []float64
		k    [9]float64
		opt  Options
		want error
	}{
		"few":      {x: x[:3], u: u[:3], k: testK, want: ErrTooFew},
		"none":     {k: testK, want: ErrTooFew},
		"weights":  {x: x, u: u, w: make([]float64, 12), k: testK, want: ErrTooFew},
		"line":     {x: line, u: u, k: testK, want: ErrDegenerate},
		"point":    {x: point, u: u, k: testK, want: ErrDegenerate},
		"noise":    {x: x, u: noise, k: testK, opt: Options{MinInliers: 10, Threshold: 0.5}, want: ErrNoPose},
		"nan":      {x: x, u: bad, k: testK},
		"lengths":  {x: x, u: u[:5], k: testK},
		"negative": {x: x, u: u, w: []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1}, k: testK},
		"camera":   {x: x, u: u},
		"options":  {x: x, u: u, k: testK, opt: Options{Confidence: 2}},
	} {
		if _, _, err := Solve(c.x, c.u, c.w, c.k, c.opt); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any finite input gives a pose or an error.
func TestHostileNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := rapid.OneOf(rapid.Float64Range(-1, 1), rapid.SampledFrom([]float64{0, 1, -1, 1e-300, 1e300, -1e150, 1e-12}), rapid.Float64())
		n := rapid.IntRange(0, 9).Draw(t, "n")
		x, u := make([][3]float64, n), make([][2]float64, n)
		for i := range x {
			x[i] = [3]float64{num.Draw(t, "x"), num.Draw(t, "y"), num.Draw(t, "z")}
			u[i] = [2]float64{num.Draw(t, "u"), num.Draw(t, "v")}
		}
		p, _, err := Solve(x, u, nil, testK, Options{})
		if err != nil {
			return
		}
		for _, v := range append(p.R[:], p.T[:]...) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("pose %v", p)
			}
		}
	})
}

// cellScene is what a WDR decoder hands over: several guesses of the 8 corners
// of a box in a 96x96 image, some cells far off.
func cellScene(rng *rand.Rand, cells, bad int, noise float64) (k [9]float64, truth Pose, x [][3]float64, u [][2]float64) {
	k = [9]float64{96, 0, 48, 0, 96, 48, 0, 0, 1}
	truth = randomPose(rng)
	truth.T = [3]float64{20 * rng.NormFloat64(), 20 * rng.NormFloat64(), 300 + 200*rng.Float64()}
	for c := range cells {
		sigma := noise
		if c < bad {
			sigma = 8
		}
		for j := range 8 {
			p := [3]float64{-50 + 145*float64(j>>2&1), -62 + 112*float64(j>>1&1), -50 + 135*float64(j&1)}
			a, b, _ := truth.Project(k, p)
			x = append(x, p)
			u = append(u, [2]float64{a + sigma*rng.NormFloat64(), b + sigma*rng.NormFloat64()})
		}
	}
	return k, truth, x, u
}

func TestCellVotes(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	var errs float64
	const n = 200
	for range n {
		k, truth, x, u := cellScene(rng, 10, 2, 1)
		p, _, err := Solve(x, u, nil, k, Options{Threshold: 2})
		if err != nil {
			t.Fatal(err)
		}
		errs += poseError(p, truth) / n
	}
	if errs > 0.03 {
		t.Errorf("mean error %v", errs)
	}
}

func BenchmarkSolve(b *testing.B) {
	for _, c := range []struct {
		bad   int
		noise float64
	}{{0, 0.5}, {2, 1}, {4, 1.5}} {
		b.Run(fmt.Sprintf("cells=10,bad=%d,noise=%g", c.bad, c.noise), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(13, 13))
			type problem struct {
				x [][3]float64
				u [][2]float64
			}
			var ps []problem
			var k [9]float64
			for range 64 {
				kk, _, x, u := cellScene(rng, 10, c.bad, c.noise)
				k = kk
				ps = append(ps, problem{x, u})
			}
			s, err := NewSolver(Options{Threshold: 2})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, _, err := s.Solve(ps[i&63].x, ps[i&63].u, nil, k); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
