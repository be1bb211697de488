package clean

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// smallConstant is the size in bytes up to which integer constants are compared by value. Weights are compared by identity: two
// parameters that happen to be equal stay two.
const smallConstant = 512

// common merges nodes that compute the same thing: the same deterministic operator, attributes and inputs.
func common(c *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	first := map[string]*ir.Node{}
	ids := map[*ir.Value]int{}
	for _, n := range g.Nodes() {
		s := op.Lookup(n.Domain, n.Op)
		if s == nil || !s.Foldable() || len(n.Subgraphs()) > 0 || n.Overload != "" || n.Is("Constant") || n.Is("Dropout") {
			continue
		}
		key := nodeKey(n, ids)
		was := first[key]
		if was == nil {
			first[key] = n
			continue
		}
		if !mergeable(n, was) {
			continue
		}
		for i, o := range n.Outputs() {
			if !o.Used() {
				continue
			}
			if err := pass.Replace(o, was.Output(i)); err != nil {
				return changed, c.Errorf(n, "same as %v: %w", was, err)
			}
		}
		if err := g.Remove(n); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// mergeable reports whether every used output of n can be replaced by that of was.
func mergeable(n, was *ir.Node) bool {
	for i, o := range n.Outputs() {
		if !o.Used() {
			continue
		}
		w := was.Output(i)
		if w == nil || !pass.CanReplace(o, w) {
			return false
		}
	}
	return true
}

func nodeKey(n *ir.Node, ids map[*ir.Value]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %d", n.Domain, n.Op, len(n.Outputs()))
	for _, v := range n.Inputs() {
		b.WriteByte(' ')
		b.WriteString(valueKey(v, ids))
	}
	attrs := make([]string, 0, len(n.Attrs()))
	for i := range n.Attrs() {
		attrs = append(attrs, attrKey(&n.Attrs()[i]))
	}
	sort.Strings(attrs)
	b.WriteString(strings.Join(attrs, ""))
	return b.String()
}

func valueKey(v *ir.Value, ids map[*ir.Value]int) string {
	if v == nil {
		return "-"
	}
	if t := v.Init(); t != nil && !v.IsInput() && (t.DType() == ir.Int64 || t.DType() == ir.Int32) && len(t.Raw()) <= smallConstant {
		return fmt.Sprintf("%v%v%x", t.DType(), t.Dims(), t.Raw())
	}
	id, ok := ids[v]
	if !ok {
		id = len(ids)
		ids[v] = id
	}
	return fmt.Sprint("v", id)
}

func attrKey(a *ir.Attr) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%q %d %q", a.Name, a.Kind, a.Ref)
	switch a.Kind {
	case ir.AttrFloat:
		fmt.Fprintf(&b, " %x", math.Float32bits(a.F))
	case ir.AttrInt:
		fmt.Fprintf(&b, " %d", a.I)
	case ir.AttrString:
		fmt.Fprintf(&b, " %q", a.S)
	case ir.AttrFloats:
		for _, f := range a.Floats {
			b.Write(binary.LittleEndian.AppendUint32([]byte{' '}, math.Float32bits(f)))
		}
	case ir.AttrInts:
		fmt.Fprintf(&b, " %d", a.Ints)
	case ir.AttrStrings:
		fmt.Fprintf(&b, " %q", a.Strings)
	case ir.AttrTensor:
		if a.T != nil {
			fmt.Fprintf(&b, " %v %v %x %q", a.T.DType(), a.T.Dims(), a.T.Raw(), a.T.Strings())
		}
	default:
		fmt.Fprintf(&b, " %p", a)
	}
	return b.String()
}
