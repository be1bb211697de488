package pose

import "math"

// observation is a correspondence prepared for the inner loops: model point,
// image point in units of the focal lengths, weight.
type observation struct {
	x, y, z float64
	u, v    float64
	w       float64
}

// lens turns differences of normalized image points into pixels.
type lens struct{ fx, skew, fy float64 }

// cauchy is the loss c^2 log(1 + s/c^2) of a squared residual s.
type cauchy struct{ c2 float64 }

// refine minimizes the sum of cauchy losses of w times the reprojection error
// in pixels over obs[idx] by Levenberg-Marquardt, in place.
func refine(p *Pose, obs []observation, idx []int32, l lens, loss cauchy, maxIter int) {
	lambda := 1e-3
	var h [21]float64
	var g [6]float64
	cost := linearize(p, obs, idx, l, loss, &h, &g)
	for range maxIter {
		step, ok := solveDamped(&h, &g, lambda)
		if !ok {
			if lambda *= 10; lambda > 1e10 {
				return
			}
			continue
		}
		next := Pose{R: rotateBy([3]float64{step[0], step[1], step[2]}, &p.R)}
		next.T = [3]float64{p.T[0] + step[3], p.T[1] + step[4], p.T[2] + step[5]}
		var h2 [21]float64
		var g2 [6]float64
		c := linearize(&next, obs, idx, l, loss, &h2, &g2)
		if !(c < cost) {
			if lambda *= 10; lambda > 1e10 {
				return
			}
			// At the rounding error of the cost no step can do better.
			if c-cost <= 1e-13*cost {
				return
			}
			continue
		}
		done := cost-c <= 1e-10*cost
		*p, cost, h, g = next, c, h2, g2
		lambda = max(lambda*0.1, 1e-10)
		if done {
			return
		}
	}
}

// linearize is the cost at p, with the normal equations of a step (rotation
// vector from the left, translation); +Inf where a point lies behind the camera.
func linearize(p *Pose, obs []observation, idx []int32, l lens, loss cauchy, h *[21]float64, g *[6]float64) float64 {
	var cost float64
	r, t := &p.R, &p.T
	for _, i := range idx {
		o := &obs[i]
		rx := r[0]*o.x + r[1]*o.y + r[2]*o.z
		ry := r[3]*o.x + r[4]*o.y + r[5]*o.z
		rz := r[6]*o.x + r[7]*o.y + r[8]*o.z
		cx, cy, cz := rx+t[0], ry+t[1], rz+t[2]
		if !(cz > 0) {
			return math.Inf(1)
		}
		inv := 1 / cz
		px, py := cx*inv, cy*inv
		dx, dy := px-o.u, py-o.v
		ex, ey := o.w*(l.fx*dx+l.skew*dy), o.w*l.fy*dy
		s := ex*ex + ey*ey
		cost += loss.c2 * math.Log1p(s/loss.c2)
		k := loss.c2 / (loss.c2 + s)
		// Derivatives of the residual by the camera point.
		a0, a1 := o.w*l.fx*inv, o.w*l.skew*inv
		a2 := -(a0*px + a1*py)
		b1 := o.w * l.fy * inv
		b2 := -b1 * py
		// d(camera point) = rotation x (R x) + translation.
		ja := [6]float64{a2*ry - a1*rz, a0*rz - a2*rx, a1*rx - a0*ry, a0, a1, a2}
		jb := [6]float64{b2*ry - b1*rz, -b2 * rx, b1 * rx, 0, b1, b2}
		n := 0
		for i := range 6 {
			ka, kb := k*ja[i], k*jb[i]
			g[i] += ka*ex + kb*ey
			for j := 0; j <= i; j++ {
				h[n] += ka*ja[j] + kb*jb[j]
				n++
			}
		}
	}
	return cost
}

// solveDamped solves (H + lambda diag H) x = -g by Cholesky; h is the lower
// triangle by rows.
func solveDamped(h *[21]float64, g *[6]float64, lambda float64) (x [6]float64, ok bool) {
	var l [6][6]float64
	n := 0
	for i := range 6 {
		for j := 0; j <= i; j++ {
			s := h[n]
			n++
			if i == j {
				s += lambda*s + 1e-300
			}
			for k := range j {
				s -= l[i][k] * l[j][k]
			}
			if i == j {
				if !(s > 0) {
					return x, false
				}
				l[i][i] = math.Sqrt(s)
			} else {
				l[i][j] = s / l[j][j]
			}
		}
	}
	for i := range 6 {
		s := -g[i]
		for k := range i {
			s -= l[i][k] * x[k]
		}
		x[i] = s / l[i][i]
	}
	for i := 5; i >= 0; i-- {
		s := x[i]
		for k := i + 1; k < 6; k++ {
			s -= l[k][i] * x[k]
		}
		x[i] = s / l[i][i]
	}
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return x, false
		}
	}
	return x, true
}
