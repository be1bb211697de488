package allocate

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
)

func random(r *rand.Rand, items, widths, limits int) *Problem {
	p := &Problem{}
	total := make([]int64, limits)
	for i := 0; i < items; i++ {
		n := int64(1 + r.IntN(5000))
		it := Item{Name: string(rune('a' + i%26))}
		sens := math.Exp(r.NormFloat64() * 2)
		for k := 0; k < widths; k++ {
			bits := 2 << k
			c := Choice{Bits: bits, Cost: sens / float64(int(1)<<(2*bits)) * (0.5 + r.Float64()), Use: []int64{n * int64(bits)}}
			if limits > 1 {
				c.Use = append(c.Use, int64(r.IntN(1000)))
			}
			for l := range total {
				total[l] += c.Use[l]
			}
			it.Choices = append(it.Choices, c)
		}
		p.Items = append(p.Items, it)
	}
	for l := range total {
		p.Limits = append(p.Limits, Limit{"bytes", int64(float64(total[l]) / float64(widths) * (0.2 + 1.2*r.Float64()))})
	}
	return p
}

func brute(p *Problem) (float64, bool) {
	best, found := math.Inf(1), false
	var walk func(i int, cost float64, use []int64)
	walk = func(i int, cost float64, use []int64) {
		for l := range use {
			if use[l] > p.Limits[l].Max {
				return
			}
		}
		if i == len(p.Items) {
			found = true
			best = min(best, cost)
			return
		}
		for _, c := range p.Items[i].Choices {
			u := append([]int64{}, use...)
			for l := range u {
				u[l] += c.Use[l]
			}
			walk(i+1, cost+c.Cost, u)
		}
	}
	walk(0, 0, make([]int64, len(p.Limits)))
	return best, found
}

func TestEqualsBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	infeasible := 0
	for n := 0; n < 1000; n++ {
		p := random(r, 1+r.IntN(6), 1+r.IntN(4), 1+n%2)
		want, ok := brute(p)
		got, err := Solve(p)
		if !ok {
			infeasible++
			var inf *InfeasibleError
			if !errors.As(err, &inf) {
				t.Fatalf("instance %d: infeasible, got %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("instance %d: %v", n, err)
		}
		if math.Abs(got.Cost-want) > 1e-12*(1+want) {
			t.Fatalf("instance %d: cost %g, brute force %g", n, got.Cost, want)
		}
		for l := range got.Use {
			u := int64(0)
			for i, k := range got.Pick {
				u += p.Items[i].Choices[k].Use[l]
			}
			if u != got.Use[l] || u > p.Limits[l].Max {
				t.Fatalf("instance %d: use %d, counted %d, limit %d", n, got.Use[l], u, p.Limits[l].Max)
			}
		}
	}
	if infeasible == 0 || infeasible > 900 {
		t.Fatalf("%d of 1000 instances infeasible: the generator is off", infeasible)
	}
}

func TestInfeasibleNamesSmallest(t *testing.T) {
	p := &Problem{Items: []Item{{"m", []Choice{{2, 1, []int64{10}}, {4, 0, []int64{20}}}}}, Limits: []Limit{{"bytes", 9}}}
	var inf *InfeasibleError
	if _, err := Solve(p); !errors.As(err, &inf) || inf.Smallest != 10 {
		t.Fatalf("got %v", inf)
	}
}

// TestRelaxation holds the bound against gonum's simplex method.
func TestRelaxation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := 0; n < 50; n++ {
		p := random(r, 2+r.IntN(4), 3, 1)
		p.Limits[0].Max = max(p.Limits[0].Max, p.Smallest(0))
		k, w := len(p.Items), 3
		c := make([]float64, k*w+1)
		a := mat.NewDense(k+1, k*w+1, nil)
		b := make([]float64, k+1)
		for i, it := range p.Items {
			b[i] = 1
			for j, ch := range it.Choices {
				c[i*w+j] = ch.Cost
				a.Set(i, i*w+j, 1)
				a.Set(k, i*w+j, float64(ch.Use[0])/1e4)
			}
		}
		a.Set(k, k*w, 1)
		b[k] = float64(p.Limits[0].Max) / 1e4
		want, _, err := lp.Simplex(c, a, b, 1e-12, nil)
		if err != nil {
			t.Fatalf("instance %d: %v", n, err)
		}
		got, ok := relax(p, identity(k), 0).bound(0, p.Limits[0].Max)
		if !ok || math.Abs(got-want) > 1e-7*(1+want) {
			t.Fatalf("instance %d: bound %g, simplex %g", n, got, want)
		}
	}
}

func TestManyLayers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	slowest := time.Duration(0)
	for n := 0; n < 20; n++ {
		p := random(r, 400, 3, 1)
		p.Limits[0].Max = max(p.Limits[0].Max, p.Smallest(0))
		start := time.Now()
		s, err := Solve(p)
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
		lower, _ := relax(p, identity(400), 0).bound(0, p.Limits[0].Max)
		if s.Cost < lower*(1-1e-9) {
			t.Fatalf("cost %g below the relaxation %g", s.Cost, lower)
		}
	}
	t.Logf("slowest of 20 instances of 400 layers x 3 widths: %v", slowest)
}

func TestFrontier(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for n := 0; n < 50; n++ {
		p := random(r, 3, 3, 1)
		pts, err := Frontier(p, 100)
		if err != nil {
			t.Fatal(err)
		}
		if pts[len(pts)-1].Use != p.Smallest(0) {
			t.Fatalf("frontier ends at %d, smallest is %d", pts[len(pts)-1].Use, p.Smallest(0))
		}
		for i, pt := range pts {
			p.Limits[0].Max = pt.Use
			want, _ := brute(p)
			if math.Abs(want-pt.Cost) > 1e-12*(1+want) {
				t.Fatalf("point %d: cost %g, brute force %g", i, pt.Cost, want)
			}
			if i > 0 && (pt.Use >= pts[i-1].Use || pt.Cost < pts[i-1].Cost) {
				t.Fatalf("frontier is not monotone at %d", i)
			}
		}
	}
}

func BenchmarkSolve400x3(b *testing.B) {
	p := random(rand.New(rand.NewPCG(9, 10)), 400, 3, 1)
	p.Limits[0].Max = max(p.Limits[0].Max, p.Smallest(0))
	for b.Loop() {
		if _, err := Solve(p); err != nil {
			b.Fatal(err)
		}
	}
}
