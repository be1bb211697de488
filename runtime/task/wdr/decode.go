package wdr

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/runtime/pose"
)

// Estimate is a decoded object.
type Estimate struct {
	Object int
	Score  float64 // of its best cell, 0..1
	Pose   pose.Pose
}

// Decoder turns outputs into poses. It is not safe for concurrent use.
type Decoder struct {
	layout  *Layout
	config  Config
	objects []object
	cells   []cell
	solver  *pose.Solver
}

// NewDecoder makes a decoder for the data's objects.
func (d *Data) NewDecoder() (*Decoder, error) {
	s, err := pose.NewSolver(pose.Options{Threshold: d.Config.Reproject})
	if err != nil {
		return nil, err
	}
	return &Decoder{d.Layout, d.Config, d.objects, d.cells, s}, nil
}

// Decode finds at most one object of each class in image n of a batch of outputs. k is the camera matrix in network pixels. A
// class whose cells are all below the threshold, or give no pose, is left out.
func (d *Decoder) Decode(outputs map[string]*ir.Tensor, n int, k [9]float64) ([]Estimate, error) {
	cls, reg := make([][]float32, len(d.layout.Levels)), make([][]float32, len(d.layout.Levels))
	for i, lv := range d.layout.Levels {
		var err error
		if cls[i], err = image(outputs, lv.Cls, n, d.layout.Classes*lv.W*lv.H); err != nil {
			return nil, err
		}
		if reg[i], err = image(outputs, lv.Reg, n, 2*d.layout.Keypoints*d.layout.Classes*lv.W*lv.H); err != nil {
			return nil, err
		}
	}
	var out []Estimate
	for c := range d.objects {
		e, ok, err := d.class(c, cls, reg, k)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, e)
		}
	}
	return out, nil
}

func image(outputs map[string]*ir.Tensor, name string, n, size int) ([]float32, error) {
	t := outputs[name]
	if t == nil {
		return nil, fmt.Errorf("wdr: no output %q", name)
	}
	v, err := t.Float32s()
	if err != nil {
		return nil, fmt.Errorf("wdr: output %q: %w", name, err)
	}
	if len(v) < (n+1)*size {
		return nil, fmt.Errorf("wdr: output %q is %v; image %d needs %d elements each", name, t.Type(), n, size)
	}
	return v[n*size : (n+1)*size], nil
}

type candidate struct {
	cell int
	prob float64
}

func (d *Decoder) class(c int, cls, reg [][]float32, k [9]float64) (Estimate, bool, error) {
	byLevel := make([][]candidate, len(d.layout.Levels))
	best := candidate{-1, 0}
	for i, lv := range d.layout.Levels {
		for j, logit := range cls[i][c*lv.W*lv.H:][:lv.W*lv.H] {
			p := 1 / (1 + math.Exp(-float64(logit)))
			if p < d.config.Threshold || math.IsNaN(p) {
				continue
			}
			q := candidate{lv.First + j, p}
			byLevel[i] = append(byLevel[i], q)
			if best.cell < 0 || p > best.prob {
				best = q
			}
		}
	}
	if best.cell < 0 {
		return Estimate{}, false, nil
	}
	points := d.keypoints(c, best.cell, reg)
	lo, hi := points[0], points[0]
	for _, p := range points {
		for a := range 2 {
			lo[a], hi[a] = min(lo[a], p[a]), max(hi[a], p[a])
		}
	}
	weights := d.layout.weights(d.config, max(hi[0]-lo[0], hi[1]-lo[1], 1))
	var p3 [][3]float64
	var p2 [][2]float64
	use := func(cell int) {
		p3 = append(p3, d.objects[c].points...)
		p2 = append(p2, d.keypoints(c, cell, reg)...)
	}
	for i, list := range byLevel {
		slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(b.prob, a.prob) })
		for _, q := range list[:min(len(list), int(math.Floor(d.config.Cells*weights[i]+0.5)))] {
			use(q.cell)
		}
	}
	if len(p2) == 0 {
		use(best.cell)
	}
	for _, p := range p2 {
		if v := p[0] + p[1]; math.IsNaN(v) || math.IsInf(v, 0) {
			return Estimate{}, false, nil
		}
	}
	est, _, err := d.solver.Solve(p3, p2, nil, k)
	if errors.Is(err, pose.ErrNoPose) || errors.Is(err, pose.ErrDegenerate) || errors.Is(err, pose.ErrTooFew) {
		return Estimate{}, false, nil
	}
	if err != nil {
		return Estimate{}, false, fmt.Errorf("wdr: %w", err)
	}
	return Estimate{d.objects[c].model.ID, best.prob, est}, true, nil
}

// keypoints are the image points that a cell predicts, in network pixels.
func (d *Decoder) keypoints(c, index int, reg [][]float32) [][2]float64 {
	at := d.cells[index]
	lv := d.layout.Levels[at.level]
	size, K := lv.W*lv.H, d.layout.Keypoints
	v := reg[at.level][c*2*K*size:]
	out := make([][2]float64, K)
	for k := range out {
		j := index - lv.First
		out[k] = [2]float64{at.x + at.anchor*float64(v[k*size+j]), at.y + at.anchor*float64(v[(K+k)*size+j])}
	}
	return out
}
