package format

import (
	"io"
	"slices"

	"mqatc/onnx/ir"
)

// layout is an external file to be: tensors one after another.
type layout struct {
	align   int64
	tensors []*ir.Tensor
	list    []Placement
	end     int64
}

func (l *layout) add(name string, t *ir.Tensor) Placement {
	at := Placement{name, (l.end + l.align - 1) / l.align * l.align, int64(len(t.Raw()))}
	l.tensors = append(l.tensors, t)
	l.list = append(l.list, at)
	l.end = at.Offset + at.Bytes
	return at
}

// initializers adds those of the main graph that opt sends to the external file.
func (l *layout) initializers(g *ir.Graph, opt SaveOptions) map[*ir.Value]Placement {
	placed := map[*ir.Value]Placement{}
	for _, v := range g.Initializers() {
		if !MayBeExternal(v) {
			continue
		}
		n := int64(len(v.Init().Raw()))
		if opt.External != nil && !opt.External(v) || opt.External == nil && n < opt.Threshold {
			continue
		}
		placed[v] = l.add(v.Name(), v.Init())
	}
	return placed
}

// inner adds the values of Constant nodes and the initializers of subgraphs, functions' bodies included, from threshold bytes on.
// A tensor that stands in several places is stored once.
func (l *layout) inner(m *ir.Model, threshold int64) map[*ir.Tensor]Placement {
	placed := map[*ir.Tensor]Placement{}
	put := func(v *ir.Value, t *ir.Tensor) {
		if _, done := placed[t]; !done && t != nil && int64(len(t.Raw())) >= threshold && mayBeExternal(t, v.Uses()) {
			placed[t] = l.add(v.Name(), t)
		}
	}
	var walk func(g *ir.Graph)
	walk = func(g *ir.Graph) {
		if g.Outer() != nil {
			for _, v := range g.Initializers() {
				put(v, v.Init())
			}
		}
		for n := g.First(); n != nil; n = n.Next() {
			if a := n.Attr("value"); n.Is("Constant") && a != nil && len(n.Outputs()) > 0 {
				put(n.Outputs()[0], a.T)
			}
			for _, s := range n.Subgraphs() {
				walk(s)
			}
		}
	}
	walk(m.Graph)
	for _, f := range m.Functions {
		walk(f.Graph)
	}
	return placed
}

func (l *layout) write(w io.Writer) error {
	at := int64(0)
	for i, t := range l.tensors {
		if err := pad(w, l.list[i].Offset-at); err != nil {
			return err
		}
		if _, err := w.Write(t.Raw()); err != nil {
			return err
		}
		at = l.list[i].Offset + l.list[i].Bytes
	}
	return nil
}

// shapeInputs lists inputs whose values decide shapes. onnxruntime reads them while it infers shapes, when external data is not
// there yet, and refuses the model.
var shapeInputs = map[string][]int{
	"Reshape": {1}, "Expand": {1}, "Tile": {1}, "ConstantOfShape": {0}, "Resize": {1, 2, 3}, "Upsample": {1}, "Slice": {1, 2, 3, 4},
	"Pad": {1, 2, 3}, "Split": {1}, "Squeeze": {1}, "Unsqueeze": {1}, "TopK": {1}, "OneHot": {1, 2}, "Range": {0, 1, 2},
	"CenterCropPad": {1}, "AffineGrid": {1}, "ReduceSum": {1}, "ReduceMean": {1}, "ReduceMax": {1}, "ReduceMin": {1}, "ReduceProd": {1},
	"ReduceL1": {1}, "ReduceL2": {1}, "ReduceLogSum": {1}, "ReduceLogSumExp": {1}, "ReduceSumSquare": {1},
}

// MayBeExternal reports whether an initializer may lie in an external file: dense, of rank 1 at least, not of strings, and
// neither a constant that decides shapes nor a short list of int64, which may become one through Concat or Gather.
func MayBeExternal(v *ir.Value) bool { return mayBeExternal(v.Init(), v.Uses()) }

func mayBeExternal(t *ir.Tensor, uses []ir.Use) bool {
	if t == nil || t.DType() == ir.String || len(t.Dims()) == 0 || len(t.Raw()) == 0 {
		return false
	}
	if t.DType() == ir.Int64 && len(t.Dims()) == 1 && t.Len() <= 64 {
		return false
	}
	for _, u := range uses {
		if u.Node.Domain == "" && slices.Contains(shapeInputs[u.Node.Op], u.Index) {
			return false
		}
	}
	return true
}
