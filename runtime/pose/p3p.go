package pose

import "math"

// p3p finds the up to four poses under which three model points x lie on three
// unit bearings y, in front of the camera, and returns their number.
//
// With depths L = (l1, l2, l3) along the bearings, the law of cosines gives
// three conics L' M_ij L = |x_i - x_j|^2. Two combinations of them are
// homogeneous, D1 and D2; their pencil D1 + g D2 holds a pair of lines where
// its determinant, a cubic in g, is zero (Persson and Nordberg, Lambda Twist,
// ECCV 2018, take this route). The lines are split off by the adjugate and cut
// with a conic of the pencil.
func p3p(y, x *[3][3]float64, out *[4]Pose) int {
	a12, a13, a23 := distance2(x[0], x[1]), distance2(x[0], x[2]), distance2(x[1], x[2])
	b12, b13, b23 := dot(y[0], y[1]), dot(y[0], y[2]), dot(y[1], y[2])
	unit := max(a12, a13, a23)
	if !(unit > 0) {
		return 0
	}
	fx, ok := frame(x[0], x[1], x[2])
	if !ok {
		return 0
	}
	a12, a13, a23 = a12/unit, a13/unit, a23/unit
	d1 := sym3{a23, -a23 * b12, 0, a23 - a12, a12 * b23, -a12}
	d2 := sym3{a23, 0, -a23 * b13, -a13, a13 * b23, a23 - a13}
	adj1, adj2 := d1.adjugate(), d2.adjugate()
	c0, c1, c2, c3 := d1.inner(&adj1)/3, d2.inner(&adj1), d1.inner(&adj2), d2.inner(&adj2)/3
	d0 := d2
	if g, ok := cubicRoot(c3, c2, c1, c0); ok {
		for k := range d0 {
			d0[k] = d1[k] + g*d2[k]
		}
	}
	lines, ok := d0.split()
	if !ok {
		return 0
	}
	n := 0
	edge := math.Sqrt(unit)
	for _, line := range lines {
		for _, l := range intersect(line, &d1, &d2) {
			if l[0]+l[1]+l[2] < 0 {
				l = scale(l, -1)
			}
			if !(l[0] > 0 && l[1] > 0 && l[2] > 0) || n == len(out) {
				continue
			}
			if l, ok = polishDepths(l, a12, a13, a23, b12, b13, b23); !ok {
				continue
			}
			p0, p1, p2 := scale(y[0], l[0]*edge), scale(y[1], l[1]*edge), scale(y[2], l[2]*edge)
			fp, ok := frame(p0, p1, p2)
			if !ok {
				continue
			}
			out[n].R = mulTransposed(&fp, &fx)
			out[n].T = [3]float64{}
			out[n].T = sub(p0, out[n].Apply(x[0]))
			n++
		}
	}
	return n
}

// polishDepths scales l to the first conic's size and takes Newton steps on all three.
func polishDepths(l [3]float64, a12, a13, a23, b12, b13, b23 float64) ([3]float64, bool) {
	q12 := l[0]*l[0] + l[1]*l[1] - 2*b12*l[0]*l[1]
	q13 := l[0]*l[0] + l[2]*l[2] - 2*b13*l[0]*l[2]
	q23 := l[1]*l[1] + l[2]*l[2] - 2*b23*l[1]*l[2]
	q := q12 + q13 + q23
	if !(q > 0) {
		return l, false
	}
	l = scale(l, math.Sqrt((a12+a13+a23)/q))
	for range 3 {
		f0 := l[0]*l[0] + l[1]*l[1] - 2*b12*l[0]*l[1] - a12
		f1 := l[0]*l[0] + l[2]*l[2] - 2*b13*l[0]*l[2] - a13
		f2 := l[1]*l[1] + l[2]*l[2] - 2*b23*l[1]*l[2] - a23
		if math.Abs(f0)+math.Abs(f1)+math.Abs(f2) < 1e-15 {
			break
		}
		// Rows (u0 u1 0), (v0 0 v2), (0 w1 w2) of half the Jacobian.
		u0, u1 := l[0]-b12*l[1], l[1]-b12*l[0]
		v0, v2 := l[0]-b13*l[2], l[2]-b13*l[0]
		w1, w2 := l[1]-b23*l[2], l[2]-b23*l[1]
		det := -u0*v2*w1 - u1*v0*w2
		if math.Abs(det) < 1e-14 {
			break
		}
		f0, f1, f2 = f0/(2*det), f1/(2*det), f2/(2*det)
		l[0] -= -v2*w1*f0 - u1*w2*f1 + u1*v2*f2
		l[1] -= -v0*w2*f0 + u0*w2*f1 - u0*v2*f2
		l[2] -= v0*w1*f0 - u0*w1*f1 - u1*v0*f2
	}
	return l, l[0] > 0 && l[1] > 0 && l[2] > 0
}

// sym3 is a symmetric matrix: 00 01 02 11 12 22.
type sym3 [6]float64

func (m *sym3) adjugate() sym3 {
	return sym3{
		m[3]*m[5] - m[4]*m[4], m[2]*m[4] - m[1]*m[5], m[1]*m[4] - m[2]*m[3],
		m[0]*m[5] - m[2]*m[2], m[1]*m[2] - m[0]*m[4], m[0]*m[3] - m[1]*m[1],
	}
}

// inner is the sum of products of all nine entries.
func (m *sym3) inner(o *sym3) float64 {
	return m[0]*o[0] + m[3]*o[3] + m[5]*o[5] + 2*(m[1]*o[1]+m[2]*o[2]+m[4]*o[4])
}

func (m *sym3) form(u, v [3]float64) float64 {
	return u[0]*(m[0]*v[0]+m[1]*v[1]+m[2]*v[2]) + u[1]*(m[1]*v[0]+m[3]*v[1]+m[4]*v[2]) + u[2]*(m[2]*v[0]+m[4]*v[1]+m[5]*v[2])
}

// split writes a symmetric matrix of rank two or less as l m' + m l'; false where
// the lines are complex.
func (m *sym3) split() (lines [2][3]float64, ok bool) {
	a := m.adjugate()
	cols := [3][3]float64{{a[0], a[1], a[2]}, {a[1], a[3], a[4]}, {a[2], a[4], a[5]}}
	i := 0
	for k := 1; k < 3; k++ {
		if math.Abs(cols[k][k]) > math.Abs(cols[i][i]) {
			i = k
		}
	}
	var p [3]float64
	switch d := cols[i][i]; {
	case d > 1e-12:
		return lines, false
	case d < 0:
		p = scale(cols[i], 1/math.Sqrt(-d))
	}
	c := [3][3]float64{{m[0], m[1] - p[2], m[2] + p[1]}, {m[1] + p[2], m[3], m[4] - p[0]}, {m[2] - p[1], m[4] + p[0], m[5]}}
	r, s := 0, 0
	for j := range 3 {
		for k := range 3 {
			if math.Abs(c[j][k]) > math.Abs(c[r][s]) {
				r, s = j, k
			}
		}
	}
	if c[r][s] == 0 {
		return lines, false
	}
	return [2][3]float64{c[r], {c[0][s], c[1][s], c[2][s]}}, true
}

// intersect gives the two directions orthogonal to line on which the conics of
// the pencil vanish; zero vectors where there are none.
func intersect(line [3]float64, d1, d2 *sym3) (out [2][3]float64) {
	k := 0
	for j := 1; j < 3; j++ {
		if math.Abs(line[j]) < math.Abs(line[k]) {
			k = j
		}
	}
	var e [3]float64
	e[k] = 1
	u := cross(line, e)
	u = scale(u, 1/norm(u))
	v := cross(line, u)
	v = scale(v, 1/norm(v))
	a, b, c := d1.form(u, u), d1.form(u, v), d1.form(v, v)
	if a2, b2, c2 := d2.form(u, u), d2.form(u, v), d2.form(v, v); math.Abs(a2)+math.Abs(b2)+math.Abs(c2) > math.Abs(a)+math.Abs(b)+math.Abs(c) {
		a, b, c = a2, b2, c2
	}
	disc := b*b - a*c
	if disc < 0 {
		// A double root may fall below zero by rounding.
		if disc < -1e-10*(b*b+math.Abs(a*c)) {
			return out
		}
		disc = 0
	}
	q := -(b + math.Copysign(math.Sqrt(disc), b))
	for i, w := range [2][2]float64{{q, a}, {c, q}} {
		for j := range 3 {
			out[i][j] = w[0]*u[j] + w[1]*v[j]
		}
	}
	return out
}

// cubicRoot is a real root of a x^3 + b x^2 + c x + d; false where a is
// negligible beside the other coefficients, the root then being at infinity.
func cubicRoot(a, b, c, d float64) (float64, bool) {
	if m := max(math.Abs(b), math.Abs(c), math.Abs(d)); math.Abs(a) <= 1e-14*m {
		return 0, false
	}
	b, c, d = b/a, c/a, d/a
	// x = t - b/3 gives t^3 + p t + q.
	p, q := c-b*b/3, b*(2*b*b/27-c/3)+d
	var t float64
	if h := q*q/4 + p*p*p/27; h > 0 {
		s := math.Cbrt(math.Abs(q)/2 + math.Sqrt(h))
		s = math.Copysign(s, -q)
		if s != 0 {
			t = s - p/(3*s)
		}
	} else if p < 0 {
		r := 2 * math.Sqrt(-p/3)
		t = r * math.Cos(math.Acos(min(max(3*q/(p*r), -1), 1))/3)
	}
	x := t - b/3
	for range 3 {
		f, df := ((x+b)*x+c)*x+d, (3*x+2*b)*x+c
		if df == 0 {
			break
		}
		x -= f / df
	}
	return x, !math.IsNaN(x) && !math.IsInf(x, 0)
}
