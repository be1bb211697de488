package wdr

import (
	"math"
	"math/rand/v2"

	"mqatc/runtime/task/augment"
)

// augmented is an image changed by d.Augment, its truth with it. The camera is turned about its axis, which turns the poses by the same
// angle and the image about the principal point, and its focal lengths grow, which leaves poses alone and scales the image about the same
// point: both are exact for every depth. Moving the object along the axis instead would be true for one depth only.
func (d *Data) augmented(p *prepared, rng *rand.Rand) *prepared {
	s := d.Augment
	out := &prepared{rgb: p.rgb, k: p.k, targets: p.targets, at: p.at}
	if s.Rotate > 0 || s.Scale > 0 {
		angle, factor := s.Motion(rng)
		m := augment.Turn(angle, factor, p.k[0], p.k[4], p.k[2], p.k[5])
		out.rgb = augment.Warp(p.rgb, d.Input.Width, d.Input.Height, m)
		out.k[0], out.k[4] = factor*p.k[0], factor*p.k[4]
		out.targets = nil
		for i := range p.targets {
			out.targets = append(out.targets, d.turned(&p.targets[i], angle, out.k))
		}
		out.at = make([]int16, len(d.cells))
		for c := range out.at {
			out.at[c] = d.label(p, m, d.cells[c].x, d.cells[c].y)
		}
	}
	out.rgb = s.Pixels(out.rgb, d.Input.Width, d.Input.Height, rng)
	return out
}

// turned is a target after a turn of the camera's frame, seen by camera k.
func (d *Data) turned(t *target, angle float64, k [9]float64) target {
	sin, cos := math.Sincos(angle)
	out := target{class: t.class}
	var pixels [][2]float64
	for _, q := range t.points {
		x, y, z := float64(q[0]), float64(q[1]), float64(q[2])
		x, y = cos*x-sin*y, sin*x+cos*y
		out.points = append(out.points, [3]float32{float32(x), float32(y), q[2]})
		pixels = append(pixels, [2]float64{k[0]*x/z + k[2], k[4]*y/z + k[5]})
	}
	out.span = span(pixels)
	out.levels = d.Layout.weights(d.Config, out.span)
	return out
}

// label is the target at a place of the new image, -1 for none.
func (d *Data) label(p *prepared, m augment.Map, x, y float64) int16 {
	x, y = m.At(x, y)
	if x < 0 || y < 0 || x >= float64(d.Input.Width) || y >= float64(d.Input.Height) {
		return -1
	}
	return p.labels[int(y)*d.Input.Width+int(x)]
}

// span is the longer side of the box around points.
func span(points [][2]float64) float64 {
	lo, hi := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, u := range points {
		for a := range 2 {
			lo[a], hi[a] = min(lo[a], u[a]), max(hi[a], u[a])
		}
	}
	return max(hi[0]-lo[0], hi[1]-lo[1])
}
