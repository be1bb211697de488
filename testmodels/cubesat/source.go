package cubesat

import (
	"fmt"

	"mqatc/runtime/data/bop"
)

// ObjectID is the satellite's number among the models.
const ObjectID = 1

// source is a Set seen as pose data; names are six-digit image numbers.
type source struct {
	set    *Set
	models []*bop.Model
}

// Source is the set in the form that training and evaluation read.
func (s *Set) Source() bop.Source {
	lo, hi := Bounds()
	size := [3]float64{hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]}
	model := bop.NewModel(ObjectID, Diameter(), lo, size, func() (*bop.Mesh, error) {
		m := Model()
		return &bop.Mesh{Vertices: m.Vertices, Triangles: m.Triangles}, nil
	})
	return &source{set: s, models: []*bop.Model{model}}
}

func (s *source) Len() int { return s.set.Len() }

func (s *source) Models() []*bop.Model { return s.models }

func (s *source) Sample(i int) (*bop.Sample, error) {
	if i < 0 || i >= s.set.Len() {
		return nil, fmt.Errorf("cubesat: sample %d of %d", i, s.set.Len())
	}
	r, t := s.set.Pose(i)
	n := s.set.Size()
	mask := func() (*bop.Mask, error) {
		return &bop.Mask{W: n, H: n, On: func(x, y int) bool { return s.set.OnObject(i, x, y) }}, nil
	}
	pixels := func() (*bop.Pixels, error) { return &bop.Pixels{W: n, H: n, RGB: s.set.RGB(i)}, nil }
	instances := []bop.Instance{bop.NewInstance(ObjectID, r, t, mask)}
	return bop.NewSample(fmt.Sprintf("%06d", i), s.set.K(), instances, pixels), nil
}
