package target

import (
	"fmt"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/quant"
	"mqatc/passes/weights"
)

// layers is a network with each kind of layer, of more and of fewer channels than quant.NarrowFrom: plain, strided, grouped, depthwise, transposed and shared convolutions, Gemm both ways,
// MatMul, and the activation functions that matter to placement.
func layers(t *testing.T, seed uint64) *ir.Model {
	n := newNet(t, seed, 17)
	x := n.input(1, 3, 16, 16)
	a := n.op("Relu", []*ir.Value{n.conv(x, "stem", 32, 3, 3, ir.AInts("strides", 2, 2))})
	b := n.op("LeakyRelu", []*ir.Value{n.conv(a, "grouped", 16, 8, 3, ir.AInt("group", 4))}, ir.AFloat("alpha", 0.1))
	c := n.op("Clip", []*ir.Value{n.conv(b, "depthwise", 16, 1, 3, ir.AInt("group", 16)), n.b.Float(0), n.b.Float(6)})
	shared := n.random("shared.weight", 0.2, 16, 16, 3, 3)
	pads := ir.AInts("pads", 1, 1, 1, 1)
	d := c
	for range 3 {
		d = n.op("Relu", []*ir.Value{n.op("Conv", []*ir.Value{d, shared}, pads)})
	}
	d = n.op("Add", []*ir.Value{d, c})
	d = n.op("MaxPool", []*ir.Value{d}, ir.AInts("kernel_shape", 2, 2), ir.AInts("strides", 2, 2))
	up := n.op("ConvTranspose", []*ir.Value{d, n.random("up.weight", 0.3, 16, 32, 2, 2), n.random("up.bias", 0.1, 64)}, ir.AInts("strides", 2, 2), ir.AInt("group", 2))
	e := n.op("Concat", []*ir.Value{up, a}, ir.AInt("axis", 1))
	head := n.conv(e, "head", 5, 96, 1)
	n.output(n.op("Sigmoid", []*ir.Value{head}), "map")
	f := n.op("GlobalAveragePool", []*ir.Value{n.op("HardSwish", []*ir.Value{n.conv(e, "tail", 40, 96, 3)})})
	f = n.op("Reshape", []*ir.Value{f, n.b.Int64s(1, 40)})
	f = n.op("Relu", []*ir.Value{n.op("Gemm", []*ir.Value{f, n.random("fc1.weight", 0.3, 48, 40), n.random("fc1.bias", 0.1, 48)}, ir.AInt("transB", 1))})
	f = n.op("Gemm", []*ir.Value{f, n.random("fc2.weight", 0.3, 48, 10), n.random("fc2.bias", 0.1, 10)})
	f = n.op("MatMul", []*ir.Value{f, n.random("proj.weight", 0.3, 10, 7)})
	n.output(n.op("Add", []*ir.Value{f, n.random("proj.bias", 0.1, 7)}), "vector")
	return n.m
}

func reload(t testing.TB, m *ir.Model) *ir.Model {
	t.Helper()
	data, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	l, err := format.Parse(data, "")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// predicted is the payload by PayloadBytes alone.
func predicted(t *testing.T, tg Target, m *ir.Model, c *compiled) int64 {
	t.Helper()
	total := int64(0)
	by := map[string]quant.Inserted{}
	for _, ins := range c.report.Weights {
		by[ins.Name] = ins
	}
	levels := map[int]int64{}
	integer := map[string]bool{}
	for _, name := range c.pl.Integer {
		integer[m.Graph.Value(name).Producer().Input(1).Name()] = true
	}
	for _, p := range weights.Find(m.Graph) {
		w := Weight{Dims: p.Value.Init().Dims(), Bits: 32}
		if ins, ok := by[p.Value.Name()]; ok {
			w = Weight{Dims: w.Dims, Bits: ins.Bits, Axis: ins.Axis, Quantizer: ins.Quantizer, Integer: integer[ins.Name]}
			if b := p.Nodes[0].Input(2); b != nil {
				f, err := b.Init().Float32s()
				if err != nil {
					t.Fatal(err)
				}
				w.Biases, w.Half = int64(len(f)), quant.FitsHalf(f)
			}
		} else if p.Kind == weights.Bias && p.Nodes[0].Input(2) == p.Value {
			continue // counted with its weight
		}
		if g, err := quant.Powers(w.Bits); err == nil && w.Quantizer == "inq-pow2" && w.Bits > 3 {
			levels[w.Bits] = 4 * int64(len(g.Levels))
		}
		n, err := tg.PayloadBytes(w)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	for _, n := range levels {
		total += n
	}
	return total
}

func TestEmitEveryWidth(t *testing.T) {
	run := newRunner(t)
	type row struct {
		target, quantizer string
		bits              int
	}
	var rows []row
	for bits := 1; bits <= 8; bits++ {
		rows = append(rows, row{"onnxruntime", "lsq", bits}, row{"weights", "ptq", bits}, row{"weights", "inq", bits})
		if bits > 1 {
			rows = append(rows, row{"weights", "inq-pow2", bits})
		}
	}
	rows = append(rows, row{"tensorrt", "lsq", 8}, row{"tensorrt", "lsq", 2}, row{"onnxruntime", "inq", 3}, row{"onnxruntime", "inq-pow2", 3})
	for _, r := range rows {
		t.Run(fmt.Sprintf("%s/%s/%d", r.target, r.quantizer, r.bits), func(t *testing.T) {
			m := layers(t, 5)
			tg, err := Find(r.target)
			if err != nil {
				t.Fatal(err)
			}
			spec, on, plan := allWeights(m, r.bits, r.quantizer)
			in := feeds(t, m, 4, 17)
			c := compile(t, tg, m, spec, on, run, in, quant.MSE)
			loaded := reload(t, c.out.Model)
			v, err := tg.Verify(run, c.fake, c.out, loaded, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range v.Agreements {
				if a.MaxError > 1e-5 {
					t.Errorf("output %q at level %s against %s: largest error %.3g", a.Output, a.Level, a.Against, a.MaxError)
				}
			}
			if len(v.NotInteger) > 0 {
				t.Errorf("meant to run in integers and do not: %q", v.NotInteger)
			}
			if r.target == "onnxruntime" && v.Integer != 6 {
				t.Errorf("%d layers run in integers", v.Integer)
			}
			if err := CheckPlan(loaded, plan, 1<<30, 1); err != nil {
				t.Error(err)
			}
			if _, err := tg.CheckAccumulators(loaded); err != nil {
				t.Error(err)
			}
			got, err := Payload(loaded)
			if err != nil {
				t.Fatal(err)
			}
			if want := predicted(t, tg, m, c); got != want {
				t.Errorf("payload %d bytes, predicted %d", got, want)
			}
			t.Logf("opset %d, IR %d, %d integer layers, payload %d", loaded.Opset(""), loaded.IRVersion, v.Integer, got)
		})
	}
}
