package wdr

import (
	"cmp"
	"slices"
)

// convexHull lists the corners of the hull in order (Andrew's monotone chain).
func convexHull(points [][2]float64) [][2]float64 {
	p := slices.Clone(points)
	slices.SortFunc(p, func(a, b [2]float64) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	var hull [][2]float64
	for pass := 0; pass < 2; pass++ {
		start := len(hull)
		for _, q := range p {
			for len(hull) >= start+2 && turn(hull[len(hull)-2], hull[len(hull)-1], q) <= 0 {
				hull = hull[:len(hull)-1]
			}
			hull = append(hull, q)
		}
		hull = hull[:len(hull)-1]
		slices.Reverse(p)
	}
	return hull
}

func turn(a, b, c [2]float64) float64 {
	return (b[0]-a[0])*(c[1]-a[1]) - (b[1]-a[1])*(c[0]-a[0])
}

func inside(hull [][2]float64, x, y float64) bool {
	if len(hull) < 3 {
		return false
	}
	for i, a := range hull {
		if turn(a, hull[(i+1)%len(hull)], [2]float64{x, y}) < 0 {
			return false
		}
	}
	return true
}
