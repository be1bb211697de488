package text

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"strings"

	"mqatc/onnx/ir"
)

// Diff tells what it takes to get from a to b, one line for each site: "-" is gone, "+" is new, "~" is changed. Nodes are matched by
// the names of their outputs, then by their own names. It is empty for models that do not differ in graph, types or values.
func Diff(a, b *ir.Model) string {
	d := &differ{}
	d.scalar("ir_version", a.IRVersion, b.IRVersion)
	d.scalar("opset_import", opsets(a.Opsets), opsets(b.Opsets))
	d.scalar("producer", a.Producer+" "+a.ProducerVersion, b.Producer+" "+b.ProducerVersion)
	d.meta("metadata", a.Meta, b.Meta)
	d.graph("", a.Graph, b.Graph)
	return d.b.String()
}

type differ struct{ b strings.Builder }

func (d *differ) line(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

func (d *differ) scalar(what string, a, b any) {
	if a != b {
		d.line("~ %s: %v -> %v", what, a, b)
	}
}

func (d *differ) meta(what string, a, b ir.Meta) {
	for _, kv := range a {
		if v, ok := b.Get(kv.Key); !ok {
			d.line("- %s %q", what, kv.Key)
		} else if v != kv.Value {
			d.line("~ %s %q: %s -> %s", what, kv.Key, short(kv.Value), short(v))
		}
	}
	for _, kv := range b {
		if _, ok := a.Get(kv.Key); !ok {
			d.line("+ %s %q: %s", what, kv.Key, short(kv.Value))
		}
	}
}

// short quotes a string, cut to what fits on a line.
func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q... (%d bytes)", s[:60], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func (d *differ) graph(site string, a, b *ir.Graph) {
	if a == nil || b == nil {
		return
	}
	start := d.b.Len()
	d.values(site+"input", a.Inputs(), b.Inputs())
	d.outputs(site, a, b)
	d.initializers(site, a, b)
	d.nodes(site, a, b)
	if d.b.Len() > start && (a.NumNodes() != b.NumNodes() || len(a.Initializers()) != len(b.Initializers())) {
		d.line("= %sgraph %q: %d -> %d nodes, %d -> %d initializers", site, b.Name, a.NumNodes(), b.NumNodes(), len(a.Initializers()), len(b.Initializers()))
	}
}

func (d *differ) values(what string, a, b []*ir.Value) {
	old := map[string]*ir.Value{}
	for _, v := range a {
		old[v.Name()] = v
	}
	seen := map[string]bool{}
	for _, v := range b {
		seen[v.Name()] = true
	}
	for _, v := range a {
		if !seen[v.Name()] {
			d.line("- %s %q %s", what, v.Name(), typeString(v.Type, true))
		}
	}
	for _, v := range b {
		u := old[v.Name()]
		if u == nil {
			d.line("+ %s %q %s", what, v.Name(), typeString(v.Type, true))
		} else if s, t := typeString(u.Type, true), typeString(v.Type, true); s != t {
			d.line("~ %s %q: %s -> %s", what, v.Name(), s, t)
		}
	}
}

// outputs tells of outputs that came and went; their types are told at the nodes that make them.
func (d *differ) outputs(site string, a, b *ir.Graph) {
	names := func(g *ir.Graph) string {
		var s []string
		for _, v := range g.Outputs() {
			s = append(s, quoteName(v.Name()))
		}
		return strings.Join(s, ", ")
	}
	if s, t := names(a), names(b); s != t {
		d.line("~ %soutputs: %s -> %s", site, s, t)
	}
}

func (d *differ) initializers(site string, a, b *ir.Graph) {
	old := map[string]*ir.Value{}
	for _, v := range a.Initializers() {
		old[v.Name()] = v
	}
	seen := map[string]bool{}
	for _, v := range b.Initializers() {
		seen[v.Name()] = true
	}
	for _, v := range a.Initializers() {
		if !seen[v.Name()] {
			d.line("- %sinitializer %q %s", site, v.Name(), typeString(v.Type, true))
		}
	}
	for _, v := range b.Initializers() {
		u := old[v.Name()]
		if u == nil {
			d.line("+ %sinitializer %q %s%s", site, v.Name(), typeString(v.Type, true), preview(v.Init()))
			continue
		}
		if what := tensorChange(u.Init(), v.Init()); what != "" {
			d.line("~ %sinitializer %q: %s", site, v.Name(), what)
		}
	}
}

// preview shows a tensor of a few elements.
func preview(t *ir.Tensor) string {
	if t == nil || t.Len() > 8 {
		return ""
	}
	p := &printer{inNote: true}
	p.data(t)
	return " = " + p.b.String()
}

// tensorChange tells how two tensors differ; empty when they do not.
func tensorChange(a, b *ir.Tensor) string {
	if a == nil || b == nil {
		if a != b {
			return "dense and sparse"
		}
		return ""
	}
	if s, t := typeString(a.Type(), true), typeString(b.Type(), true); s != t {
		return s + " -> " + t + preview(b)
	}
	if a.DType() == ir.String {
		if fmt.Sprintf("%q", a.Strings()) == fmt.Sprintf("%q", b.Strings()) {
			return ""
		}
		return "other strings"
	}
	if bytes.Equal(a.Raw(), b.Raw()) {
		return ""
	}
	if a.Len() <= 8 {
		return strings.TrimPrefix(preview(a), " = ") + " -> " + strings.TrimPrefix(preview(b), " = ")
	}
	x, err1 := a.Floats()
	y, err2 := b.Floats()
	if err1 != nil || err2 != nil {
		return "other values"
	}
	count, worst := 0, 0.0
	for i := range x {
		if x[i] != y[i] {
			count++
			worst = max(worst, math.Abs(x[i]-y[i]))
		}
	}
	return fmt.Sprintf("%d of %d values changed, by %.3g at most", count, len(x), worst)
}

func firstOutput(n *ir.Node) string {
	for _, o := range n.Outputs() {
		if o.Name() != "" {
			return o.Name()
		}
	}
	return ""
}

// pairs matches nodes of a with nodes of b.
func pairs(a, b []*ir.Node) map[*ir.Node]*ir.Node {
	of := map[*ir.Node]*ir.Node{}
	taken := map[*ir.Node]bool{}
	match := func(key func(*ir.Node) string) {
		index := map[string]*ir.Node{}
		for _, n := range b {
			if k := key(n); k != "" && !taken[n] && index[k] == nil {
				index[k] = n
			}
		}
		for _, n := range a {
			if k := key(n); k != "" && of[n] == nil {
				if m := index[k]; m != nil && !taken[m] {
					of[n], taken[m] = m, true
				}
			}
		}
	}
	match(firstOutput)
	match(func(n *ir.Node) string {
		if n.Name == "" {
			return ""
		}
		return n.Op + "\x00" + n.Name
	})
	return of
}

func (d *differ) nodes(site string, a, b *ir.Graph) {
	as, bs := a.Nodes(), b.Nodes()
	to := pairs(as, bs)
	from := map[*ir.Node]*ir.Node{}
	for n, m := range to {
		from[m] = n
	}
	next := 0
	gone := func(until *ir.Node) {
		for ; next < len(as) && as[next] != until; next++ {
			if to[as[next]] == nil {
				d.line("- %s%s", site, nodeLine(as[next]))
			}
		}
	}
	position := map[*ir.Node]int{}
	for i, n := range as {
		position[n] = i
	}
	for _, m := range bs {
		n := from[m]
		if n == nil {
			by := ""
			if m.Pass != "" {
				by = "  # " + m.Pass
			}
			d.line("+ %s%s%s", site, nodeLine(m), by)
			continue
		}
		if position[n] >= next {
			gone(n)
		}
		d.node(site, n, m)
	}
	gone(nil)
}

// nodeLine is a node without its attributes' large values.
func nodeLine(n *ir.Node) string {
	op, ok := plainOp(n)
	if !ok {
		op = fmt.Sprintf("%q.%q", n.Domain, n.Op)
	}
	var in, out []string
	for _, v := range n.Inputs() {
		if v == nil {
			in = append(in, `""`)
		} else {
			in = append(in, quoteName(v.Name()))
		}
	}
	for _, v := range n.Outputs() {
		out = append(out, quoteName(v.Name()))
	}
	return fmt.Sprintf("%s = %s (%s)", strings.Join(out, ", "), op, strings.Join(in, ", "))
}

func valueName(v *ir.Value) string {
	if v == nil {
		return `""`
	}
	return quoteName(v.Name())
}

// node compares two nodes that stand for each other.
func (d *differ) node(site string, a, b *ir.Node) {
	var what []string
	add := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	if a.Op != b.Op || a.Domain != b.Domain || a.Overload != b.Overload {
		add("operator %s -> %s", a.Op, b.Op)
	}
	if a.Name != b.Name {
		add("name %q -> %q", a.Name, b.Name)
	}
	for i := range max(len(a.Inputs()), len(b.Inputs())) {
		if s, t := valueName(a.Input(i)), valueName(b.Input(i)); s != t {
			add("input %d %s -> %s", i, s, t)
		}
	}
	for i := range max(len(a.Outputs()), len(b.Outputs())) {
		x, y := a.Output(i), b.Output(i)
		if s, t := valueName(x), valueName(y); s != t {
			add("output %d %s -> %s", i, s, t)
		}
		if x != nil && y != nil {
			if s, t := typeString(x.Type, true), typeString(y.Type, true); s != t {
				add("%s: %s -> %s", quoteName(y.Name()), s, t)
			}
		}
	}
	for i := range a.Attrs() {
		x := &a.Attrs()[i]
		y := b.Attr(x.Name)
		if y == nil {
			add("attribute %s = %s gone", x.Name, attrText(x))
		} else if x.G == nil && y.G == nil && attrText(x) != attrText(y) {
			add("%s = %s -> %s", x.Name, attrText(x), attrText(y))
		}
	}
	for i := range b.Attrs() {
		if y := &b.Attrs()[i]; a.Attr(y.Name) == nil {
			add("attribute %s = %s new", y.Name, attrText(y))
		}
	}
	if len(what) > 0 {
		by := ""
		if b.Pass != "" && b.Pass != a.Pass {
			by = "  # " + b.Pass
		}
		d.line("~ %s%s %s: %s%s", site, b.Op, valueName(b.Output(0)), strings.Join(what, "; "), by)
	}
	for i := range a.Attrs() {
		x := &a.Attrs()[i]
		if y := b.Attr(x.Name); y != nil && x.G != nil && y.G != nil {
			d.graph(fmt.Sprintf("%s%s.%s: ", site, firstOutput(b), x.Name), x.G, y.G)
		}
	}
}

// attrText is an attribute's value on one line.
func attrText(a *ir.Attr) string {
	p := &printer{}
	p.attrNotes(a)
	notes := strings.ReplaceAll(strings.TrimSpace(p.b.String()), "\n", " ")
	p = &printer{}
	p.attr(a)
	s := p.b.String()
	if _, v, ok := strings.Cut(s, " = "); ok {
		s = v
	}
	if len(s) > 100 {
		h := fnv.New32a()
		h.Write([]byte(s))
		s = s[:100] + fmt.Sprintf("... (%d characters, %x)", len(s), h.Sum32())
	}
	if notes != "" {
		s += " " + notes
	}
	return strings.ReplaceAll(s, "\n", " ")
}
