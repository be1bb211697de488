package cubesat

import (
	"fmt"
	"math"
	"math/rand/v2"

	"mqatc/onnx/ir"
)

// Widths of the stem and the four stages, residual units per stage and width of pyramid and heads, at width factor 1.
var (
	widths = [5]int{16, 32, 64, 128, 176}
	units  = [4]int{1, 2, 2, 1}
)

const (
	pyramidWidth = 64
	slope        = 0.1 // of LeakyRelu
	classBias    = -2.2
)

// Network builds the pose network for square images of size pixels, a multiple of 32: a DarkNet-like backbone without
// normalization, a feature pyramid over strides 8, 16 and 32 and heads shared by the levels, after wide-depth-range pose
// estimation (Hu et al., CVPR 2021). At width 1 it has 958,108 parameters: backbone 666,056, pyramid 134,528, heads 157,524.
//
// The input image is float [N, 3, size, size], RGB as (x - 60) / 64. For each stride s there are the outputs cls_s [N, 1, h, w],
// logits, and reg_s [N, 16, h, w], offsets of the 8 box corners from the cell's centre in units of the anchor 3s: first all x,
// then all y. Weights are drawn from the seed: He's rule by fan-in, residual branches start small.
func Network(seed uint64, size int, width float64) (*ir.Model, error) {
	if size < 32 || size > maxSize || size%32 != 0 {
		return nil, fmt.Errorf("cubesat: network input %d is no multiple of 32 in 32..%d", size, maxSize)
	}
	if !(width >= 1.0/16 && width <= 16) {
		return nil, fmt.Errorf("cubesat: width factor %v is outside 1/16..16", width)
	}
	m := ir.NewModel("cubesat_wdr", 17)
	g := m.Graph
	image, err := g.AddInput("image", ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(3), ir.D(int64(size)), ir.D(int64(size))}))
	if err != nil {
		return nil, err
	}
	n := &netBuilder{Builder: ir.NewBuilder(g, "", nil), rng: rand.New(rand.NewPCG(seed, 0x6375626573617431)), width: width}
	n.network(image, size)
	if n.Err() != nil {
		return nil, fmt.Errorf("cubesat: %w", n.Err())
	}
	return m, nil
}

type netBuilder struct {
	*ir.Builder
	rng    *rand.Rand
	width  float64
	shared map[string]*ir.Value
	calls  map[string]int
}

func (n *netBuilder) channels(c int) int { return max(2, 2*int(math.Round(float64(c)*n.width/2))) }

func (n *netBuilder) network(x *ir.Value, size int) {
	n.shared, n.calls = map[string]*ir.Value{}, map[string]int{}
	c := n.channels(widths[0])
	x = n.act("backbone.stem", n.conv("backbone.stem.conv", x, 3, c, 3, 2, 2))
	var taps []*ir.Value
	var tapWidth []int
	for s, u := range units {
		o := n.channels(widths[s+1])
		name := fmt.Sprintf("backbone.stage%d", s+1)
		x = n.act(name+".down", n.conv(name+".down.conv", x, c, o, 3, 2, 2))
		for k := 0; k < u; k++ {
			unit := fmt.Sprintf("%s.unit%d", name, k)
			y := n.act(unit+".reduce", n.conv(unit+".reduce.conv", x, o, o/2, 1, 1, 2))
			y = n.act(unit+".expand", n.conv(unit+".expand.conv", y, o/2, o, 3, 1, 2*0.09))
			x = n.op("Add", unit, []*ir.Value{x, y})
		}
		c = o
		if s > 0 {
			taps, tapWidth = append(taps, x), append(tapWidth, o)
		}
	}
	f := n.channels(pyramidWidth)
	level := make([]*ir.Value, len(taps))
	for k := len(taps) - 1; k >= 0; k-- {
		level[k] = n.conv(fmt.Sprintf("fpn.lateral%d", k), taps[k], tapWidth[k], f, 1, 1, 1)
		if k < len(taps)-1 {
			up := n.op("Resize", fmt.Sprintf("fpn.up%d", k), []*ir.Value{level[k+1], nil, n.scales()}, ir.AString("mode", "nearest"),
				ir.AString("coordinate_transformation_mode", "asymmetric"), ir.AString("nearest_mode", "floor"))
			level[k] = n.op("Add", fmt.Sprintf("fpn.merge%d", k), []*ir.Value{level[k], up})
		}
	}
	for k := range level {
		level[k] = n.conv(fmt.Sprintf("fpn.out%d", k), level[k], f, f, 3, 1, 1)
	}
	var outputs []*ir.Value
	for k, p := range level {
		stride := 8 << k
		cls := n.tower("head.cls_tower", p, f)
		cls = n.conv("head.cls", cls, f, 1, 3, 1, -0.01)
		reg := n.tower("head.reg_tower", p, f)
		reg = n.conv("head.reg", reg, f, 16, 3, 1, -0.04)
		scale, err := ir.FromFloat32s([]float32{1}, 1)
		if err != nil {
			n.Fail(err)
			return
		}
		reg = n.op("Mul", fmt.Sprintf("head.scale%d", k), []*ir.Value{reg, n.init(fmt.Sprintf("head.scale%d.value", k), scale)})
		cells := ir.D(int64(size / stride))
		for _, o := range []struct {
			v    *ir.Value
			name string
			c    int64
		}{{cls, "cls", 1}, {reg, "reg", 16}} {
			if n.Err() != nil {
				return
			}
			if err := n.G.Rename(o.v, fmt.Sprintf("%s_%d", o.name, stride)); err != nil {
				n.Fail(err)
				return
			}
			o.v.Type = ir.TensorType(ir.Float32, ir.Shape{ir.Sym("N"), ir.D(o.c), cells, cells})
			outputs = append(outputs, o.v)
		}
	}
	if err := n.G.SetOutputs(outputs...); err != nil {
		n.Fail(err)
	}
}

func (n *netBuilder) tower(name string, x *ir.Value, f int) *ir.Value {
	for k := 0; k < 2; k++ {
		conv := fmt.Sprintf("%s.%d", name, k)
		x = n.act(conv, n.conv(conv, x, f, f, 3, 1, 2))
	}
	return x
}

// op adds a node named after the author's module, as PyTorch's exporters name theirs.
func (n *netBuilder) op(kind, module string, in []*ir.Value, attrs ...ir.Attr) *ir.Value {
	key := module + "/" + kind
	n.calls[key]++
	name := "/"
	for _, r := range module {
		if r == '.' {
			r = '/'
		}
		name += string(r)
	}
	name += "/" + kind
	if c := n.calls[key]; c > 1 {
		name += fmt.Sprintf("_%d", c-1)
	}
	return n.Node(ir.NodeSpec{Op: kind, Name: name, Inputs: in, Outputs: []string{name + "_output_0"}, Attrs: attrs}, 1)[0]
}

func (n *netBuilder) init(name string, t *ir.Tensor) *ir.Value {
	if v := n.shared[name]; v != nil || n.Err() != nil {
		return v
	}
	v, err := n.G.AddInitializer(name, t)
	if err != nil {
		return n.Fail(err)
	}
	n.shared[name] = v
	return v
}

func (n *netBuilder) scales() *ir.Value {
	return n.Floats([]float32{1, 1, 2, 2}, 4)
}

func (n *netBuilder) act(module string, x *ir.Value) *ir.Value {
	return n.op("LeakyRelu", module+".act", []*ir.Value{x}, ir.AFloat("alpha", slope))
}

// conv adds a convolution with bias. A positive gain g draws weights of variance g/((1+slope^2) fan-in) where g is 2, 1/fan-in
// where it is 1; a negative gain is the standard deviation itself. A convolution of the same name uses the same weights.
func (n *netBuilder) conv(module string, x *ir.Value, in, out, k, stride int, gain float64) *ir.Value {
	w := n.shared[module+".weight"]
	if w == nil {
		fan := float64(in * k * k)
		std := -gain
		switch {
		case gain == 1:
			std = math.Sqrt(1 / fan)
		case gain > 0:
			std = math.Sqrt(gain / ((1 + slope*slope) * fan))
		}
		v := make([]float32, out*in*k*k)
		for i := range v {
			v[i] = float32(n.rng.NormFloat64() * std)
		}
		b := make([]float32, out)
		if module == "head.cls" {
			b[0] = classBias
		}
		wt, err := ir.FromFloat32s(v, int64(out), int64(in), int64(k), int64(k))
		if err != nil {
			return n.Fail(err)
		}
		bt, err := ir.FromFloat32s(b, int64(out))
		if err != nil {
			return n.Fail(err)
		}
		w = n.init(module+".weight", wt)
		n.init(module+".bias", bt)
	}
	pad := int64(k / 2)
	return n.op("Conv", module, []*ir.Value{x, w, n.shared[module+".bias"]},
		ir.AInts("kernel_shape", int64(k), int64(k)), ir.AInts("pads", pad, pad, pad, pad), ir.AInts("strides", int64(stride), int64(stride)))
}
