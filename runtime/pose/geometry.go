// Package pose estimates rigid poses from 2D-3D correspondences and measures
// their errors.
//
// Poses map model to camera coordinates (x right, y down, z forward); matrices
// are row-major. Lengths are in any one unit unless said; image coordinates are pixels.
package pose

import (
	"errors"
	"fmt"
	"math"
)

// Pose is a rigid motion p -> R p + T.
type Pose struct {
	R [9]float64
	T [3]float64
}

// Apply moves a point into the camera frame.
func (p *Pose) Apply(x [3]float64) [3]float64 {
	r := &p.R
	return [3]float64{
		r[0]*x[0] + r[1]*x[1] + r[2]*x[2] + p.T[0],
		r[3]*x[0] + r[4]*x[1] + r[5]*x[2] + p.T[1],
		r[6]*x[0] + r[7]*x[1] + r[8]*x[2] + p.T[2],
	}
}

// inverseApply moves a camera point into the model frame.
func (p *Pose) inverseApply(y [3]float64) [3]float64 {
	r := &p.R
	a, b, c := y[0]-p.T[0], y[1]-p.T[1], y[2]-p.T[2]
	return [3]float64{r[0]*a + r[3]*b + r[6]*c, r[1]*a + r[4]*b + r[7]*c, r[2]*a + r[5]*b + r[8]*c}
}

// Project is the image of a model point under camera matrix k, and its depth;
// where the depth is not positive, u and v mean nothing.
func (p *Pose) Project(k [9]float64, x [3]float64) (u, v, depth float64) {
	y := p.Apply(x)
	u = (k[0]*y[0]+k[1]*y[1])/y[2] + k[2]
	v = k[4]*y[1]/y[2] + k[5]
	return u, v, y[2]
}

// checkCamera refuses what is not an upper triangular camera matrix.
func checkCamera(k [9]float64) error {
	for _, v := range k {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("pose: camera matrix %v", k)
		}
	}
	if !(k[0] > 0 && k[4] > 0) || k[3] != 0 || k[6] != 0 || k[7] != 0 || k[8] != 1 {
		return fmt.Errorf("pose: camera matrix %v is not fx s cx 0 fy cy 0 0 1", k)
	}
	return nil
}

// RotationOf is the matrix of a quaternion w, x, y, z of any length but zero.
func RotationOf(q [4]float64) ([9]float64, error) {
	n := q[0]*q[0] + q[1]*q[1] + q[2]*q[2] + q[3]*q[3]
	if !(n > 0) || math.IsInf(n, 0) {
		return [9]float64{}, fmt.Errorf("pose: quaternion %v is no rotation", q)
	}
	w, x, y, z, s := q[0], q[1], q[2], q[3], 2/n
	return [9]float64{
		1 - s*(y*y+z*z), s * (x*y - z*w), s * (x*z + y*w),
		s * (x*y + z*w), 1 - s*(x*x+z*z), s * (y*z - x*w),
		s * (x*z - y*w), s * (y*z + x*w), 1 - s*(x*x+y*y),
	}, nil
}

// Quaternion is the unit quaternion w, x, y, z of a rotation matrix, w >= 0
// (Shepperd's choice of the largest component).
func Quaternion(r [9]float64) [4]float64 {
	// Squares of 2w, 2x, 2y, 2z.
	s := [4]float64{
		1 + r[0] + r[4] + r[8], 1 + r[0] - r[4] - r[8],
		1 - r[0] + r[4] - r[8], 1 - r[0] - r[4] + r[8],
	}
	best := 0
	for i, v := range s {
		if v > s[best] {
			best = i
		}
	}
	var q [4]float64
	switch best {
	case 0:
		q = [4]float64{s[0], r[7] - r[5], r[2] - r[6], r[3] - r[1]}
	case 1:
		q = [4]float64{r[7] - r[5], s[1], r[1] + r[3], r[2] + r[6]}
	case 2:
		q = [4]float64{r[2] - r[6], r[1] + r[3], s[2], r[5] + r[7]}
	default:
		q = [4]float64{r[3] - r[1], r[2] + r[6], r[5] + r[7], s[3]}
	}
	n := math.Sqrt(q[0]*q[0] + q[1]*q[1] + q[2]*q[2] + q[3]*q[3])
	if q[0] < 0 {
		n = -n
	}
	for i := range q {
		q[i] /= n
	}
	return q
}

// RotationError is the angle between two rotations in radians, 0 to pi.
func RotationError(a, b [9]float64) float64 {
	// |A - B|^2 = 8 sin^2(angle/2), which unlike the trace is exact for small angles.
	var d, tr float64
	for i := range a {
		d += (a[i] - b[i]) * (a[i] - b[i])
		tr += a[i] * b[i]
	}
	return 2 * math.Atan2(math.Sqrt(d/8), math.Sqrt(max(0, (1+tr)/4)))
}

// TranslationError is the distance between two translations.
func TranslationError(a, b [3]float64) float64 { return math.Sqrt(distance2(a, b)) }

func distance2(a, b [3]float64) float64 {
	x, y, z := a[0]-b[0], a[1]-b[1], a[2]-b[2]
	return x*x + y*y + z*z
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func cross(a, b [3]float64) [3]float64 {
	return [3]float64{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

func sub(a, b [3]float64) [3]float64 { return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }

func scale(a [3]float64, s float64) [3]float64 { return [3]float64{a[0] * s, a[1] * s, a[2] * s} }

func norm(a [3]float64) float64 { return math.Sqrt(dot(a, a)) }

// frame is the orthonormal basis (columns) of a triangle's first edge, the
// direction in its plane, and its normal; false where the triangle is degenerate.
func frame(a, b, c [3]float64) (m [9]float64, ok bool) {
	e1 := sub(b, a)
	e3 := cross(e1, sub(c, a))
	n1, n3 := norm(e1), norm(e3)
	if !(n1 > 0 && n3 > 0) {
		return m, false
	}
	e1, e3 = scale(e1, 1/n1), scale(e3, 1/n3)
	e2 := cross(e3, e1)
	return [9]float64{e1[0], e2[0], e3[0], e1[1], e2[1], e3[1], e1[2], e2[2], e3[2]}, true
}

// mulTransposed is a b'.
func mulTransposed(a, b *[9]float64) (c [9]float64) {
	for i := range 3 {
		for j := range 3 {
			c[3*i+j] = a[3*i]*b[3*j] + a[3*i+1]*b[3*j+1] + a[3*i+2]*b[3*j+2]
		}
	}
	return c
}

// rotateBy is exp([w]x) r, renormalized against drift.
func rotateBy(w [3]float64, r *[9]float64) [9]float64 {
	angle := norm(w)
	half := angle / 2
	s := 0.5
	if angle > 1e-8 {
		s = math.Sin(half) / angle
	}
	q := [4]float64{math.Cos(half), s * w[0], s * w[1], s * w[2]}
	d, err := RotationOf(q)
	if err != nil {
		return *r
	}
	var out [9]float64
	for i := range 3 {
		for j := range 3 {
			out[3*i+j] = d[3*i]*r[j] + d[3*i+1]*r[3+j] + d[3*i+2]*r[6+j]
		}
	}
	return out
}

// Errors that Solve wraps.
var (
	// ErrTooFew means fewer than four correspondences.
	ErrTooFew = errors.New("too few correspondences")
	// ErrDegenerate means that the model points are one point or on one line.
	ErrDegenerate = errors.New("degenerate model points")
	// ErrNoPose means that no pose explains enough correspondences.
	ErrNoPose = errors.New("no pose found")
)
