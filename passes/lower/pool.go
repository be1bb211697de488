package lower

import "mqatc/onnx/ir"

// maxPool takes the largest of blocked values blocked, where nobody asks which they were.
func maxPool(l *lowerer, n *ir.Node) *ir.Value {
	x := n.Input(0)
	d, ok := dims4(n.Output(0))
	if !ok || l.blocked[x] == nil || !l.whole(d[1]) || n.Output(0).IsOutput() || n.Int("ceil_mode", 0) != 0 {
		return nil
	}
	return l.nchwc("MaxPool", d, []*ir.Value{l.blocked[x]}, n.Attrs()...)
}
