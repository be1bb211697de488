package pose

import (
	"math"

	"gonum.org/v1/gonum/spatial/kdtree"
)

// ADD is the mean distance between corresponding model points under two poses
// (Hinterstoisser et al., ACCV 2012).
func ADD(est, truth *Pose, points [][3]float64) float64 {
	var sum float64
	for _, x := range points {
		sum += math.Sqrt(distance2(est.Apply(x), truth.Apply(x)))
	}
	return sum / float64(len(points))
}

// Diameter is the largest distance between two points.
func Diameter(points [][3]float64) float64 {
	var d float64
	for i, a := range points {
		for _, b := range points[:i] {
			d = max(d, distance2(a, b))
		}
	}
	return math.Sqrt(d)
}

// Surface is a set of model points prepared for nearest-neighbour errors.
type Surface struct {
	Points [][3]float64
	tree   *kdtree.Tree
}

// NewSurface builds the search tree; there must be a point.
func NewSurface(points [][3]float64) *Surface {
	items := make(treePoints, len(points))
	for i := range points {
		items[i] = (*treePoint)(&points[i])
	}
	return &Surface{Points: points, tree: kdtree.New(items, false)}
}

// ADI is the mean over the model points under the true pose of the distance to
// the nearest model point under the estimate, as bop_toolkit's adi.
func (s *Surface) ADI(est, truth *Pose) float64 { return s.nearest(truth, est) }

// ADIPaper is equation 4 of the MQAT paper: the mean over the model points
// under the estimate of the distance to the nearest one under the true pose.
func (s *Surface) ADIPaper(est, truth *Pose) float64 { return s.nearest(est, truth) }

// nearest is the mean over points under pose from of the distance to the
// nearest point under pose to. Distances do not change under a rigid motion, so
// the search runs in the model frame, where one tree serves all poses.
func (s *Surface) nearest(from, to *Pose) float64 {
	var sum float64
	var q treePoint
	for _, x := range s.Points {
		q = treePoint(to.inverseApply(from.Apply(x)))
		_, d2 := s.tree.Nearest(&q)
		sum += math.Sqrt(d2)
	}
	return sum / float64(len(s.Points))
}

// treePoint implements kdtree.Comparable.
type treePoint [3]float64

func (p *treePoint) Compare(c kdtree.Comparable, d kdtree.Dim) float64 {
	return p[d] - c.(*treePoint)[d]
}

func (p *treePoint) Dims() int { return 3 }

func (p *treePoint) Distance(c kdtree.Comparable) float64 {
	return distance2([3]float64(*p), [3]float64(*c.(*treePoint)))
}

// treePoints implements kdtree.Interface.
type treePoints []*treePoint

func (p treePoints) Index(i int) kdtree.Comparable { return p[i] }

func (p treePoints) Len() int { return len(p) }

func (p treePoints) Slice(start, end int) kdtree.Interface { return p[start:end] }

func (p treePoints) Pivot(d kdtree.Dim) int {
	plane := treePlane{p, d}
	return kdtree.Partition(plane, kdtree.MedianOfMedians(plane))
}

// treePlane sorts points along one dimension.
type treePlane struct {
	treePoints
	dim kdtree.Dim
}

func (p treePlane) Less(i, j int) bool { return p.treePoints[i][p.dim] < p.treePoints[j][p.dim] }

func (p treePlane) Swap(i, j int) {
	p.treePoints[i], p.treePoints[j] = p.treePoints[j], p.treePoints[i]
}

func (p treePlane) Slice(start, end int) kdtree.SortSlicer {
	return treePlane{p.treePoints[start:end], p.dim}
}
