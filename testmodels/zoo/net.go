package zoo

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

// net adds the layers of a network under the names of the author's modules.
type net struct {
	*ir.Builder
	seed    uint64
	factor  float64
	batch   ir.Dim
	params  map[string]*ir.Value
	calls   map[string]int
	outputs []*ir.Value
}

func newNet(g *ir.Graph, o Options) *net {
	return &net{Builder: ir.NewBuilder(g, "", op.InferNode), seed: o.Seed, factor: o.Factor, batch: ir.Sym("N"), params: map[string]*ir.Value{}, calls: map[string]int{}}
}

// width scales a channel count; widths are multiples of 8, at least 8.
func (n *net) width(c int) int {
	if n.factor == 1 {
		return c
	}
	return max(8, 8*int(math.Round(float64(c)*n.factor/8)))
}

func (n *net) input(name string, dims ...int) *ir.Value {
	s := ir.Shape{n.batch}
	for _, d := range dims {
		s = append(s, ir.D(int64(d)))
	}
	v, err := n.G.AddInput(name, ir.TensorType(ir.Float32, s))
	if err != nil {
		return n.Fail(err)
	}
	return v
}

func (n *net) output(name string, v *ir.Value) {
	if n.Err() != nil {
		return
	}
	if err := n.G.Rename(v, name); err != nil {
		n.Fail(err)
		return
	}
	n.outputs = append(n.outputs, v)
}

func (n *net) finish() {
	if err := n.G.SetOutputs(n.outputs...); err != nil {
		n.Fail(err)
	}
}

// scope is the path of calls to a module, as torch.onnx writes it: a numbered child repeats its parent's name.
func scope(module string) string {
	if module == "" {
		return "/"
	}
	parts := strings.Split(module, ".")
	s := "/"
	for i, p := range parts {
		if i > 0 && p[0] >= '0' && p[0] <= '9' {
			s += parts[i-1] + "."
		}
		s += p + "/"
	}
	return s
}

// ops adds a node of several outputs, named after the module that calls it.
func (n *net) ops(kind, module string, outputs int, in []*ir.Value, attrs ...ir.Attr) []*ir.Value {
	name := scope(module) + kind
	n.calls[name]++
	if c := n.calls[name]; c > 1 {
		name += fmt.Sprintf("_%d", c-1)
	}
	s := ir.NodeSpec{Op: kind, Name: name, Inputs: in, Attrs: attrs}
	for i := range outputs {
		s.Outputs = append(s.Outputs, fmt.Sprintf("%s_output_%d", name, i))
	}
	return n.Node(s, outputs)
}

func (n *net) op(kind, module string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
	return n.ops(kind, module, 1, in, attrs...)[0]
}

// call adds a node without attributes.
func (n *net) call(kind, module string, in ...*ir.Value) *ir.Value { return n.op(kind, module, in) }

// param is the tensor of a name; the first call of a name makes it.
func (n *net) param(name string, fill func(rng *rand.Rand, v []float32), dims ...int64) *ir.Value {
	if v := n.params[name]; v != nil || n.Err() != nil {
		return v
	}
	count, err := ir.NumElements(dims)
	if err != nil {
		return n.Fail(err)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	data := make([]float32, count)
	fill(rand.New(rand.NewPCG(n.seed, h.Sum64())), data)
	t, err := ir.FromFloat32s(data, dims...)
	if err != nil {
		return n.Fail(err)
	}
	v, err := n.G.AddInitializer(name, t)
	if err != nil {
		return n.Fail(err)
	}
	n.params[name] = v
	return v
}

// spread draws evenly around 0, two numbers at a time.
func spread(deviation float64) func(*rand.Rand, []float32) {
	scale := float32(deviation * math.Sqrt(3) / (1 << 31))
	return func(rng *rand.Rand, v []float32) {
		bits := uint64(0)
		for i := range v {
			if i%2 == 0 {
				bits = rng.Uint64()
			}
			v[i] = float32(int32(bits)) * scale
			bits >>= 32
		}
	}
}

func filled(x float64) func(*rand.Rand, []float32) {
	return func(_ *rand.Rand, v []float32) {
		for i := range v {
			v[i] = float32(x)
		}
	}
}

// dim is the size of an axis that must be known.
func (n *net) dim(v *ir.Value, axis int) int {
	s := v.Shape()
	if n.Err() != nil {
		return 1
	}
	if axis >= len(s) || !s[axis].Known() || s[axis].Size < 1 {
		n.Fail(fmt.Errorf("value %s is %v: axis %d must be known", v.Name(), v.Type, axis))
		return 1
	}
	return int(s[axis].Size)
}

func (n *net) channels(v *ir.Value) int { return n.dim(v, 1) }

// list makes the inputs of a node.
func list(v ...*ir.Value) []*ir.Value { return v }
