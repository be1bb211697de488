package pose

import (
	"math"
	"math/rand/v2"
	"testing"
)

// randomPose puts points of a unit cube about 2 to 10 units before the camera.
func randomPose(rng *rand.Rand) Pose {
	r, err := RotationOf([4]float64{rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()})
	if err != nil {
		panic(err)
	}
	z := 2 + 8*rng.Float64()
	return Pose{R: r, T: [3]float64{(rng.Float64() - 0.5) * z * 0.6, (rng.Float64() - 0.5) * z * 0.6, z}}
}

func randomPoint(rng *rand.Rand) [3]float64 {
	return [3]float64{rng.Float64() - 0.5, rng.Float64() - 0.5, rng.Float64() - 0.5}
}

func poseError(a, b Pose) float64 {
	return max(RotationError(a.R, b.R), TranslationError(a.T, b.T)/norm(b.T))
}

func TestP3PFindsTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 20000
	missed, counts := 0, [5]int{}
	for range n {
		truth := randomPose(rng)
		var x, y [3][3]float64
		for i := range 3 {
			x[i] = randomPoint(rng)
			p := truth.Apply(x[i])
			y[i] = scale(p, 1/norm(p))
		}
		var out [4]Pose
		k := p3p(&y, &x, &out)
		counts[k]++
		best := math.Inf(1)
		for _, p := range out[:k] {
			best = min(best, poseError(p, truth))
			for i := range 3 {
				q := p.Apply(x[i])
				if e := norm(sub(scale(q, 1/norm(q)), y[i])); e > 1e-6 {
					t.Fatalf("solution off its own bearing by %v", e)
				}
			}
		}
		if best > 1e-6 {
			missed++
		}
	}
	t.Logf("solutions per problem %v, missed %d of %d", counts, missed, n)
	if missed > n/1000 {
		t.Errorf("missed %d of %d", missed, n)
	}
}

func BenchmarkP3P(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	truth := randomPose(rng)
	var x, y [3][3]float64
	for i := range 3 {
		x[i] = randomPoint(rng)
		p := truth.Apply(x[i])
		y[i] = scale(p, 1/norm(p))
	}
	var out [4]Pose
	b.ReportAllocs()
	for b.Loop() {
		p3p(&y, &x, &out)
	}
}
