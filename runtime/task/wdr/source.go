package wdr

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"mqatc/onnx/ir"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/task/augment"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/train"
)

// Data binds a network's layout to a data set.
type Data struct {
	Input  *prep.Input
	Layout *Layout
	Config Config
	// Augment changes images that are drawn for training; nil changes none. It is set before the first sample is made.
	Augment *augment.Spec

	src     bop.Source
	idx     []int
	objects []object
	class   map[int]int // object ID to class
	cells   []cell

	mu    sync.Mutex
	cache map[int]*prepared
	left  int64
}

// cacheBytes bounds the decoded images kept in memory.
const cacheBytes = 3 << 29

// NewData checks that objects and outputs fit. idx are the samples to use; nil means all.
func NewData(in *prep.Input, l *Layout, c Config, src bop.Source, idx []int) (*Data, error) {
	if idx == nil {
		for i := range src.Len() {
			idx = append(idx, i)
		}
	}
	if len(idx) == 0 {
		return nil, fmt.Errorf("wdr: the data set has no images")
	}
	objects, err := l.objects(c, src.Models())
	if err != nil {
		return nil, err
	}
	d := &Data{Input: in, Layout: l, Config: c, src: src, idx: idx, objects: objects,
		class: map[int]int{}, cells: l.cells(c), cache: map[int]*prepared{}, left: cacheBytes}
	for k, o := range objects {
		d.class[o.model.ID] = k
	}
	return d, nil
}

// Len is the number of images.
func (d *Data) Len() int { return len(d.idx) }

// target is one object in an image.
type target struct {
	class  int
	points [][3]float32 // keypoints in the camera frame, in diameters
	levels []float64    // weights
	span   float64
}

// prepared is what is kept of an image.
type prepared struct {
	rgb     []uint8
	k       [9]float64 // camera in network pixels
	targets []target
	at      []int16 // target that covers a cell, -1 for none
	labels  []int16 // the same for each pixel, where images are augmented
}

func (d *Data) prepare(i int) (*prepared, error) {
	d.mu.Lock()
	p := d.cache[i]
	d.mu.Unlock()
	if p != nil {
		return p, nil
	}
	s, err := d.src.Sample(d.idx[i])
	if err != nil {
		return nil, err
	}
	if p, err = d.read(s); err != nil {
		return nil, fmt.Errorf("wdr: image %s: %w", s.Name, err)
	}
	size := int64(len(p.rgb) + 2*len(p.at) + 2*len(p.labels) + 200*len(p.targets) + 200)
	d.mu.Lock()
	if d.cache[i] == nil && d.left >= size {
		d.cache[i] = p
		d.left -= size
	}
	d.mu.Unlock()
	return p, nil
}

func (d *Data) read(s *bop.Sample) (*prepared, error) {
	px, err := s.Pixels()
	if err != nil {
		return nil, err
	}
	if s.K[1] != 0 {
		return nil, fmt.Errorf("its camera has skew %v, which this task does not model", s.K[1])
	}
	g := d.Input.Geometry(px.W, px.H)
	p := &prepared{rgb: d.Input.Resize(px.W, px.H, px.RGB), k: g.Camera(s.K), at: make([]int16, len(d.cells))}
	for c := range p.at {
		p.at[c] = -1
	}
	if d.Augment != nil && d.Augment.Moves() {
		p.labels = make([]int16, d.Input.Width*d.Input.Height)
		for i := range p.labels {
			p.labels[i] = -1
		}
	}
	for k := range s.Instances {
		in := &s.Instances[k]
		class, known := d.class[in.ObjID]
		if !known {
			continue
		}
		t, pixels, err := d.target(class, in, p.k)
		if err != nil {
			return nil, err
		}
		cover, err := coverage(in, g, pixels)
		if err != nil {
			return nil, err
		}
		p.targets = append(p.targets, t)
		for c := range d.cells {
			if p.at[c] < 0 && cover(d.cells[c].x, d.cells[c].y) {
				p.at[c] = int16(len(p.targets) - 1)
			}
		}
		for i := range p.labels {
			if p.labels[i] < 0 && cover(float64(i%d.Input.Width)+0.5, float64(i/d.Input.Width)+0.5) {
				p.labels[i] = int16(len(p.targets) - 1)
			}
		}
	}
	return p, nil
}

func (d *Data) target(class int, in *bop.Instance, k [9]float64) (target, [][2]float64, error) {
	o := d.objects[class]
	t := target{class: class}
	var pixels [][2]float64
	for _, q := range o.points {
		var x [3]float64
		for r := range 3 {
			x[r] = in.R[3*r]*q[0] + in.R[3*r+1]*q[1] + in.R[3*r+2]*q[2] + in.T[r]
		}
		if !(x[2] > 0) {
			return t, nil, fmt.Errorf("a keypoint of object %d lies behind the camera", in.ObjID)
		}
		t.points = append(t.points, [3]float32{float32(x[0] / o.diameter), float32(x[1] / o.diameter), float32(x[2] / o.diameter)})
		u := [2]float64{k[0]*x[0]/x[2] + k[2], k[4]*x[1]/x[2] + k[5]}
		pixels = append(pixels, u)
	}
	t.span = span(pixels)
	t.levels = d.Layout.weights(d.Config, t.span)
	return t, pixels, nil
}

// coverage says whether the object covers a network pixel: by its mask, or where there is none by the convex hull of its keypoints.
func coverage(in *bop.Instance, g prep.Geometry, pixels [][2]float64) (func(x, y float64) bool, error) {
	if in.HasMask() {
		m, err := in.Mask()
		if err != nil {
			return nil, err
		}
		return func(x, y float64) bool {
			return m.On(int(math.Floor((x-g.OffX)/g.X)), int(math.Floor((y-g.OffY)/g.Y)))
		}, nil
	}
	hull := convexHull(pixels)
	return func(x, y float64) bool { return inside(hull, x, y) }, nil
}

// Sample makes the tensors of image i: the network's input and the targets of Loss. Without rng the image is as it is, with it as
// Augment changes it.
func (d *Data) Sample(i int, rng *rand.Rand) (train.Feeds, error) {
	p, err := d.prepare(i)
	if err != nil {
		return nil, err
	}
	if d.Augment != nil && rng != nil {
		p = d.augmented(p, rng)
	}
	image, err := d.Input.Tensor(p.rgb)
	if err != nil {
		return nil, err
	}
	f := train.Feeds{d.Input.Name: image}
	if err := d.fill(f, p); err != nil {
		return nil, err
	}
	return f, nil
}

func (d *Data) fill(f train.Feeds, p *prepared) error {
	l, c := d.Layout, d.Config
	C, K, L := l.Classes, l.Keypoints, l.Cells
	pos, neg, weight := make([]float32, C*L), make([]float32, C*L), make([]float32, C*L)
	xy, z := make([]float32, 2*K*L), make([]float32, K*L)
	for i := range neg {
		neg[i] = 1
	}
	for i := range z {
		z[i] = 1
	}
	counts := map[[2]int]float64{}
	for i, t := range p.at {
		if t >= 0 {
			counts[[2]int{int(t), d.cells[i].level}]++
		}
	}
	for i, ti := range p.at {
		if ti < 0 {
			continue
		}
		t, level := &p.targets[ti], d.cells[i].level
		at := t.class*L + i
		neg[at] = 0
		if t.levels[level] > c.Positive {
			pos[at] = 1
		}
		n := counts[[2]int{int(ti), level}]
		weight[at] = float32(2 * t.levels[level] * min(n, c.Cells) / n)
		for k, q := range t.points {
			xy[k*L+i], xy[(K+k)*L+i], z[k*L+i] = q[0], q[1], q[2]
		}
	}
	inv := []float32{float32(1 / p.k[0]), float32(1 / p.k[4])}
	center := []float32{float32(-p.k[2] / p.k[0]), float32(-p.k[5] / p.k[4])}
	for _, t := range []struct {
		name string
		v    []float32
		dims []int64
	}{
		{targetPositive, pos, []int64{1, int64(C), int64(L)}},
		{targetNegative, neg, []int64{1, int64(C), int64(L)}},
		{targetWeight, weight, []int64{1, int64(C), int64(L)}},
		{targetXY, xy, []int64{1, 1, 2, int64(K), int64(L)}},
		{targetZ, z, []int64{1, 1, 1, int64(K), int64(L)}},
		{targetFocal, inv, []int64{1, 1, 2, 1, 1}},
		{targetCenter, center, []int64{1, 1, 2, 1, 1}},
	} {
		v, err := ir.FromFloat32s(t.v, t.dims...)
		if err != nil {
			return fmt.Errorf("wdr: target %s: %w", t.name, err)
		}
		f[t.name] = v
	}
	return nil
}

// Feeds is the annealed constant of the loss at a step.
func (d *Data) Feeds(step, steps int) (train.Feeds, error) {
	eps := float32(d.Config.Eps(float64(step) / float64(max(steps, 1))))
	t, err := ir.FromFloat32s([]float32{eps}, 1)
	return train.Feeds{TargetEps: t}, err
}
