// Package picture draws a partitioned network as an SVG for a person to look at: modules from left to right, resolutions from top to
// bottom, chains of layers as boxes, the values that pass from module to module by name.
package picture

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	svg "github.com/ajstarks/svgo"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// Draw returns an SVG document of g, which p divides. The title stands above it. The document refers to nothing outside itself.
func Draw(title string, p *partition.Partition, g *ir.Graph) ([]byte, error) {
	l, err := newLayout(p, g)
	if err != nil {
		return nil, err
	}
	d := &drawing{layout: l}
	tracks, lanes := l.route()
	d.measure(tracks, lanes)
	var b bytes.Buffer
	d.s = svg.New(&b)
	d.s.Startview(d.w, d.h, 0, 0, d.w, d.h)
	d.s.Title(clean(title))
	d.s.Rect(0, 0, d.w, d.h, `fill="#ffffff"`)
	d.s.Group(`font-family="Helvetica, Arial, sans-serif"`, `font-size="11"`, `fill="#222222"`)
	d.legend(clean(title))
	d.bandsAndRows()
	for _, n := range l.nets {
		d.net(n)
	}
	for _, b := range l.boxes {
		d.box(b)
	}
	for _, n := range l.nets {
		d.label(n)
	}
	d.foot()
	d.s.Gend()
	d.s.End()
	return b.Bytes(), nil
}

type drawing struct {
	*layout
	s      *svg.SVG
	w, h   int
	top    int   // of the bands
	bottom int   // of the bands
	colX   []int // left edge of the boxes of a column
	gutX   []int // left edge of the gutter before a column, where lines go up and down
	gutW   []int
	rowY   []int // top of a row, below its channel
	chanY  []int // top of the channel above a row
	tracks []int
	lanes  []int
}

func (d *drawing) measure(tracks, lanes []int) {
	d.tracks, d.lanes = tracks, lanes
	edge := map[int]bool{}
	for _, b := range d.bands {
		edge[b.first] = true
	}
	x := marginLeft
	for c := range d.cols {
		room := max(gutterW, trackW*(tracks[c]+1))
		if edge[c] && c > d.bands[1].first {
			x += labelW
		}
		if c == 0 {
			room = 0
		}
		d.gutX, d.gutW = append(d.gutX, x), append(d.gutW, room)
		x += room
		d.colX = append(d.colX, x)
		x += d.width(c)
	}
	d.gutX, d.gutW = append(d.gutX, x), append(d.gutW, max(gutterW, trackW*(tracks[d.cols]+1)))
	d.w = max(x+marginRight+trackW*tracks[d.cols], 900)
	d.top = 64 + legendLine*(len(d.p.Modules)+1)
	y := d.top + headerH
	for r := range d.rows {
		d.chanY = append(d.chanY, y)
		y += 8 + channelH*lanes[r]
		d.rowY = append(d.rowY, y)
		y += d.rows[r].h + 8
	}
	d.bottom = y + 6
	d.h = d.bottom + 62
}

// width is that of a column's boxes.
func (d *drawing) width(col int) int {
	if col == 0 || col == d.cols-1 {
		return pillW
	}
	return boxW
}

func (d *drawing) trackX(n *net, gutter int) int {
	return d.gutX[gutter] + (n.tracks[gutter]+1)*d.gutW[gutter]/(d.tracks[gutter]+1)
}

// points is the polyline of a leg.
func (d *drawing) points(g *leg) [][2]int {
	n := g.net
	x1, y1 := d.colX[n.from.col]+d.width(n.from.col), d.rowY[n.from.row]+n.y
	x2, y2 := d.colX[g.to.col], d.rowY[g.to.row]+g.y
	switch g.way {
	case straight:
		x := d.trackX(n, g.to.col)
		return [][2]int{{x1, y1}, {x, y1}, {x, y2}, {x2, y2}}
	case late:
		x := d.trackX(n, n.from.col+1)
		return [][2]int{{x1, y1}, {x, y1}, {x, y2}, {x2, y2}}
	}
	a, b := d.trackX(n, n.from.col+1), d.trackX(n, g.to.col)
	y := d.chanY[g.to.row] + channelH*(n.lanes[g.to.row]+1)
	return [][2]int{{x1, y1}, {a, y1}, {a, y}, {b, y}, {b, y2}, {x2, y2}}
}

// path rounds the corners of a polyline.
func path(pts [][2]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "M%d %d", pts[0][0], pts[0][1])
	for i := 1; i < len(pts)-1; i++ {
		in, out := pts[i-1], pts[i+1]
		p := pts[i]
		r := min(5, (abs(p[0]-in[0])+abs(p[1]-in[1]))/2, (abs(p[0]-out[0])+abs(p[1]-out[1]))/2)
		fmt.Fprintf(&b, " L%d %d Q%d %d %d %d", p[0]+r*sign(in[0]-p[0]), p[1]+r*sign(in[1]-p[1]), p[0], p[1],
			p[0]+r*sign(out[0]-p[0]), p[1]+r*sign(out[1]-p[1]))
	}
	fmt.Fprintf(&b, " L%d %d", pts[len(pts)-1][0], pts[len(pts)-1][1])
	return b.String()
}

func abs(x int) int { return max(x, -x) }

func sign(x int) int { return min(max(x, -1), 1) }

func (d *drawing) net(n *net) {
	color, width := "#8a8a8a", "1.2"
	if b := d.bands[n.from.band]; n.title != "" && n.from.block != nil {
		color, width = strong(b.color), "2"
	}
	for _, g := range n.legs {
		pts := d.points(g)
		style := []string{`fill="none"`, fmt.Sprintf(`stroke="%s"`, color), fmt.Sprintf(`stroke-width="%s"`, width)}
		if n.title != "" {
			d.s.Group(`pointer-events="stroke"`)
			d.s.Title(clean(n.title))
		}
		d.s.Path(path(pts), style...)
		end := pts[len(pts)-1]
		d.s.Polygon([]int{end[0] - 7, end[0], end[0] - 7}, []int{end[1] - 4, end[1], end[1] + 4}, fmt.Sprintf(`fill="%s"`, color))
		if n.title != "" {
			d.s.Gend()
		}
	}
}

// label names a value where it leaves its module.
func (d *drawing) label(n *net) {
	if n.label == "" {
		return
	}
	last := d.bands[n.from.band].last
	edge := d.colX[last] + d.width(last) + bandPad
	done := map[int]bool{}
	for _, g := range n.legs {
		pts := d.points(g)
		for i := 1; i < len(pts); i++ {
			a, b := pts[i-1], pts[i]
			if a[1] != b[1] || min(a[0], b[0]) > edge || max(a[0], b[0]) < edge+20 || done[a[1]] {
				continue
			}
			done[a[1]] = true
			d.s.Text(edge+4, a[1]-5, tail(n.label, 24), `font-size="10"`, fmt.Sprintf(`fill="%s"`, strong(d.bands[n.from.band].color)),
				`stroke="#ffffff"`, `stroke-width="3"`, `paint-order="stroke"`)
		}
	}
}

// bandPad is between a module's boxes and its edge.
const bandPad = 12

func (d *drawing) bandsAndRows() {
	for _, b := range d.bands {
		if b.pills {
			continue
		}
		x, w := d.colX[b.first]-bandPad, d.colX[b.last]+boxW+bandPad-(d.colX[b.first]-bandPad)
		d.s.Roundrect(x, d.top, w, d.bottom-d.top, 10, 10, fmt.Sprintf(`fill="%s"`, pale(b.color)), fmt.Sprintf(`stroke="%s"`, strong(b.color)))
		most := (w - 20) / 8
		d.s.Text(x+12, d.top+20, tail(b.name, most), `font-size="14"`, `font-weight="bold"`, fmt.Sprintf(`fill="%s"`, strong(b.color)))
		if b.module != nil {
			d.s.Text(x+12, d.top+36, head(fmt.Sprintf("%s, %s parameters", b.module.Role, short(b.module.Params)), (w-20)/6), `fill="#555555"`)
		}
	}
	for r, row := range d.rows {
		y := d.rowY[r]
		if r > 0 {
			d.s.Line(10, d.chanY[r], d.w-10, d.chanY[r], `stroke="#bbbbbb"`, `stroke-dasharray="2,5"`)
		}
		name, size := fmt.Sprintf("stride %.4g", row.stride), row.size
		switch row.stride {
		case partition.NoMap:
			name, size = "no map", "vectors, lists"
		case partition.Regions:
			name, size = "regions", "behind RoIAlign"
		}
		d.s.Text(12, y+rowPad+18, name, `font-size="13"`, `font-weight="bold"`)
		d.s.Text(12, y+rowPad+34, size, `fill="#555555"`)
	}
}

func (d *drawing) box(b *box) {
	x, y := d.colX[b.col], d.rowY[b.row]+b.y
	d.s.Group(`pointer-events="all"`)
	defer d.s.Gend()
	if b.block == nil {
		d.s.Title(clean(strings.Join(b.lines, "\n")))
		d.s.Roundrect(x, y, b.w, b.h, 8, 8, `fill="#f4f4f4"`, `stroke="#777777"`)
		for i, line := range b.lines {
			if b.typed && i%2 == 1 {
				d.s.Text(x+8, y+pillLine*(i+1), head(clean(line), 24), `fill="#777777"`)
				continue
			}
			d.s.Text(x+8, y+pillLine*(i+1), tail(line, 23))
		}
		return
	}
	d.s.Title(clean(about(b.block)))
	color := d.bands[b.band].color
	d.s.Roundrect(x, y, b.w, b.h, 5, 5, `fill="#ffffff"`, fmt.Sprintf(`stroke="%s"`, strong(color)), `stroke-width="1.4"`)
	mid := y + (b.h-boxH)/2
	for i, line := range describe(b.block) {
		style := []string{`fill="#444444"`}
		if i == 0 {
			style = []string{`font-weight="bold"`, `font-size="12"`}
		}
		d.s.Text(x+9, mid+18+16*i, line, style...)
	}
}

// describe is a block in three lines: channels, operators, parameters.
func describe(b *partition.Block) []string {
	first := widths(b)
	ops := operators(b)
	if first == "" && len(ops) > 0 {
		_, first, _ = strings.Cut(ops[0], " ")
	}
	lines := []string{head(first, 24), "", ""}
	for i, o := range ops {
		s := o
		if lines[1] != "" {
			s = lines[1] + ", " + o
		}
		if rest := len(ops) - i - 1; len([]rune(s)) > 26 || rest > 0 && len([]rune(s)) > 23 {
			lines[1] += fmt.Sprintf(" +%d", len(ops)-i)
			break
		}
		lines[1] = s
	}
	if n := params(b); n > 0 {
		lines[2] = short(n) + " parameters"
	}
	return lines
}

// widths lists the channels that a block's layers give, as they come.
func widths(b *partition.Block) string {
	var list []string
	for _, n := range b.Nodes {
		w := n.Input(1)
		if w == nil || w.Init() == nil || len(w.Init().Dims()) < 2 {
			continue
		}
		d, k := w.Init().Dims(), int64(0)
		switch {
		case n.Is("Conv"), n.Is("Gemm") && n.Int("transB", 0) != 0:
			k = d[0]
		case n.Is("ConvTranspose"):
			k = d[1] * n.Int("group", 1)
		case n.Is("Gemm"), n.Is("MatMul"):
			k = d[len(d)-1]
		default:
			continue
		}
		if s := fmt.Sprint(k); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	switch {
	case len(list) == 0:
		return ""
	case len(list) == 1 && list[0] == "1":
		return "1 channel"
	case len(list) > 3:
		list = append(append(list[:2:2], "…"), list[len(list)-1])
	}
	return strings.Join(list, ", ") + " channels"
}

// operators counts a block's operators, the most frequent first, layers before others.
func operators(b *partition.Block) []string {
	count := map[string]int{}
	var order []string
	for _, n := range b.Nodes {
		if count[n.Op] == 0 {
			order = append(order, n.Op)
		}
		count[n.Op]++
	}
	rank := func(op string) int {
		switch op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul", "Resize", "RoiAlign", "NonMaxSuppression", "TopK":
			return count[op] + 1_000_000
		}
		return count[op]
	}
	slices.SortStableFunc(order, func(x, y string) int { return rank(y) - rank(x) })
	for i, op := range order {
		name := op
		if s, ok := strings.CutSuffix(op, "Normalization"); ok {
			name = s + "Norm"
		}
		order[i] = fmt.Sprintf("%d %s", count[op], name)
	}
	return order
}

// params counts the constants with which a block's nodes compute; those that another block reads first are counted there as well.
func params(b *partition.Block) int64 {
	if b.Module == nil {
		return 0
	}
	in := map[*ir.Node]bool{}
	for _, n := range b.Nodes {
		in[n] = true
	}
	sum := int64(0)
	for _, w := range b.Module.Weights {
		if slices.ContainsFunc(w.Nodes, func(n *ir.Node) bool { return in[n] }) {
			sum += w.Elements()
		}
	}
	return sum
}

// about lists a block's operators and the names of its first nodes.
func about(b *partition.Block) string {
	const most = 24
	lines := []string{strings.Join(operators(b), ", ")}
	for i, n := range b.Nodes {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(b.Nodes)-most))
			break
		}
		lines = append(lines, n.String())
	}
	return strings.Join(lines, "\n")
}
