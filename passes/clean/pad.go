package clean

import (
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/pass"
)

// pooledPads writes the padding of a MaxPool without any as auto_pad=VALID where it reads a Pad of zeros.
//
// Workaround: onnxruntime 1.30 joins such a Pad to the MaxPool from its basic optimizations on unless the MaxPool has auto_pad, although
// a MaxPool's own padding never wins: where all of a window at the border is negative, its result changes from level to level. 1.32 does not.
func pooledPads(_ *pass.Ctx, g *ir.Graph) (bool, error) {
	changed := false
	for _, n := range g.Nodes() {
		if !n.Is("MaxPool") || n.Str("auto_pad", "NOTSET") != "NOTSET" || n.Int("ceil_mode", 0) != 0 || n.Input(0) == nil || !zeroPad(n.Input(0).Producer()) {
			continue
		}
		if a := n.Attr("pads"); a != nil && slices.ContainsFunc(a.Ints, func(k int64) bool { return k != 0 }) {
			continue
		}
		n.RemoveAttr("pads")
		n.SetAttr(ir.AString("auto_pad", "VALID"))
		changed = true
	}
	return changed, nil
}

// zeroPad reports whether n is a Pad of constant zeros.
func zeroPad(n *ir.Node) bool {
	if n == nil || !n.Is("Pad") || n.Str("mode", "constant") != "constant" {
		return false
	}
	if v := n.Input(2); v != nil {
		f, ok := op.ConstFloats(v)
		return ok && len(f) == 1 && f[0] == 0
	}
	return true
}
