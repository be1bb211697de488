package cubesat

import "math"

// supersampling is the number of samples along each axis of a pixel.
const supersampling = 2

// camera is a pose with a pinhole of focal length size in an image of size x size.
type camera struct {
	r    [9]float64
	t    [3]float64
	size int
}

func (c *camera) rotate(p [3]float64) [3]float64 {
	return [3]float64{
		c.r[0]*p[0] + c.r[1]*p[1] + c.r[2]*p[2],
		c.r[3]*p[0] + c.r[4]*p[1] + c.r[5]*p[2],
		c.r[6]*p[0] + c.r[7]*p[1] + c.r[8]*p[2],
	}
}

func (c *camera) transform(p [3]float64) [3]float64 {
	q := c.rotate(p)
	return [3]float64{q[0] + c.t[0], q[1] + c.t[1], q[2] + c.t[2]}
}

func (c *camera) project(p [3]float64) (x, y, depth float64) {
	q := c.transform(p)
	s := float64(c.size)
	return q[0]/q[2]*s + s/2, q[1]/q[2]*s + s/2, q[2]
}

// rectangle is a half-open range of pixels.
type rectangle struct{ x0, x1, y0, y1 int }

// sample is what one subsample of the z-buffer sees: texel indexes the
// concatenated textures, -1 is background.
type sample struct {
	invDepth float32
	texel    int32
}

// rasterizer is a z-buffer over the samples of the rectangle that holds the
// object, which may reach outside the image.
type rasterizer struct {
	samples []sample
	area    rectangle
	width   int
}

// draw fills the z-buffer with the satellite; every vertex must lie before the camera.
func (z *rasterizer) draw(cam *camera) {
	z.clear(cam)
	for _, f := range faces() {
		z.drawFace(cam, &f)
	}
}

func (z *rasterizer) clear(cam *camera) {
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, b := range boxes {
		for k := range 8 {
			x, y, _ := cam.project(b.corner(k))
			x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
		}
	}
	z.area = rectangle{int(math.Floor(x0)), int(math.Ceil(x1)), int(math.Floor(y0)), int(math.Ceil(y1))}
	z.width = supersampling * (z.area.x1 - z.area.x0)
	n := z.width * supersampling * (z.area.y1 - z.area.y0)
	if cap(z.samples) < n {
		z.samples = make([]sample, n)
	}
	z.samples = z.samples[:n]
	for i := range z.samples {
		z.samples[i] = sample{texel: -1}
	}
}

// drawFace rasterizes a rectangle in space. With o, u, v its origin and sides
// in the camera frame, the ray (x, y, 1) meets it at depth d where
// d (x, y, 1) = o + a u + b v; so (a, b, 1)/d is linear in the pixel, and the
// rectangle is where 0 <= a/d <= 1/d and 0 <= b/d <= 1/d.
func (z *rasterizer) drawFace(cam *camera, f *face) {
	o, u, v := cam.transform(f.origin), cam.rotate(f.u), cam.rotate(f.v)
	n := cam.rotate(f.normal())
	if dot(n, o) >= 0 {
		return
	}
	vo, ou, uv := cross(v, o), cross(o, u), cross(u, v)
	det := dot(u, vo)
	if math.Abs(det) < 1e-9 {
		return
	}
	const step = 1.0 / supersampling
	size := float64(cam.size)
	type linear struct{ ax, ay, a0 float64 }
	plane := func(w [3]float64) linear {
		l := linear{ax: w[0] / det / size, ay: w[1] / det / size, a0: w[2] / det}
		l.a0 -= (l.ax + l.ay) * size / 2
		return l
	}
	la, lb, ld := plane(vo), plane(ou), plane(uv)
	xs := float64(z.area.x0) + step/2
	rows := supersampling * (z.area.y1 - z.area.y0)
	texBase := int32(f.texture * textureSize * textureSize)
	for row := range rows {
		y := float64(z.area.y0) + (float64(row)+0.5)*step
		a0, b0, d0 := la.ay*y+la.a0+la.ax*xs, lb.ay*y+lb.a0+lb.ax*xs, ld.ay*y+ld.a0+ld.ax*xs
		da, db, dd := la.ax*step, lb.ax*step, ld.ax*step
		lo, hi := 0.0, float64(z.width-1)
		lo, hi = clip(a0, da, lo, hi)
		lo, hi = clip(d0-a0, dd-da, lo, hi)
		lo, hi = clip(b0, db, lo, hi)
		lo, hi = clip(d0-b0, dd-db, lo, hi)
		first, last := int(math.Ceil(lo)), int(math.Floor(hi))
		if lo > hi || first > last {
			continue
		}
		line := z.samples[row*z.width : (row+1)*z.width]
		for s := first; s <= last; s++ {
			k := float64(s)
			inv := d0 + dd*k
			if p := &line[s]; float32(inv) > p.invDepth {
				depth := textureSize / inv
				tu := min(max(int((a0+da*k)*depth), 0), textureSize-1)
				tv := min(max(int((b0+db*k)*depth), 0), textureSize-1)
				p.invDepth = float32(inv)
				p.texel = texBase + int32(tu*textureSize+tv)
			}
		}
	}
}

// clip narrows [lo, hi] to where a + b*s >= 0.
func clip(a, b, lo, hi float64) (float64, float64) {
	switch {
	case b > 0:
		return max(lo, -a/b), hi
	case b < 0:
		return lo, min(hi, -a/b)
	case a < 0:
		return 1, 0
	}
	return lo, hi
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func cross(a, b [3]float64) [3]float64 {
	return [3]float64{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}
