// Package cubesat renders a pose-estimation problem: a textured, asymmetric
// cube satellite before stars and the Earth, at random poses with known truth.
//
// Lengths are millimetres. Poses map model to camera coordinates (x right,
// y down, z forward). A pixel (x, y) covers the square [x, x+1) x [y, y+1) of
// the image plane, so its centre projects from (x+0.5, y+0.5).
package cubesat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// box is an axis-aligned part of the satellite.
type box struct{ lo, hi [3]float64 }

// boxes are the body, the solar panel, the antenna and the sensor block.
var boxes = [...]box{
	{lo: [3]float64{-50, -50, -50}, hi: [3]float64{50, 50, 50}},
	{lo: [3]float64{50, -45, 28}, hi: [3]float64{95, 45, 34}},
	{lo: [3]float64{-34, -34, 50}, hi: [3]float64{-26, -26, 85}},
	{lo: [3]float64{5, -62, -40}, hi: [3]float64{35, -50, -10}},
}

// bounds is the bounding box of all parts.
var bounds = box{lo: [3]float64{-50, -62, -50}, hi: [3]float64{95, 50, 85}}

func (b box) corner(k int) [3]float64 {
	p := b.lo
	for a := range 3 {
		if k>>(2-a)&1 == 1 {
			p[a] = b.hi[a]
		}
	}
	return p
}

// face is one side of a box: u runs along axis (axis+1)%3, v along (axis+2)%3,
// both from lo to hi.
type face struct {
	origin, u, v [3]float64
	axis, side   int
	texture      int
}

func (f face) normal() [3]float64 {
	var n [3]float64
	n[f.axis] = float64(2*f.side - 1)
	return n
}

func (f face) size() (du, dv float64) { return f.u[(f.axis+1)%3], f.v[(f.axis+2)%3] }

func (f face) at(u, v float64) [3]float64 {
	var p [3]float64
	for k := range 3 {
		p[k] = f.origin[k] + u*f.u[k] + v*f.v[k]
	}
	return p
}

// faces lists the six sides of every box, box by box, in the order -x +x -y +y -z +z.
func faces() []face {
	fs := make([]face, 0, 6*len(boxes))
	for bi, b := range boxes {
		for s := range 6 {
			f := face{origin: b.lo, axis: s / 2, side: s % 2, texture: 6*bi + s}
			if f.side == 1 {
				f.origin[f.axis] = b.hi[f.axis]
			}
			a1, a2 := (f.axis+1)%3, (f.axis+2)%3
			f.u[a1] = b.hi[a1] - b.lo[a1]
			f.v[a2] = b.hi[a2] - b.lo[a2]
			fs = append(fs, f)
		}
	}
	return fs
}

// Diameter is the largest distance between two points of the satellite, in mm.
func Diameter() float64 {
	var d float64
	for _, a := range boxes {
		for _, b := range boxes {
			for i := range 8 {
				for j := range 8 {
					p, q := a.corner(i), b.corner(j)
					d = max(d, math.Sqrt((p[0]-q[0])*(p[0]-q[0])+(p[1]-q[1])*(p[1]-q[1])+(p[2]-q[2])*(p[2]-q[2])))
				}
			}
		}
	}
	return d
}

// Corners are the 8 corners of the bounding box, the keypoints of the pose
// problem. Corner 4i+2j+k has the upper bound of x where i is 1, of y where j
// is 1, of z where k is 1.
func Corners() [8][3]float64 {
	var c [8][3]float64
	for k := range c {
		c[k] = bounds.corner(k)
	}
	return c
}

// Bounds are the lowest and highest coordinates of the satellite, in mm.
func Bounds() (lo, hi [3]float64) { return bounds.lo, bounds.hi }

// Center is the centre of the bounding box, in mm. Depth means its z in the camera frame.
func Center() [3]float64 {
	var c [3]float64
	for k := range 3 {
		c[k] = (bounds.lo[k] + bounds.hi[k]) / 2
	}
	return c
}

// ModelPoints draws n points uniformly by area over the surfaces of the four
// boxes, in mm; they are a function of n and seed.
func ModelPoints(n int, seed uint64) [][3]float64 {
	fs := faces()
	cum := make([]float64, len(fs))
	var total float64
	for i, f := range fs {
		du, dv := f.size()
		total += du * dv
		cum[i] = total
	}
	rng := rand.New(rand.NewPCG(seed, 0x6d6f64656c))
	pts := make([][3]float64, n)
	for i := range pts {
		x := rng.Float64() * total
		k, _ := slices.BinarySearch(cum, x)
		pts[i] = fs[min(k, len(fs)-1)].at(rng.Float64(), rng.Float64())
	}
	return pts
}

// Mesh is a triangle mesh with a normal and an RGB colour per vertex.
type Mesh struct {
	Vertices  [][3]float64
	Normals   [][3]float64
	Colors    [][3]uint8
	Triangles [][3]int
}

// meshStep is the largest edge of the grid every face is divided into, in mm:
// fine enough that errors over the vertices resemble errors over the surface.
const meshStep = 10.0

// Model is the satellite as a mesh whose vertices cover the surface in a grid
// of at most 10 mm; triangles are counter-clockwise seen from outside.
func Model() Mesh {
	var m Mesh
	tex := textures()
	for _, f := range faces() {
		du, dv := f.size()
		nu, nv := int(math.Ceil(du/meshStep)), int(math.Ceil(dv/meshStep))
		base := len(m.Vertices)
		for i := range nu + 1 {
			for j := range nv + 1 {
				u, v := float64(i)/float64(nu), float64(j)/float64(nv)
				m.Vertices = append(m.Vertices, f.at(u, v))
				m.Normals = append(m.Normals, f.normal())
				tu, tv := min(int(u*textureSize), textureSize-1), min(int(v*textureSize), textureSize-1)
				m.Colors = append(m.Colors, tex[f.texture][tu*textureSize+tv])
			}
		}
		for i := range nu {
			for j := range nv {
				a := base + i*(nv+1) + j
				b, c, d := a+nv+1, a+nv+2, a+1
				if f.side == 1 {
					m.Triangles = append(m.Triangles, [3]int{a, b, c}, [3]int{a, c, d})
				} else {
					m.Triangles = append(m.Triangles, [3]int{a, c, b}, [3]int{a, d, c})
				}
			}
		}
	}
	return m
}

// Config says which images there are.
type Config struct {
	// Size is the width and height in pixels, 16 to 4096; 0 means 96.
	Size int
	// Seed selects the data set: image i of seed k depends on nothing else.
	Seed uint64
	// EvenBins gives image i the depth range i mod 3, so that near, medium and
	// far are equally many; otherwise the range is drawn.
	EvenBins bool
}

const (
	minSize     = 16
	maxSize     = 4096
	defaultSize = 96
)

// withDefaults fills in the size and refuses one out of range.
func (c Config) withDefaults() (Config, error) {
	if c.Size == 0 {
		c.Size = defaultSize
	}
	if c.Size < minSize || c.Size > maxSize {
		return c, fmt.Errorf("cubesat: image size %d is outside %d..%d", c.Size, minSize, maxSize)
	}
	return c, nil
}

// Intrinsics is the row-major camera matrix of an image of size x size pixels:
// focal length size, principal point in the middle.
func Intrinsics(size int) [9]float64 {
	s := float64(size)
	return [9]float64{s, 0, s / 2, 0, s, s / 2, 0, 0, 1}
}

// DepthRange is the range of the depth of the box centre, in mm: 1.1 to 2.6
// diameters. Its thirds are the bins near, medium and far.
func DepthRange() (near, far float64) {
	d := Diameter()
	return 1.1 * d, 2.6 * d
}
