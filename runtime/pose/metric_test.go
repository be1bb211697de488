package pose

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func drawPose(t *rapid.T) Pose {
	return randomPose(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "pose"), 1)))
}

func TestQuaternionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		comp := rapid.Float64Range(-1, 1)
		q := [4]float64{comp.Draw(t, "w"), comp.Draw(t, "x"), comp.Draw(t, "y"), comp.Draw(t, "z")}
		n := math.Sqrt(q[0]*q[0] + q[1]*q[1] + q[2]*q[2] + q[3]*q[3])
		if n < 1e-3 {
			t.Skip("near zero")
		}
		r, err := RotationOf(q)
		if err != nil {
			t.Fatal(err)
		}
		got := Quaternion(r)
		var d float64
		for i := range q {
			d += got[i] * q[i] / n
		}
		if math.Abs(math.Abs(d)-1) > 1e-12 || got[0] < 0 {
			t.Fatalf("%v became %v", q, got)
		}
		back, err := RotationOf(got)
		if err != nil {
			t.Fatal(err)
		}
		if e := RotationError(r, back); e > 1e-12 {
			t.Fatalf("rotation off by %v", e)
		}
	})
	if _, err := RotationOf([4]float64{}); err == nil {
		t.Error("zero quaternion accepted")
	}
}

func TestRotationErrorIsTheAngle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPose(t)
		axis := randomPoint(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "axis"), 2)))
		angle := math.Exp(rapid.Float64Range(math.Log(1e-9), math.Log(math.Pi)).Draw(t, "log angle"))
		r := rotateBy(scale(axis, angle/norm(axis)), &p.R)
		if got := RotationError(r, p.R); math.Abs(got-angle) > 1e-12+1e-6*angle {
			t.Fatalf("angle %v measured as %v", angle, got)
		}
	})
}

func TestADIAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "points"), 3))
		pts := make([][3]float64, rapid.IntRange(1, 60).Draw(t, "n"))
		for i := range pts {
			pts[i] = randomPoint(rng)
		}
		s := NewSurface(pts)
		est, truth := drawPose(t), drawPose(t)
		// For each point under the first pose, the nearest under the second.
		brute := func(from, to Pose) float64 {
			var sum float64
			for _, x := range pts {
				best := math.Inf(1)
				for _, y := range pts {
					best = min(best, TranslationError(from.Apply(x), to.Apply(y)))
				}
				sum += best
			}
			return sum / float64(len(pts))
		}
		if a, b := s.ADI(&est, &truth), brute(truth, est); math.Abs(a-b) > 1e-9 {
			t.Fatalf("ADI %v, brute force %v", a, b)
		}
		if a, b := s.ADIPaper(&est, &truth), brute(est, truth); math.Abs(a-b) > 1e-9 {
			t.Fatalf("paper's ADI %v, brute force %v", a, b)
		}
		if a, b := ADD(&est, &truth, pts), s.ADI(&est, &truth); b > a+1e-12 {
			t.Fatalf("ADI %v above ADD %v", b, a)
		}
		shifted := truth
		shifted.T[0] += 3
		if e := ADD(&shifted, &truth, pts); math.Abs(e-3) > 1e-9 {
			t.Fatalf("ADD of a shift by 3 is %v", e)
		}
	})
}

func TestADIIsNotSymmetric(t *testing.T) {
	// Two points near each other and one far off, turned half around: the
	// directions differ.
	pts := [][3]float64{{0, 0, 0}, {0.1, 0, 0}, {5, 0, 0}}
	truth := Pose{R: [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}, T: [3]float64{0, 0, 9}}
	est := truth
	est.T[0] = 4.9
	// True 0, 0.1, 5 against estimates 4.9, 5, 9.9.
	s := NewSurface(pts)
	if got, want := s.ADI(&est, &truth), (4.9+4.8+0.)/3; math.Abs(got-want) > 1e-12 {
		t.Errorf("ADI %v, want %v", got, want)
	}
	if got, want := s.ADIPaper(&est, &truth), (0.1+0+4.9)/3; math.Abs(got-want) > 1e-12 {
		t.Errorf("paper's ADI %v, want %v", got, want)
	}
}

func TestSummary(t *testing.T) {
	pts := [][3]float64{{-1, 0, 0}, {1, 0, 0}, {0, 0.5, 0}}
	obj := Object{ID: 3, Surface: NewSurface(pts), Diameter: 2}
	other := Object{ID: 5, Surface: NewSurface(pts), Diameter: 2, Symmetric: true}
	eye := [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	at := func(x, z float64) Pose { return Pose{R: eye, T: [3]float64{x, 0, z}} }
	var results []Result
	add := func(o Object, shift, z float64) {
		est := at(shift, z)
		results = append(results, o.Measure(&est, at(0, z)))
	}
	add(obj, 0.1, 10) // 0.05 d
	add(obj, 0.3, 20) // 0.15 d
	add(obj, 1.5, 40) // 0.75 d
	add(other, 0, 25) // exact
	add(other, 2, 30) // one diameter: a point falls on another
	results = append(results, obj.Measure(nil, at(0, 39)))
	s, err := Summarize(6, results, nil)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-12 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	if s.Images != 6 || s.Poses != 6 || s.Found != 5 || len(s.Objects) != 2 || len(s.Depths) != 3 {
		t.Fatalf("%+v", s)
	}
	near("ADD-0.1d", s.ADD01, 2./6)
	near("ADD-0.5d", s.ADD05, 3./6)
	near("median", s.MedianADD, (0.15+0.75)/2)
	near("object 3", s.Objects[0].ADD01, 1./4)
	near("object 5", s.Objects[1].ADD01, 1./2)
	near("object 5 found", float64(s.Objects[1].Found), 2)
	near("near poses", float64(s.Depths[0].Poses), 1)
	near("medium poses", float64(s.Depths[1].Poses), 2)
	near("far poses", float64(s.Depths[2].Poses), 3)
	near("range", s.Depths[1].From, 20)
	near("translation", s.Translation, (0.1+0.3+1.5+0+2+39)/6)
	near("rotation", s.Rotation, 180./6)
	if s.ADI05 < s.ADD05 || s.AD01 < s.ADD01 {
		t.Errorf("%+v", s.Score)
	}
	given, err := Summarize(6, results, &[2]float64{0, 30})
	if err != nil {
		t.Fatal(err)
	}
	near("far poses of a given range", float64(given.Depths[2].Poses), 5)
	if _, err := Summarize(2, nil, nil); err == nil {
		t.Error("no results summarized")
	}
}
