// Package wdr is the pose task of wide-depth-range pose estimation (Hu et al., CVPR 2021): at each cell of several feature maps a
// network says whether an object covers the cell and where the object's keypoints appear; a pose follows by PnP.
//
// For a network input of W x H the map of stride s has cells with centres s/2 + k*s. A keypoint's offsets (dx, dy) at a cell mean
// the image point centre + offset * anchor, anchor = AnchorScale * s. Outputs come in pairs of one size: [N, C, h, w] class logits
// and [N, C*2*K, h, w] offsets, by class first all x and then all y.
package wdr

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
	"mqatc/runtime/data/bop"
)

// Config are the constants of loss, assignment and decoding; zero values mean the defaults in brackets.
type Config struct {
	// AnchorScale is the anchor's size by stride [4, as the original: 32 pixels at stride 8].
	AnchorScale float64 `yaml:"anchor_scale,omitempty"`
	// Objects are the object IDs by class; empty: the data set's models by ascending ID.
	Objects []int `yaml:"objects,omitempty,flow"`
	// Keypoints by object ID, in the model's frame; where there are none and the network has 8, the corners of the bounding box.
	Keypoints map[int][][3]float64 `yaml:"keypoints,omitempty"`

	Cells    float64 `yaml:"cells,omitempty"`     // of an object, over all levels: bound on the weight of a level, and number decoded [10]
	Spread   float64 `yaml:"spread,omitempty"`    // lambda of the level weights exp(-lambda*log2(span/anchor)^2) [1]
	Positive float64 `yaml:"positive,omitempty"`  // level weight from which on a covered cell is a positive example [0.25]
	Alpha    float64 `yaml:"alpha,omitempty"`     // focal loss [0.25]
	ClsScale float64 `yaml:"cls_scale,omitempty"` // weight of the focal loss [1]
	RegScale float64 `yaml:"reg_scale,omitempty"` // weight of the object-space loss [3]

	// The knee of the object-space loss is 1/eps diameters. eps is EpsFirst until EpsFrom of the run, then grows geometrically
	// to EpsLast at EpsTo [5, 50, 0.15, 0.6]. A large eps from the start keeps networks on the plateau of the mean box for long.
	EpsFirst float64 `yaml:"eps_first,omitempty"`
	EpsLast  float64 `yaml:"eps_last,omitempty"`
	EpsFrom  float64 `yaml:"eps_from,omitempty"`
	EpsTo    float64 `yaml:"eps_to,omitempty"`

	Threshold float64 `yaml:"threshold,omitempty"` // smallest probability of a cell that is decoded [0.3]
	Reproject float64 `yaml:"reproject,omitempty"` // RANSAC's inlier radius in network pixels [5 at 512 pixels, at least 2]
	// DepthRange cuts evaluation into near, medium and far, in diameters; empty: the range of the data.
	DepthRange []float64 `yaml:"depth_range,omitempty,flow"`
}

func def(v *float64, d float64) {
	if *v == 0 {
		*v = d
	}
}

// WithDefaults fills zero values in and checks the rest. side is the longer side of the network's input in pixels.
func (c Config) WithDefaults(side int) (Config, error) {
	def(&c.AnchorScale, 4)
	def(&c.Cells, 10)
	def(&c.Spread, 1)
	def(&c.Positive, 0.25)
	def(&c.Alpha, 0.25)
	def(&c.ClsScale, 1)
	def(&c.RegScale, 3)
	def(&c.EpsFirst, 5)
	def(&c.EpsLast, 50)
	def(&c.EpsFrom, 0.15)
	def(&c.EpsTo, 0.6)
	def(&c.Threshold, 0.3)
	def(&c.Reproject, max(2, 5*float64(side)/512))
	for _, v := range []float64{c.AnchorScale, c.Cells, c.Spread, c.ClsScale, c.RegScale, c.EpsFirst, c.EpsLast, c.Reproject} {
		if !(v > 0) || math.IsInf(v, 0) {
			return c, fmt.Errorf("wdr: %v is out of range in %+v", v, c)
		}
	}
	if !(c.EpsTo > c.EpsFrom && c.Threshold > 0 && c.Threshold < 1 && c.Alpha > 0 && c.Alpha < 1 && c.Positive >= 0 && c.Positive < 1) {
		return c, fmt.Errorf("wdr: constants out of range: %+v", c)
	}
	if n := len(c.DepthRange); n != 0 && (n != 2 || !(c.DepthRange[0] < c.DepthRange[1])) {
		return c, fmt.Errorf("wdr: depth_range %v is no range", c.DepthRange)
	}
	return c, nil
}

// Eps is the annealed constant at a part (0..1) of the run.
func (c Config) Eps(part float64) float64 {
	p := min(1, max(0, (part-c.EpsFrom)/(c.EpsTo-c.EpsFrom)))
	return c.EpsFirst * math.Pow(c.EpsLast/c.EpsFirst, p)
}

// Level is one pair of outputs.
type Level struct {
	Cls, Reg string
	W, H     int
	StrideX  float64
	StrideY  float64
	First    int // index of its first cell; cells run level by level, row by row
}

// Layout is how a network's outputs are to be read.
type Layout struct {
	Levels    []Level
	Classes   int
	Keypoints int
	Cells     int
}

// maxCells bounds the number of cells of a network.
const maxCells = 1 << 22

// FindLayout reads the layout off the outputs' shapes; w and h are the network's input size. Outputs may stand in any order.
func FindLayout(outputs []*ir.Value, w, h int) (*Layout, error) {
	type size struct{ h, w int64 }
	found := map[size][]*ir.Value{}
	var sizes []size
	for _, o := range outputs {
		s := o.Shape()
		if o.DType() != ir.Float32 || len(s) != 4 || !s[1].Known() || !s[2].Known() || !s[3].Known() || s[1].Size*s[2].Size*s[3].Size <= 0 {
			return nil, fmt.Errorf("wdr: output %q is %v; pairs [N,C,h,w] and [N,C*2*K,h,w] of float are needed", o.Name(), o.Type)
		}
		k := size{s[2].Size, s[3].Size}
		if found[k] == nil {
			sizes = append(sizes, k)
		}
		found[k] = append(found[k], o)
	}
	l := &Layout{}
	for _, k := range sizes {
		pair := found[k]
		if len(pair) != 2 {
			return nil, fmt.Errorf("wdr: %d outputs of %dx%d cells; a pair is needed", len(pair), k.w, k.h)
		}
		cls, reg := pair[0], pair[1]
		if cls.Shape()[1].Size > reg.Shape()[1].Size {
			cls, reg = reg, cls
		}
		classes := int(cls.Shape()[1].Size)
		points := int(reg.Shape()[1].Size) / (2 * classes)
		if int(reg.Shape()[1].Size) != 2*classes*points || points < 4 {
			return nil, fmt.Errorf("wdr: outputs %q and %q have %d and %d channels: not C and C*2*K with at least 4 keypoints", cls.Name(), reg.Name(), classes, reg.Shape()[1].Size)
		}
		if len(l.Levels) > 0 && (classes != l.Classes || points != l.Keypoints) {
			return nil, fmt.Errorf("wdr: outputs %q and %q have other classes or keypoints than the level before", cls.Name(), reg.Name())
		}
		l.Classes, l.Keypoints = classes, points
		l.Levels = append(l.Levels, Level{
			Cls: cls.Name(), Reg: reg.Name(), W: int(k.w), H: int(k.h),
			StrideX: float64(w) / float64(k.w), StrideY: float64(h) / float64(k.h), First: l.Cells,
		})
		l.Cells += int(k.w * k.h)
		if l.Cells > maxCells {
			return nil, fmt.Errorf("wdr: more than %d cells", maxCells)
		}
	}
	if len(l.Levels) == 0 {
		return nil, fmt.Errorf("wdr: the network has no outputs")
	}
	return l, nil
}

// Anchor is the anchor size of a level in network pixels.
func (c Config) Anchor(l Level) float64 { return c.AnchorScale * math.Sqrt(l.StrideX*l.StrideY) }

// cell is where a cell lies.
type cell struct {
	level        int
	x, y, anchor float64 // network pixels
}

func (l *Layout) cells(c Config) []cell {
	out := make([]cell, 0, l.Cells)
	for k, lv := range l.Levels {
		a := c.Anchor(lv)
		for y := range lv.H {
			for x := range lv.W {
				out = append(out, cell{k, (float64(x) + 0.5) * lv.StrideX, (float64(y) + 0.5) * lv.StrideY, a})
			}
		}
	}
	return out
}

// weights are the levels' shares of an object whose projected box has a longer side of span network pixels; they sum to 1.
func (l *Layout) weights(c Config, span float64) []float64 {
	w := make([]float64, len(l.Levels))
	best := math.Inf(1)
	for k, lv := range l.Levels {
		d := math.Log2(max(span, 1e-3) / c.Anchor(lv))
		w[k] = c.Spread * d * d
		best = min(best, w[k])
	}
	sum := 0.0
	for k := range w {
		w[k] = math.Exp(best - w[k])
		sum += w[k]
	}
	for k := range w {
		w[k] /= sum
	}
	return w
}

// object is a class of the network.
type object struct {
	model    *bop.Model
	diameter float64
	points   [][3]float64
}

// objects matches classes with the data set's models.
func (l *Layout) objects(c Config, models []*bop.Model) ([]object, error) {
	byID := map[int]*bop.Model{}
	for _, m := range models {
		byID[m.ID] = m
	}
	ids := c.Objects
	if len(ids) == 0 {
		for _, m := range models {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) != l.Classes {
		return nil, fmt.Errorf("wdr: the network has %d classes and there are %d objects: name the objects of the classes in the task", l.Classes, len(ids))
	}
	var out []object
	for _, id := range ids {
		m := byID[id]
		if m == nil {
			return nil, fmt.Errorf("wdr: the data set has no model of object %d", id)
		}
		if !(m.Diameter > 0) || math.IsInf(m.Diameter, 0) {
			return nil, fmt.Errorf("wdr: object %d has diameter %v", id, m.Diameter)
		}
		o := object{model: m, diameter: m.Diameter, points: c.Keypoints[id]}
		if o.points == nil && l.Keypoints == 8 {
			corners := m.Corners()
			o.points = corners[:]
		}
		if len(o.points) != l.Keypoints {
			return nil, fmt.Errorf("wdr: the network has %d keypoints, object %d has %d: list them in the task", l.Keypoints, id, len(o.points))
		}
		out = append(out, o)
	}
	return out, nil
}
