package partition

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Resolutions of a Block beside strides.
const (
	NoMap   = 0  // vectors and lists: what has no rows and columns, and does not lead back to them in its module
	Regions = -1 // what was cut out of feature maps by RoiAlign
)

// Block is a connected piece of a module at one resolution, for a person to look at.
type Block struct {
	Module *Module    // nil outside the modules
	Stride float64    // input pixels per output pixel, or NoMap or Regions
	Nodes  []*ir.Node // in graph order
}

// mostBlocks is what a person can look at; where there are more they are joined.
const mostBlocks = 110

// Blocks divides the nodes of g, the graph that p divides, into blocks, in graph order of their first nodes. Shape arithmetic is left
// out. Blocks do not need one another in a circle, unless there would be too many: then each module has one block for each resolution.
func (p *Partition) Blocks(g *ir.Graph) ([]Block, error) {
	s, err := p.splitter(g)
	if err != nil {
		return nil, err
	}
	b := &blocker{splitter: s, in: map[*ir.Node]bool{}, row: map[*ir.Node]float64{}, phase: map[*ir.Node]int{}, preds: map[*ir.Node][]*ir.Node{}}
	b.choose()
	b.rows()
	b.phases()
	group := b.connected()
	for _, coarser := range []func(*ir.Node) string{
		func(n *ir.Node) string { return fmt.Sprint(b.color[n], b.row[n], b.phase[n]) },
		func(n *ir.Node) string { return fmt.Sprint(b.color[n], b.row[n]) },
	} {
		if count(group) <= mostBlocks {
			break
		}
		for n := range b.in {
			group[n] = coarser(n)
		}
	}
	at := map[string]int{}
	var out []Block
	for _, n := range b.f.order {
		if !b.in[n] {
			continue
		}
		i, ok := at[group[n]]
		if !ok {
			i = len(out)
			at[group[n]] = i
			x := Block{Stride: b.row[n]}
			if c := b.color[n]; c > 0 {
				x.Module = p.Modules[c-1]
			}
			out = append(out, x)
		}
		out[i].Nodes = append(out[i].Nodes, n)
	}
	return out, nil
}

func count(group map[*ir.Node]string) int {
	seen := map[string]bool{}
	for _, g := range group {
		seen[g] = true
	}
	return len(seen)
}

type blocker struct {
	*splitter
	in    map[*ir.Node]bool
	row   map[*ir.Node]float64
	phase map[*ir.Node]int // how often module or resolution changed on the longest way here
	preds map[*ir.Node][]*ir.Node
}

// choose takes the nodes that compute on the network's data, not on sizes.
func (b *blocker) choose() {
	for _, n := range b.f.order {
		switch n.Op {
		case "Shape", "Size", "Constant", "ConstantOfShape", "Range":
			continue
		}
		for _, v := range n.Inputs() {
			if v != nil && v.IsInput() && !v.IsInitializer() {
				b.in[n] = true
			}
		}
		for _, p := range b.reads(n) {
			if b.in[p] {
				b.in[n] = true
				b.preds[n] = append(b.preds[n], p)
			}
		}
	}
}

// rows finds the resolution of each node. What has none for a while, as in squeeze-and-excitation or a channel shuffle, stays where it
// leads to.
func (b *blocker) rows() {
	region, flat := map[*ir.Node]bool{}, map[*ir.Node]bool{}
	for _, n := range b.f.order {
		region[n] = n.Op == "RoiAlign" || n.Op == "MaxRoiPool"
		for _, p := range b.preds[n] {
			region[n] = region[n] || region[p]
		}
		flat[n] = b.averaged(n, flat)
		switch {
		case !b.in[n]:
		case region[n]:
			b.row[n] = Regions
		case isMap(n) && !flat[n]:
			b.row[n] = b.f.stride[n]
		}
	}
	leads := map[*ir.Node]float64{}
	for i := len(b.f.order) - 1; i >= 0; i-- {
		n := b.f.order[i]
		if b.row[n] == 0 {
			b.row[n] = leads[n]
		}
		for _, p := range b.preds[n] {
			if b.color[p] == b.color[n] && b.row[n] > leads[p] {
				leads[p] = b.row[n]
			}
		}
	}
}

// averaged reports a node that shrinks a map to one value, and what is computed from such values alone.
func (b *blocker) averaged(n *ir.Node, flat map[*ir.Node]bool) bool {
	if o := n.Output(0); o != nil && len(o.Shape()) == 4 && single(o.Shape()) && n.Input(0) != nil && large(n.Input(0).Shape()) {
		return true
	}
	for _, p := range b.preds[n] {
		if !flat[p] {
			return false
		}
	}
	return len(b.preds[n]) > 0
}

// isMap reports a node that computes a feature map, or something of unknown rank.
func isMap(n *ir.Node) bool {
	o := n.Output(0)
	return o == nil || o.Type.Kind != ir.KindTensor || !o.Shape().HasRank() || o.Type.Elem.IsFloat() && len(o.Shape()) >= 4
}

func single(s ir.Shape) bool { return s[2].Known() && s[2].Size == 1 && s[3].Known() && s[3].Size == 1 }

func large(s ir.Shape) bool {
	return len(s) == 4 && (!s[2].Known() || s[2].Size > 2 || !s[3].Known() || s[3].Size > 2)
}

func (b *blocker) same(x, y *ir.Node) bool {
	return b.color[x] == b.color[y] && (b.row[x] == b.row[y] || same(b.row[x], b.row[y]))
}

func (b *blocker) phases() {
	for _, n := range b.f.order {
		for _, p := range b.preds[n] {
			k := b.phase[p]
			if !b.same(p, n) {
				k++
			}
			b.phase[n] = max(b.phase[n], k)
		}
	}
}

// connected groups the nodes of one module, resolution and phase that read one another. Groups of a module, resolution and phase
// without weights are one, and so are more than four of them.
func (b *blocker) connected() map[*ir.Node]string {
	up := map[*ir.Node]*ir.Node{}
	var root func(n *ir.Node) *ir.Node
	root = func(n *ir.Node) *ir.Node {
		if up[n] == nil {
			return n
		}
		r := root(up[n])
		up[n] = r
		return r
	}
	join := func(x, y *ir.Node) {
		if x, y = root(x), root(y); x != y {
			up[y] = x
		}
	}
	key := func(n *ir.Node) string { return fmt.Sprint(b.color[n], b.row[n], b.phase[n]) }
	for _, n := range b.f.order {
		for _, p := range b.preds[n] {
			if b.same(p, n) && b.phase[p] == b.phase[n] {
				join(p, n)
			}
		}
	}
	heavy, roots := map[*ir.Node]bool{}, map[string]map[*ir.Node]bool{}
	for n := range b.in {
		r := root(n)
		heavy[r] = heavy[r] || b.f.layer[n]
		if roots[key(n)] == nil {
			roots[key(n)] = map[*ir.Node]bool{}
		}
		roots[key(n)][r] = true
	}
	light := map[string]*ir.Node{}
	for _, n := range b.f.order {
		if !b.in[n] {
			continue
		}
		r, k := root(n), key(n)
		if len(roots[k]) < 5 && heavy[r] {
			continue
		}
		if light[k] == nil {
			light[k] = r
		}
		join(light[k], r)
	}
	at := map[*ir.Node]int{}
	for i, n := range b.f.order {
		at[n] = i
	}
	out := map[*ir.Node]string{}
	for n := range b.in {
		out[n] = fmt.Sprint("#", at[root(n)])
	}
	return out
}
