package pose

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Options steer Solve; the zero value means the defaults.
type Options struct {
	// Threshold is the reprojection error in pixels up to which a
	// correspondence is an inlier; default 5.
	Threshold float64
	// MinIter and MaxIter bound the number of random samples; defaults 20 and 400.
	// Between them sampling ends when Confidence is reached.
	MinIter, MaxIter int
	// Confidence is the wanted probability that one sample was free of outliers; default 0.999.
	Confidence float64
	// MinInliers is the smallest number of inliers of a pose, at least 4; default 4.
	MinInliers int
	// Scale is the knee of the final refinement's Cauchy loss in pixels (times
	// weight); default 0.4 Threshold.
	Scale float64
	// Seed selects the random samples.
	Seed uint64
}

func (o Options) withDefaults() (Options, error) {
	set := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Threshold, 5)
	set(&o.Confidence, 0.999)
	set(&o.Scale, 0.4*o.Threshold)
	if o.MaxIter == 0 {
		o.MaxIter = 400
	}
	if o.MinIter == 0 {
		o.MinIter = min(20, o.MaxIter)
	}
	if o.MinInliers < minPoints {
		o.MinInliers = minPoints
	}
	ok := o.Threshold > 0 && !math.IsInf(o.Threshold, 0) && o.Scale > 0 && !math.IsInf(o.Scale, 0) &&
		o.Confidence > 0 && o.Confidence < 1 && o.MaxIter > 0 && o.MinIter > 0
	if !ok {
		return o, fmt.Errorf("pose: options %+v are out of range", o)
	}
	return o, nil
}

// nearby times the threshold bounds the errors of the correspondences that the
// final refinement sees: its loss, not the threshold, decides what they are worth.
const nearby = 4

// minPoints is one more than P3P needs, to choose among its solutions.
const minPoints = 4

// Solver holds the buffers of Solve; it is not for use by several goroutines at once.
type Solver struct {
	opt     Options
	obs     []observation
	inlier  []int32
	trial   []int32
	usable  []int32
	center  [3]float64
	spread  float64
	lens    lens
	bestSum float64
	best    Pose
}

// NewSolver checks the options.
func NewSolver(opt Options) (*Solver, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Solver{opt: opt}, nil
}

// Solve is NewSolver followed by Solver.Solve.
func Solve(points3 [][3]float64, points2 [][2]float64, weights []float64, k [9]float64, opt Options) (Pose, []int, error) {
	s, err := NewSolver(opt)
	if err != nil {
		return Pose{}, nil, err
	}
	p, in, err := s.Solve(points3, points2, weights, k)
	if err != nil {
		return Pose{}, nil, err
	}
	out := make([]int, len(in))
	for i, v := range in {
		out[i] = int(v)
	}
	return p, out, nil
}

// Solve finds the pose that explains 2D-3D correspondences: seeded RANSAC over
// P3P samples, scored by the truncated squared reprojection error (MSAC), each
// new best sample refined on its inliers, and at the end Levenberg-Marquardt
// with a Cauchy loss. A model point may occur many times, with different images.
//
// weights, if not nil, are the relative inverse standard deviations of the
// image points, 0 to ignore one; they scale the residuals. k is the camera
// matrix fx s cx 0 fy cy 0 0 1. The inliers are indices in ascending order, valid until
// the next call. Errors wrap ErrTooFew, ErrDegenerate or ErrNoPose; NaN and infinite
// input is refused.
func (s *Solver) Solve(points3 [][3]float64, points2 [][2]float64, weights []float64, k [9]float64) (Pose, []int32, error) {
	if err := s.prepare(points3, points2, weights, k); err != nil {
		return Pose{}, nil, err
	}
	s.sample()
	if math.IsInf(s.bestSum, 1) {
		return Pose{}, nil, fmt.Errorf("pose: %w: no sample of %d correspondences gave one", ErrNoPose, len(s.usable))
	}
	best := s.best
	in := s.within(&best, s.opt.Threshold, s.inlier[:0])
	if len(in) < s.opt.MinInliers {
		return Pose{}, nil, fmt.Errorf("pose: %w: %d of %d correspondences within %g px, %d needed", ErrNoPose, len(in), len(s.usable), s.opt.Threshold, s.opt.MinInliers)
	}
	near := s.within(&best, nearby*s.opt.Threshold, s.trial[:0])
	refine(&best, s.obs, near, s.lens, cauchy{s.opt.Scale * s.opt.Scale}, 50)
	s.inlier = s.within(&best, s.opt.Threshold, s.inlier[:0])
	return s.denormalize(&best), s.inlier, nil
}

// prepare fills s.obs with centred, scaled model points and normalized image points.
func (s *Solver) prepare(points3 [][3]float64, points2 [][2]float64, weights []float64, k [9]float64) error {
	n := len(points3)
	if len(points2) != n || weights != nil && len(weights) != n {
		return fmt.Errorf("pose: %d model points, %d image points, %d weights", n, len(points2), len(weights))
	}
	if err := checkCamera(k); err != nil {
		return err
	}
	s.usable, s.center = s.usable[:0], [3]float64{}
	for i, p := range points3 {
		w := 1.0
		if weights != nil {
			w = weights[i]
		}
		sum := p[0] + p[1] + p[2] + points2[i][0] + points2[i][1] + w
		if math.IsNaN(sum) || math.IsInf(sum, 0) || w < 0 {
			return fmt.Errorf("pose: correspondence %d is %v at %v with weight %v", i, p, points2[i], w)
		}
		if w == 0 {
			continue
		}
		s.usable = append(s.usable, int32(i))
		for a := range 3 {
			s.center[a] += p[a]
		}
	}
	m := len(s.usable)
	if m < minPoints {
		return fmt.Errorf("pose: %w: %d, at least %d are needed", ErrTooFew, m, minPoints)
	}
	s.center = scale(s.center, 1/float64(m))
	var ss float64
	for _, i := range s.usable {
		ss += distance2(points3[i], s.center)
	}
	s.spread = math.Sqrt(ss / float64(m))
	if err := checkSpread(points3, s.usable, s.center, s.spread); err != nil {
		return err
	}
	s.lens = lens{fx: k[0], skew: k[1], fy: k[4]}
	if cap(s.obs) < n {
		s.obs = make([]observation, n)
		s.inlier, s.trial = make([]int32, 0, n), make([]int32, 0, n)
	}
	s.obs = s.obs[:n]
	for i, p := range points3 {
		q := scale(sub(p, s.center), 1/s.spread)
		v := (points2[i][1] - k[5]) / k[4]
		u := (points2[i][0] - k[2] - k[1]*v) / k[0]
		s.obs[i] = observation{q[0], q[1], q[2], u, v, 1}
		if weights != nil {
			s.obs[i].w = weights[i]
		}
	}
	return nil
}

// flat is the sine below which three model points count as one line.
const flat = 1e-6

// checkSpread refuses points that are all equal or all on one line.
func checkSpread(points [][3]float64, idx []int32, center [3]float64, spread float64) error {
	if !(spread > 0) {
		return fmt.Errorf("pose: %w: all are one point", ErrDegenerate)
	}
	var axis [3]float64
	for _, i := range idx {
		if d := sub(points[i], center); norm(d) > norm(axis) {
			axis = d
		}
	}
	n := norm(axis)
	for _, i := range idx {
		if norm(cross(axis, sub(points[i], center))) > flat*n*spread {
			return nil
		}
	}
	return fmt.Errorf("pose: %w: all lie on one line", ErrDegenerate)
}

// denormalize takes the pose of the scaled model points to that of the given ones.
func (s *Solver) denormalize(p *Pose) Pose {
	out := Pose{R: p.R}
	moved := out.Apply(s.center)
	out.T = sub(scale(p.T, s.spread), moved)
	return out
}

// sample runs RANSAC and leaves the best pose in s.best.
func (s *Solver) sample() {
	var pcg rand.PCG
	pcg.Seed(s.opt.Seed, 0x706e70)
	m := uint64(len(s.usable))
	s.bestSum = math.Inf(1)
	needed := float64(s.opt.MaxIter)
	var y, x [3][3]float64
	var poses [4]Pose
	for iter := 0; iter < s.opt.MaxIter && (iter < s.opt.MinIter || float64(iter) < needed); iter++ {
		i, j, k := pcg.Uint64()%m, pcg.Uint64()%m, pcg.Uint64()%m
		if i == j || i == k || j == k {
			continue
		}
		for c, at := range [3]uint64{i, j, k} {
			o := &s.obs[s.usable[at]]
			x[c] = [3]float64{o.x, o.y, o.z}
			f := 1 / math.Sqrt(o.u*o.u+o.v*o.v+1)
			y[c] = [3]float64{o.u * f, o.v * f, f}
		}
		e, f := sub(x[1], x[0]), sub(x[2], x[0])
		if norm(cross(e, f)) <= 1e-3*max(dot(e, e), dot(f, f)) {
			continue
		}
		improved := false
		for c := range p3p(&y, &x, &poses) {
			if sum := s.score(&poses[c], s.bestSum); sum < s.bestSum {
				s.bestSum, s.best, improved = sum, poses[c], true
			}
		}
		if !improved {
			continue
		}
		s.polish()
		in := len(s.within(&s.best, s.opt.Threshold, s.trial[:0]))
		ratio := float64(in) / float64(m)
		needed = math.Log(1-s.opt.Confidence) / math.Log1p(-min(ratio*ratio*ratio, 1-1e-12))
	}
}

// polish refines the best pose on its inliers and keeps the result if it scores better.
func (s *Solver) polish() {
	s.trial = s.within(&s.best, s.opt.Threshold, s.trial[:0])
	if len(s.trial) < minPoints {
		return
	}
	p := s.best
	refine(&p, s.obs, s.trial, s.lens, cauchy{s.opt.Threshold * s.opt.Threshold}, 5)
	if sum := s.score(&p, s.bestSum); sum < s.bestSum {
		s.bestSum, s.best = sum, p
	}
}

// score is the sum of squared reprojection errors, each at most the squared
// threshold, times squared weights; it gives up above limit.
func (s *Solver) score(p *Pose, limit float64) float64 {
	r, t, l := &p.R, &p.T, s.lens
	cap2 := s.opt.Threshold * s.opt.Threshold
	var sum float64
	for _, i := range s.usable {
		o := &s.obs[i]
		z := r[6]*o.x + r[7]*o.y + r[8]*o.z + t[2]
		e := cap2
		if z > 0 {
			inv := 1 / z
			dx := (r[0]*o.x+r[1]*o.y+r[2]*o.z+t[0])*inv - o.u
			dy := (r[3]*o.x+r[4]*o.y+r[5]*o.z+t[1])*inv - o.v
			ex, ey := l.fx*dx+l.skew*dy, l.fy*dy
			e = min(ex*ex+ey*ey, cap2)
		}
		if sum += o.w * o.w * e; sum >= limit {
			return math.Inf(1)
		}
	}
	return sum
}

// within appends the usable correspondences with a reprojection error of at most px pixels to out.
func (s *Solver) within(p *Pose, px float64, out []int32) []int32 {
	r, t, l := &p.R, &p.T, s.lens
	cap2 := px * px
	for _, i := range s.usable {
		o := &s.obs[i]
		z := r[6]*o.x + r[7]*o.y + r[8]*o.z + t[2]
		if !(z > 0) {
			continue
		}
		inv := 1 / z
		dx := (r[0]*o.x+r[1]*o.y+r[2]*o.z+t[0])*inv - o.u
		dy := (r[3]*o.x+r[4]*o.y+r[5]*o.z+t[1])*inv - o.v
		if ex, ey := l.fx*dx+l.skew*dy, l.fy*dy; ex*ex+ey*ey <= cap2 {
			out = append(out, i)
		}
	}
	return out
}
