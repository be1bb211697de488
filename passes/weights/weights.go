// Package weights finds the trained tensors of a graph: what counts as a parameter, what is quantized, what a layer is.
package weights

import (
	"mqatc/onnx/ir"
)

// Kind says what a trained tensor is to the operator that reads it.
type Kind uint8

// Kinds of trained tensors. Only a Weight is quantized; the others are trained in float.
const (
	Weight Kind = iota // multiplied and summed over: Conv, ConvTranspose, Gemm, MatMul, of rank >= 2
	Bias               // added per output channel
	Scale              // multiplied per channel: normalizations, decomposed ones included, learned scalars, PRelu slopes
	Shift              // added per channel by a normalization
	Other              // multiplied and summed over by operators whose weights stay float: LSTM, GRU, RNN, DeformConv
)

// String is the kind's name.
func (k Kind) String() string { return [...]string{"weight", "bias", "scale", "shift", "other"}[k] }

// Param is one trained tensor with the nodes that read it, in graph order.
type Param struct {
	Value *ir.Value
	Kind  Kind
	Nodes []*ir.Node
}

// Decays reports whether weight decay is meant for the tensor: for what is multiplied and summed over.
func (p Param) Decays() bool { return p.Kind == Weight || p.Kind == Other }

// Elements is the number of elements.
func (p Param) Elements() int64 {
	if p.Value.Init() == nil {
		return 0
	}
	return p.Value.Init().Len()
}

// Copies is how often the tensor is used on maps of one size: a head that all levels of a pyramid share is used once, what two pyramids
// share is used twice. Readers whose sizes are not known count as of one size.
func (p Param) Copies() int64 {
	most, of := int64(1), map[string]int64{}
	for _, n := range p.Nodes {
		size := ""
		if o := n.Output(0); o != nil {
			size = o.Shape().String()
		}
		of[size]++
		most = max(most, of[size])
	}
	return most
}

// Copies are those of all trained tensors of g, by name.
func Copies(g *ir.Graph) map[string]int64 {
	out := map[string]int64{}
	for _, p := range Find(g) {
		out[p.Value.Name()] = p.Copies()
	}
	return out
}

// Find lists the trained tensors of g, each once, in the graph order of their first reader. They are the float constants that
// are weight, bias, scale or shift of a Conv, ConvTranspose, DeformConv, Gemm, MatMul, LSTM, GRU, RNN or a normalization, decomposed
// ones included; running statistics, shape constants, anchors and the constants of activation functions are not among them.
func Find(g *ir.Graph) []Param {
	var out []Param
	at := map[*ir.Value]int{}
	learned := map[*ir.Value]bool{} // values computed with the help of a trained tensor
	add := func(v *ir.Value, n *ir.Node, k Kind) {
		if v == nil || v.Init() == nil || !v.Init().DType().IsFloat() || v.Init().Len() == 0 {
			return
		}
		if k == Weight && len(v.Init().Dims()) < 2 {
			k = Scale
		}
		if i, ok := at[v]; ok {
			if ns := out[i].Nodes; ns[len(ns)-1] != n {
				out[i].Nodes = append(ns, n)
			}
			return
		}
		at[v] = len(out)
		out = append(out, Param{v, k, []*ir.Node{n}})
	}
	for n := g.First(); n != nil; n = n.Next() {
		touched := false
		for _, v := range n.Inputs() {
			touched = touched || (v != nil && learned[v])
		}
		switch {
		case n.Is("Conv"), n.Is("ConvTranspose"):
			add(source(n.Input(1)), n, Weight)
			add(source(n.Input(2)), n, Bias)
			touched = true
		case n.Is("Gemm"):
			add(source(n.Input(0)), n, Weight)
			add(source(n.Input(1)), n, Weight)
			add(source(n.Input(2)), n, Bias)
			touched = true
		case n.Is("MatMul"):
			for i := 0; i < 2; i++ {
				if w := source(n.Input(i)); w != nil && w.Init() != nil {
					add(w, n, Weight)
					touched = true
				}
			}
		case n.Is("BatchNormalization"), n.Is("InstanceNormalization"), n.Is("LayerNormalization"), n.Is("GroupNormalization"),
			n.Is("RMSNormalization"):
			if !unit(n) {
				add(source(n.Input(1)), n, Scale)
				add(source(n.Input(2)), n, Shift)
			}
			touched = true
		case n.Is("LSTM"), n.Is("GRU"), n.Is("RNN"):
			for _, in := range []struct {
				at   int
				kind Kind
			}{{1, Other}, {2, Other}, {3, Bias}, {7, Scale}} {
				for _, v := range joined(n.Input(in.at), 0) {
					add(v, n, in.kind)
				}
			}
			touched = true
		case n.Is("DeformConv"):
			add(source(n.Input(1)), n, Other)
			add(source(n.Input(3)), n, Bias)
			touched = true
		case n.Is("PRelu"):
			add(source(n.Input(1)), n, Scale)
		case n.Is("Mul"), n.Is("Add"):
			if c := affine(n, learned); c != nil {
				k := Scale
				if n.Op == "Add" {
					k = Shift
					if p := n.Input(0).Producer(); p != nil && (p.Is("ConvTranspose") || p.Is("Conv") || p.Is("MatMul")) {
						k = Bias
					}
				}
				add(c, n, k)
			}
		}
		if touched {
			for _, o := range n.Outputs() {
				learned[o] = true
			}
		}
	}
	return out
}

// source follows a constant through operators that only pass it on.
func source(v *ir.Value) *ir.Value {
	for i := 0; v != nil && i < 8; i++ {
		p := v.Producer()
		if p == nil || !(p.Is("Identity") || p.Is("Cast") || p.Is("Transpose") || p.Is("Reshape") || p.Is("Unsqueeze") || p.Is("Squeeze")) {
			return v
		}
		v = p.Input(0)
	}
	return v
}

// joined lists the constants that v is put together from by Slice and Concat, as exporters sort the gates of recurrent operators.
func joined(v *ir.Value, depth int) []*ir.Value {
	v = source(v)
	if v == nil || depth > 8 {
		return nil
	}
	p, from := v.Producer(), 0
	switch {
	case p == nil:
		return []*ir.Value{v}
	case p.Is("Slice"):
		from = 1
	case p.Is("Concat"):
		from = len(p.Inputs())
	}
	var out []*ir.Value
	for _, in := range p.Inputs()[:from] {
		out = append(out, joined(in, depth+1)...)
	}
	return out
}

// unit reports an InstanceNormalization whose scale and shift only fill the operator's slots (all ones and zeros), as in a
// decomposed group normalization.
func unit(n *ir.Node) bool {
	if !n.Is("InstanceNormalization") {
		return false
	}
	for i, want := range map[int]float64{1: 1, 2: 0} {
		v := source(n.Input(i))
		if v == nil || v.Init() == nil {
			return false
		}
		f, err := v.Init().Floats()
		if err != nil {
			return false
		}
		for _, x := range f {
			if x != want {
				return false
			}
		}
	}
	return true
}

// affine returns the constant of a Mul or Add that scales or shifts a learned value per channel, or wholly where it has the
// look of a parameter: rank 1 or more, or directly behind a convolution. Constants of activation functions are rank-0.
func affine(n *ir.Node, learned map[*ir.Value]bool) *ir.Value {
	for i := 0; i < 2; i++ {
		c, x := source(n.Input(i)), n.Input(1-i)
		if c == nil || x == nil || c.Init() == nil || !c.Init().DType().IsFloat() || !learned[x] {
			continue
		}
		dims := c.Init().Dims()
		size := c.Init().Len()
		if size == 1 {
			p := x.Producer()
			if len(dims) > 0 || (p != nil && (p.Is("Conv") || p.Is("Gemm"))) {
				return c
			}
			continue
		}
		if channels(x, dims, size) {
			return c
		}
	}
	return nil
}

// channels reports whether a constant of dims runs along the channel axis of x alone: axis 1 of a feature map, the last of a matrix.
func channels(x *ir.Value, dims []int64, size int64) bool {
	s := x.Shape()
	if !s.HasRank() || len(dims) > len(s) || len(s) < 2 {
		return false
	}
	axis := 1
	if len(s) < 4 {
		axis = len(s) - 1
	}
	if s[axis].Known() && s[axis].Size != size {
		return false
	}
	k := axis - (len(s) - len(dims))
	return k >= 0 && k < len(dims) && dims[k] == size
}
