package picture

import "slices"

// Ways of a leg.
const (
	straight = iota // along the row of the source, then up or down before the target
	late            // up or down behind the source, then along the row of the target
	channel         // along the channel above the row of the target
)

// route chooses a way for every leg, gives each line a track of its own in the gutters that it goes up or down in and in the channels
// that it goes along, and returns how many there are of each.
func (l *layout) route() (tracks, lanes []int) {
	tracks, lanes = make([]int, l.cols+1), make([]int, len(l.rows))
	nets := slices.Clone(l.nets)
	slices.SortStableFunc(nets, func(a, b *net) int {
		if a.from.col != b.from.col {
			return a.from.col - b.from.col
		}
		return a.from.row - b.from.row
	})
	track := func(n *net, gutter int) {
		if _, ok := n.tracks[gutter]; !ok {
			n.tracks[gutter] = tracks[gutter]
			tracks[gutter]++
		}
	}
	for _, n := range nets {
		for _, g := range n.legs {
			from, to := n.from, g.to
			behind, before := from.col+1, to.col
			switch {
			case to.col > from.col && l.free(from.row, n.y, from.col+1, to.col-1):
				g.way = straight
				track(n, before)
			case to.col > from.col && l.free(to.row, g.y, from.col+1, to.col-1):
				g.way = late
				track(n, behind)
			default:
				g.way = channel
				track(n, behind)
				track(n, before)
				if _, ok := n.lanes[to.row]; !ok {
					n.lanes[to.row] = lanes[to.row]
					lanes[to.row]++
				}
			}
		}
	}
	return tracks, lanes
}

// free reports whether a line along a row meets no box in columns first to last.
func (l *layout) free(row, y, first, last int) bool {
	for _, b := range l.boxes {
		if b.row == row && b.col >= first && b.col <= last && y > b.y-6 && y < b.y+b.h+6 {
			return false
		}
	}
	return true
}
