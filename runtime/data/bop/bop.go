// Package bop reads data sets in the BOP layout
// (https://github.com/thodan/bop_toolkit, docs/bop_datasets_format.md) and
// names the form in which pose data reach training and evaluation.
//
// Lengths are millimetres; poses map model to camera coordinates; matrices are
// row-major; boxes are x, y, width, height in pixels.
package bop

import "fmt"

// Source is a sequence of images with known poses.
type Source interface {
	// Len is the number of samples.
	Len() int
	// Sample is sample i, 0 <= i < Len. Its truth is at hand; pixels and masks
	// are decoded when asked for. It may be called from several goroutines.
	Sample(i int) (*Sample, error)
	// Models are the objects that may occur, by ascending ID.
	Models() []*Model
}

// Sample is one image and what is in it.
type Sample struct {
	// Name is unique in the source and sorts like the source.
	Name string
	// K is the camera matrix in pixels of the image.
	K [9]float64
	// DepthScale times a depth image is mm; 1 where it is not given.
	DepthScale float64
	// Instances are the objects with known poses; empty where there is no truth.
	Instances []Instance
	pixels    func() (*Pixels, error)
}

// NewSample makes a sample whose image pixels gives.
func NewSample(name string, k [9]float64, instances []Instance, pixels func() (*Pixels, error)) *Sample {
	return &Sample{Name: name, K: k, DepthScale: 1, Instances: instances, pixels: pixels}
}

// Pixels decodes the image.
func (s *Sample) Pixels() (*Pixels, error) { return s.pixels() }

// Pixels is an 8-bit RGB image in height, width, channel order.
type Pixels struct {
	W, H int
	RGB  []uint8 // H x W x 3; may be shared, not to be written
}

// Mask is a set of pixels of an image of W x H.
type Mask struct {
	W, H int
	On   func(x, y int) bool // false outside the image
}

// Instance is one object in an image.
type Instance struct {
	ObjID int
	R     [9]float64
	T     [3]float64
	// BoxAll bounds the object's silhouette, BoxVisible the visible part; zero
	// where there is no scene_gt_info.json.
	BoxAll, BoxVisible [4]float64
	// Visible is the visible fraction of the silhouette, 0..1; -1 where unknown.
	Visible float64
	mask    func() (*Mask, error)
}

// NewInstance makes an instance whose visible pixels mask gives; nil where there is no mask.
func NewInstance(objID int, r [9]float64, t [3]float64, mask func() (*Mask, error)) Instance {
	return Instance{ObjID: objID, R: r, T: t, Visible: -1, mask: mask}
}

// HasMask reports whether Mask can succeed.
func (i *Instance) HasMask() bool { return i.mask != nil }

// Mask decodes the mask of the visible part.
func (i *Instance) Mask() (*Mask, error) {
	if i.mask == nil {
		return nil, fmt.Errorf("bop: object %d has no mask", i.ObjID)
	}
	return i.mask()
}

// Model is what is known about an object.
type Model struct {
	ID int
	// Diameter is the largest distance between two points of the model.
	Diameter float64
	// Min and Size are the lowest corner and the extent of the bounding box.
	Min, Size [3]float64
	// Discrete are the 4x4 transforms that leave the object looking the same,
	// Continuous its axes of rotational symmetry.
	Discrete   [][16]float64
	Continuous []Axis
	mesh       func() (*Mesh, error)
}

// Axis is a rotational symmetry about a direction through an offset.
type Axis struct{ Direction, Offset [3]float64 }

// NewModel makes a model whose surface mesh gives; nil where there is none.
func NewModel(id int, diameter float64, min, size [3]float64, mesh func() (*Mesh, error)) *Model {
	return &Model{ID: id, Diameter: diameter, Min: min, Size: size, mesh: mesh}
}

// Symmetric reports whether errors of the object should ignore symmetries (ADI instead of ADD).
func (m *Model) Symmetric() bool { return len(m.Discrete) > 0 || len(m.Continuous) > 0 }

// HasMesh reports whether Mesh can succeed.
func (m *Model) HasMesh() bool { return m.mesh != nil }

// Mesh reads the surface.
func (m *Model) Mesh() (*Mesh, error) {
	if m.mesh == nil {
		return nil, fmt.Errorf("bop: object %d has no model file", m.ID)
	}
	return m.mesh()
}

// Corners are the 8 corners of the bounding box; corner 4i+2j+k has the upper
// bound of x where i is 1, of y where j is 1, of z where k is 1.
func (m *Model) Corners() [8][3]float64 {
	var c [8][3]float64
	for k := range c {
		for a := range 3 {
			c[k][a] = m.Min[a] + float64(k>>(2-a)&1)*m.Size[a]
		}
	}
	return c
}

// Mesh is a triangulated surface; Triangles may be empty.
type Mesh struct {
	Vertices  [][3]float64
	Triangles [][3]int
}
