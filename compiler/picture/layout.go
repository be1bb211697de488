package picture

import (
	"cmp"
	"fmt"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// Sizes in pixels.
const (
	boxW, boxH  = 168, 58
	pillW       = 150
	pillLine    = 15
	stackGap    = 14
	portGap     = 13
	gutterW     = 34  // between the columns of a module
	labelW      = 150 // for the names of values that leave a module, behind its last column
	trackW      = 9   // between parallel lines
	marginLeft  = 118
	rowPad      = 12
	headerH     = 50
	channelH    = 15 // between lines along a row, room for a name
	legendLine  = 20
	marginRight = 24
)

// box is a block, or a list of inputs or outputs of the network.
type box struct {
	block    *partition.Block // nil for a pill
	lines    []string         // of a pill
	typed    bool             // every other line of a pill is the type of the one before
	output   bool             // of a pill: outputs
	band     int
	row, col int
	y, w, h  int // y from the top of its row
	outs     []*net
	ins      []*leg
}

// net is what one box gives to others: one value that leaves a module, or all that stays within it.
type net struct {
	from   *box
	label  string // "" within a module
	title  string
	y      int // port, from the top of the row
	legs   []*leg
	tracks map[int]int // by gutter
	lanes  map[int]int // by row gutter
}

// leg is the way of a net to one box.
type leg struct {
	net *net
	to  *box
	y   int // port, from the top of the row
	way int
}

// band is a module's range of columns.
type band struct {
	module      *partition.Module // nil outside the modules
	name        string
	color       int
	first, last int // columns
	pills       bool
}

type layout struct {
	p     *partition.Partition
	boxes []*box
	nets  []*net
	bands []*band
	rows  []row
	cols  int
}

// row is one resolution.
type row struct {
	stride float64
	size   string // of the maps, "" where it is not known
	h      int
}

// newLayout puts every block into a column of its module and the row of its resolution.
func newLayout(p *partition.Partition, g *ir.Graph) (*layout, error) {
	blocks, err := p.Blocks(g)
	if err != nil {
		return nil, err
	}
	l := &layout{p: p}
	home := map[*ir.Node]*box{}
	for i := range blocks {
		b := &box{block: &blocks[i], w: boxW, h: boxH}
		l.boxes = append(l.boxes, b)
		for _, n := range blocks[i].Nodes {
			home[n] = b
		}
	}
	l.findRows(g)
	l.findBands(home)
	l.findColumns(home)
	l.findNets(g, home)
	l.stack()
	return l, nil
}

func (l *layout) findRows(g *ir.Graph) {
	seen := map[float64]string{}
	of := map[float64][]*ir.Node{}
	for _, b := range l.boxes {
		of[b.block.Stride] = append(of[b.block.Stride], b.block.Nodes...)
	}
	for s, nodes := range of {
		seen[s] = mapSize(nodes)
	}
	for _, v := range g.Inputs() {
		if s := v.Shape(); !v.IsInitializer() && len(s) == 4 {
			if _, ok := seen[1]; !ok {
				seen[1] = ""
			}
		}
	}
	for s, size := range seen {
		l.rows = append(l.rows, row{stride: s, size: size})
	}
	rank := func(r row) float64 {
		if r.stride > 0 {
			return r.stride
		}
		return 1e9 - r.stride
	}
	slices.SortFunc(l.rows, func(a, b row) int { return cmp.Compare(rank(a), rank(b)) })
}

// mapSize is columns x rows of the maps that most nodes compute, "" where one is not known.
func mapSize(nodes []*ir.Node) string {
	count, best := map[string]int{}, ""
	for _, n := range nodes {
		o := n.Output(0)
		if o == nil || len(o.Shape()) != 4 {
			continue
		}
		y, x := o.Shape()[2], o.Shape()[3]
		if !x.Known() || !y.Known() {
			return ""
		}
		s := fmt.Sprintf("%d × %d", x.Size, y.Size)
		if count[s]++; count[s] > count[best] {
			best = s
		}
	}
	return best
}

func (l *layout) rowOf(stride float64) int {
	return max(0, slices.IndexFunc(l.rows, func(r row) bool { return r.stride == stride }))
}

// findBands lines up the modules as the network runs, what comes before and after them at the ends.
func (l *layout) findBands(home map[*ir.Node]*box) {
	behind := map[*box]bool{}
	for _, b := range l.boxes {
		for _, n := range b.block.Nodes {
			for _, x := range producers(n, home) {
				if f := home[x]; f != b && (f.block.Module != nil || behind[f]) {
					behind[b] = true
				}
			}
		}
	}
	used := map[*partition.Module]bool{}
	before, after := false, false
	for _, b := range l.boxes {
		used[b.block.Module] = true
		before = before || b.block.Module == nil && !behind[b]
		after = after || b.block.Module == nil && behind[b]
	}
	l.bands = []*band{{name: "inputs", color: -1, pills: true}}
	if before {
		l.bands = append(l.bands, &band{name: partition.Before, color: -1})
	}
	at := map[*partition.Module]int{}
	for i, m := range l.p.Modules {
		if used[m] {
			at[m] = len(l.bands)
			l.bands = append(l.bands, &band{module: m, name: m.Name, color: i})
		}
	}
	if after {
		l.bands = append(l.bands, &band{name: partition.After, color: -1})
	}
	l.bands = append(l.bands, &band{name: "outputs", color: -1, pills: true})
	for _, b := range l.boxes {
		switch {
		case b.block.Module != nil:
			b.band = at[b.block.Module]
		case behind[b]:
			b.band = len(l.bands) - 2
		default:
			b.band = 1
		}
		b.row = l.rowOf(b.block.Stride)
	}
}

// producers lists the nodes in boxes that n and its subgraphs read, as often as they do.
func producers(n *ir.Node, home map[*ir.Node]*box) []*ir.Node {
	var out []*ir.Node
	for _, v := range reads(n) {
		if p := v.Producer(); p != nil && home[p] != nil {
			out = append(out, p)
		}
	}
	return out
}

// reads lists the values that n and its subgraphs read.
func reads(n *ir.Node) []*ir.Value {
	var out []*ir.Value
	for _, v := range n.Inputs() {
		if v != nil {
			out = append(out, v)
		}
	}
	for _, s := range n.Subgraphs() {
		for _, x := range s.Nodes() {
			out = append(out, reads(x)...)
		}
	}
	return out
}

// findColumns puts a block one column behind those of its module that it reads; where blocks read one another in a circle, behind those
// that come first in the graph.
func (l *layout) findColumns(home map[*ir.Node]*box) {
	place := map[*box]int{}
	reads := map[*box][]*box{}
	for i, b := range l.boxes {
		place[b] = i
		for _, n := range b.block.Nodes {
			for _, p := range producers(n, home) {
				if f := home[p]; f != b && f.band == b.band && !slices.Contains(reads[b], f) {
					reads[b] = append(reads[b], f)
				}
			}
		}
	}
	settle := func(only func(b, f *box) bool) bool {
		for range l.boxes {
			still := true
			for _, b := range l.boxes {
				for _, f := range reads[b] {
					if only(b, f) && b.col <= f.col {
						b.col, still = f.col+1, false
					}
				}
			}
			if still {
				return true
			}
		}
		return false
	}
	if !settle(func(b, f *box) bool { return true }) {
		for _, b := range l.boxes {
			b.col = 0
		}
		settle(func(b, f *box) bool { return place[f] < place[b] })
	}
	wide := make([]int, len(l.bands))
	for _, b := range l.boxes {
		wide[b.band] = max(wide[b.band], b.col+1)
	}
	for i, b := range l.bands {
		b.first = l.cols
		l.cols += max(wide[i], 1)
		b.last = l.cols - 1
	}
	for _, b := range l.boxes {
		b.col += l.bands[b.band].first
	}
}

// findNets connects the boxes, the network's inputs and outputs included.
func (l *layout) findNets(g *ir.Graph, home map[*ir.Node]*box) {
	blocks := slices.Clone(l.boxes)
	inside := map[*box]*net{}
	cut := map[*ir.Value]*net{}
	pills := map[*ir.Value]*box{}
	for _, v := range g.Inputs() {
		if v.IsInitializer() {
			continue
		}
		stride := float64(partition.NoMap)
		if len(v.Shape()) == 4 {
			stride = 1
		}
		b := &box{lines: []string{v.Name(), v.Type.String()}, typed: true, w: pillW, row: l.rowOf(stride), col: l.bands[0].first}
		b.h = 8 + pillLine*len(b.lines)
		pills[v] = b
		l.boxes = append(l.boxes, b)
	}
	for _, b := range blocks {
		for _, n := range b.block.Nodes {
			for _, v := range reads(n) {
				from := pills[v]
				if v.Producer() != nil {
					from = home[v.Producer()]
				}
				if from != nil && from != b {
					l.connect(from, b, v, inside, cut)
				}
			}
		}
	}
	last := len(l.bands) - 1
	for _, b := range blocks {
		var pill *box
		for _, n := range b.block.Nodes {
			for _, o := range n.Outputs() {
				if !o.IsOutput() {
					continue
				}
				if pill == nil {
					pill = &box{output: true, w: pillW, band: last, row: b.row, col: l.bands[last].first}
					l.boxes = append(l.boxes, pill)
				}
				pill.lines = append(pill.lines, o.Name(), o.Type.String())
				l.connect(b, pill, o, inside, nil)
			}
		}
		if pill != nil {
			pill.lines, pill.typed = fewer(pill.lines)
			pill.h = 8 + pillLine*len(pill.lines)
		}
	}
}

// fewer keeps eight lines at most, names without types where there are many.
func fewer(lines []string) (out []string, typed bool) {
	const most = 8
	if len(lines) <= most {
		return lines, true
	}
	var names []string
	for i := 0; i < len(lines); i += 2 {
		names = append(names, lines[i])
	}
	if len(names) > most {
		names = append(names[:most-1], fmt.Sprintf("+ %d more", len(names)-most+1))
	}
	return names, false
}

// connect adds a leg to the net of v, or to the one of all that from gives to its own module and to the outputs where cut is nil or the
// module is the same.
func (l *layout) connect(from, to *box, v *ir.Value, inside map[*box]*net, cut map[*ir.Value]*net) {
	own := cut == nil || from.band == to.band
	n := cut[v]
	if own {
		n = inside[from]
	}
	if n == nil {
		n = &net{from: from, tracks: map[int]int{}, lanes: map[int]int{}}
		if own {
			inside[from] = n
		} else {
			cut[v] = n
			if from.block != nil {
				n.label = v.Name()
			}
			n.title = v.Name() + " " + v.Type.String()
		}
		l.nets = append(l.nets, n)
		from.outs = append(from.outs, n)
	}
	for _, g := range n.legs {
		if g.to == to {
			return
		}
	}
	g := &leg{net: n, to: to}
	n.legs = append(n.legs, g)
	to.ins = append(to.ins, g)
}

// stack gives boxes their heights and places in the rows, and their lines the places where they end.
func (l *layout) stack() {
	cells := map[[2]int]int{}
	for _, b := range l.boxes {
		b.h = max(b.h, portGap*(max(len(b.outs), len(b.ins))+1))
		if b.output {
			b.h = max(b.h, b.ins[0].net.from.h)
		}
		k := [2]int{b.row, b.col}
		if cells[k] == 0 {
			cells[k] = rowPad
		}
		b.y = cells[k]
		cells[k] += b.h + stackGap
		l.rows[b.row].h = max(l.rows[b.row].h, cells[k]-stackGap+rowPad)
	}
	for _, b := range l.boxes {
		for i, n := range b.outs {
			n.y = b.y + b.h*(i+1)/(len(b.outs)+1)
		}
	}
	for _, b := range l.boxes {
		slices.SortStableFunc(b.ins, func(x, y *leg) int {
			return cmp.Or(cmp.Compare(x.net.from.row, y.net.from.row), cmp.Compare(x.net.y, y.net.y))
		})
		for i, g := range b.ins {
			g.y = b.y + b.h*(i+1)/(len(b.ins)+1)
		}
	}
	for i := range l.rows {
		l.rows[i].h = max(l.rows[i].h, 40)
	}
}
