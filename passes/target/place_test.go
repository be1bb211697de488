package target

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/passes/quant"
)

// chain is conv0 (quantized) -> conv1 (stays float, reads the same value) and conv2 (quantized) -> conv3, with k channels.
func chain(t *testing.T, k int64) *ir.Model {
	n := newNet(t, 31, 17)
	x := n.input(1, 4, 12, 12)
	a := n.op("Relu", []*ir.Value{n.conv(x, "conv0", k, 4, 3)})
	b := n.conv(a, "conv1", k, k, 3)
	c := n.op("Relu", []*ir.Value{n.conv(a, "conv2", k, k, 3)})
	d := n.op("Add", []*ir.Value{b, c})
	n.output(n.conv(d, "conv3", 3, k, 1), "y")
	return n.m
}

// onnxruntime quantizes the float weights of a convolution between quantizers by itself: such a one must read float values.
func TestFloatLayersReadFloatValues(t *testing.T) {
	run := newRunner(t)
	m := chain(t, 8)
	tg, _ := Find("onnxruntime")
	spec, on, plan := allWeights(m, 8, "ptq")
	delete(spec, "conv1.weight")
	delete(on, "conv1.weight")
	delete(plan, "conv1.weight")
	in := feeds(t, m, 3, 5)
	c := compile(t, tg, m, spec, on, run, in, quant.MSE)
	float := c.out.Model.Graph.Value("conv1.weight").Uses()[0].Node
	if dequantizer(float.Input(0)) != nil {
		t.Errorf("the float layer reads a dequantized value")
	}
	loaded := reload(t, c.out.Model)
	v, err := tg.Verify(run, c.fake, c.out, loaded, in)
	if err != nil {
		t.Error(err)
	}
	if len(v.NotInteger) > 0 {
		t.Errorf("not in integers: %q", v.NotInteger)
	}
	for _, l := range c.out.Integer {
		if l.Weight == "conv0.weight" {
			t.Error("conv0 cannot run in integers: a float layer reads its output")
		}
	}
	plan["conv1.weight"] = 4
	if err := CheckPlan(loaded, plan, 0, 0); err == nil || !strings.Contains(err.Error(), "conv1.weight") {
		t.Errorf("a weight left float against the plan: %v", err)
	}
	if err := CheckPlan(loaded, map[string]int{"conv0.weight": 8}, 100, 101); err == nil {
		t.Error("a larger output passed")
	}
	if err := CheckPlan(m, nil, 0, 0); err == nil {
		t.Error("nothing quantized passed")
	}
}

// The last layer keeps a float output, and its input is quantized.
func TestPlacementLeavesOutputsFloat(t *testing.T) {
	m := chain(t, 8)
	tg, _ := Find("onnxruntime")
	_, on, _ := allWeights(m, 8, "ptq")
	pl, err := tg.Place(m, on)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, p := range pl.Points {
		values = append(values, p.Value)
	}
	for _, v := range values {
		if m.Graph.Value(v).IsOutput() {
			t.Errorf("output %q is quantized", v)
		}
	}
	last := m.Graph.Value("y").Producer()
	if !strings.Contains(strings.Join(values, " "), last.Input(0).Name()) {
		t.Errorf("the input of the last layer is not among %v", values)
	}
	if _, err := tg.Place(m, map[string]bool{"nonsense": true}); err == nil {
		t.Error("an unknown weight was placed")
	}
}

func TestAccumulatorsThatWrap(t *testing.T) {
	build := func(channels int64) *ir.Model {
		n := newNet(t, 1, 17)
		x := n.input(1, channels, 1, 1)
		s := n.b.Float(0.5)
		z, err := ir.FromUint8s([]uint8{0})
		n.check(err)
		zv := n.b.Const(z)
		q := n.op("DequantizeLinear", []*ir.Value{n.op("QuantizeLinear", []*ir.Value{x, s, zv}), s, zv})
		w := make([]int8, channels)
		for i := range w {
			w[i] = 127
		}
		wt, err := ir.FromInt8s(w, 1, channels, 1, 1)
		n.check(err)
		wv, err := n.m.Graph.AddInitializer("w", wt)
		n.check(err)
		n.output(n.op("Conv", []*ir.Value{q, n.op("DequantizeLinear", []*ir.Value{wv, s})}), "y")
		return n.m
	}
	tg := onnxruntime
	tg.Pairs = false
	// 2^31 / (255*127) = 66,311.2
	if acc, err := tg.CheckAccumulators(build(66311)); err != nil || len(acc) != 1 || acc[0].Hi != 66311*255*127 {
		t.Errorf("%+v, %v", acc, err)
	}
	if _, err := tg.CheckAccumulators(build(66312)); err == nil {
		t.Error("an accumulator that wraps was proved not to")
	}
	if _, err := onnxruntime.CheckAccumulators(build(2)); err == nil {
		t.Error("two products of 255*127 fit int16")
	}
}

// A bias that dwarfs its channel's weights must fit all the same, and take nothing from the others.
func TestBiasesFitInt32(t *testing.T) {
	for _, k := range []int64{8, 40} {
		t.Run(fmt.Sprint(k), func(t *testing.T) { biasesFit(t, k) })
	}
}

func biasesFit(t *testing.T, k int64) {
	run := newRunner(t)
	m := chain(t, k)
	w, err := m.Graph.Value("conv2.weight").Init().Float32s()
	if err != nil {
		t.Fatal(err)
	}
	small := append([]float32(nil), w...)
	for i := range small[:k*9] {
		small[i] *= 1e-12
	}
	wt, _ := ir.FromFloat32s(small, k, k, 3, 3)
	if err := m.Graph.SetInit(m.Graph.Value("conv2.weight"), wt); err != nil {
		t.Fatal(err)
	}
	tg, _ := Find("onnxruntime")
	spec, on, _ := allWeights(m, 8, "ptq")
	in := feeds(t, m, 3, 5)
	c := compile(t, tg, m, spec, on, run, in, quant.MSE)
	loaded := reload(t, c.out.Model)
	if _, err := tg.Verify(run, c.fake, c.out, loaded, in); err != nil {
		t.Error(err)
	}
	if _, err := tg.CheckAccumulators(loaded); err != nil {
		t.Error(err)
	}
	want, err := m.Graph.Value("conv2.bias").Init().Float32s()
	if err != nil {
		t.Fatal(err)
	}
	l, err := readInteger(loaded.Graph.Value("conv2.weight").Uses()[0].Node.Output(0).Uses()[0].Node)
	if err != nil {
		t.Fatal(err)
	}
	for c, b := range emittedBias(t, loaded, "conv2.bias") {
		step := float64(l.xScale) * float64(l.scales[c])
		if d := math.Abs(float64(b - want[c])); d > math.Abs(float64(want[c]))/4096+step {
			t.Errorf("channel %d: bias %g became %g", c, want[c], b)
		}
	}
}

func TestTensorRTRules(t *testing.T) {
	run := newRunner(t)
	m := layers(t, 9)
	tg, _ := Find("tensorrt")
	spec, on, _ := allWeights(m, 2, "lsq")
	in := feeds(t, m, 3, 5)
	c := compile(t, tg, m, spec, on, run, in, quant.MSE)
	for n := c.out.Model.Graph.First(); n != nil; n = n.Next() {
		for _, v := range n.Inputs() {
			if v == nil || v.Init() == nil {
				continue
			}
			switch d := v.Init().DType(); {
			case d == ir.Int4 || d == ir.Int2 || d == ir.Uint8 || d == ir.Int32:
				t.Errorf("%v reads a constant of %v", n, d)
			case d == ir.Int8 && len(v.Init().Dims()) == 0 && v.Init().Raw()[0] != 0:
				t.Errorf("%v has zero point %d", n, int8(v.Init().Raw()[0]))
			}
		}
	}
}

// The layers around a value left float run in float, and read and write nothing quantized for themselves; the others stay integer.
func TestValuesLeftFloat(t *testing.T) {
	run := newRunner(t)
	n := newNet(t, 5, 17)
	v := n.input(1, 4, 12, 12)
	var outs []string
	for i, k := range []int64{8, 8, 8, 8, 8, 3} {
		in := int64(8)
		if i == 0 {
			in = 4
		}
		v = n.conv(v, "conv"+string(rune('0'+i)), k, in, 3)
		if i < 5 {
			v = n.op("Relu", []*ir.Value{v})
			outs = append(outs, v.Name())
		}
	}
	n.output(v, "y")
	tg, _ := Find("onnxruntime")
	spec, on, plan := allWeights(n.m, 8, "ptq")
	in := feeds(t, n.m, 3, 5)
	c := compile(t, tg.Leaving(outs[2]), n.m, spec, on, run, in, quant.MSE)
	for _, p := range c.pl.Points {
		if p.Value == outs[2] {
			t.Errorf("%q is quantized", p.Value)
		}
	}
	var integer []string
	for _, l := range c.out.Integer {
		integer = append(integer, l.Weight)
	}
	// conv2 makes the value and conv3 reads it; conv1 writes to conv2 alone, which reads floats.
	if got := strings.Join(integer, " "); got != "conv0.weight conv4.weight" {
		t.Errorf("in integers: %s", got)
	}
	loaded := reload(t, c.out.Model)
	got, err := tg.Verify(run, c.fake, c.out, loaded, in)
	if err != nil {
		t.Error(err)
	}
	if len(got.NotInteger) > 0 {
		t.Errorf("not in integers: %q", got.NotInteger)
	}
	if err := CheckPlan(loaded, plan, 0, 0); err != nil {
		t.Error(err)
	}
}

// A Clip from 0 to a bound costs nothing where the quantizer behind it saturates at the bound or below.
func TestBoundedActivationsSaturate(t *testing.T) {
	run := newRunner(t)
	n := newNet(t, 5, 17)
	clip := func(x *ir.Value) *ir.Value { return n.op("Clip", []*ir.Value{x, n.b.Float(0), n.b.Float(255.0 / 32)}) }
	x := n.input(1, 4, 12, 12)
	capped := func(x *ir.Value) *ir.Value {
		bounds := make([]float32, 16)
		for c := range bounds {
			bounds[c] = 255.0/64 + float32(c)
		}
		t16, err := ir.FromFloat32s(bounds, 16, 1, 1)
		n.check(err)
		return n.op("Min", []*ir.Value{n.op("Relu", []*ir.Value{x}), n.b.Const(t16)})
	}
	a := capped(n.conv(x, "conv0", 16, 4, 3))
	b := clip(n.conv(a, "conv1", 16, 1, 3, ir.AInt("group", 16)))
	c := n.op("Concat", []*ir.Value{a, b}, ir.AInt("axis", 1))
	n.output(n.conv(c, "conv2", 3, 32, 1), "y")
	tg, _ := Find("onnxruntime")
	spec, on, _ := allWeights(n.m, 8, "ptq")
	in := feeds(t, n.m, 3, 5)
	for _, method := range []quant.Method{quant.MSE, quant.MinMax, quant.Percentile} {
		k := compile(t, tg, n.m, spec, on, run, in, method)
		for m := k.out.Model.Graph.First(); m != nil; m = m.Next() {
			if m.Is("Clip") || m.Is("Min") {
				t.Errorf("%s: %v is left", method, m)
			}
		}
		v, err := tg.Verify(run, k.fake, k.out, reload(t, k.out.Model), in)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if len(v.NotInteger) > 0 || v.Integer != 2 {
			t.Errorf("%s: %d layers in integers, not so %q", method, v.Integer, v.NotInteger)
		}
	}
}

// Where something without a bound shares the range, saturation cannot take a Clip's place.
func TestSharedRangesKeepTheirClips(t *testing.T) {
	run := newRunner(t)
	n := newNet(t, 6, 17)
	x := n.input(1, 4, 12, 12)
	a := n.op("Clip", []*ir.Value{n.conv(x, "conv0", 8, 4, 3), n.b.Float(0), n.b.Float(0.5)})
	b := n.op("Relu", []*ir.Value{n.conv(x, "conv1", 8, 4, 3)})
	n.output(n.conv(n.op("Concat", []*ir.Value{a, b}, ir.AInt("axis", 1)), "conv2", 3, 16, 1), "y")
	tg, _ := Find("onnxruntime")
	spec, on, _ := allWeights(n.m, 8, "ptq")
	in := feeds(t, n.m, 3, 5)
	k := compile(t, tg, n.m, spec, on, run, in, quant.MSE)
	if _, err := tg.Verify(run, k.fake, k.out, reload(t, k.out.Model), in); err != nil {
		t.Error(err)
	}
	unlimited(t, tg, n.m, on)
}

func unlimited(t *testing.T, tg Target, m *ir.Model, on map[string]bool) {
	t.Helper()
	pl, err := tg.Place(m, on)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pl.Points {
		if p.Limit != 0 {
			t.Errorf("%q is limited to %g", p.Value, p.Limit)
		}
	}
}

// Neither can it where a constant shares the range, or where no power of two ends near the bound.
func TestBoundsThatSaturationCannotReplace(t *testing.T) {
	tg, _ := Find("onnxruntime")
	n := newNet(t, 7, 17)
	a := n.op("Clip", []*ir.Value{n.conv(n.input(1, 4, 12, 12), "conv0", 8, 4, 3), n.b.Float(0), n.b.Float(255.0 / 32)})
	c := n.op("Concat", []*ir.Value{a, n.random("coordinates", 1, 1, 2, 12, 12)}, ir.AInt("axis", 1))
	n.output(n.conv(c, "conv1", 3, 10, 1), "y")
	_, on, _ := allWeights(n.m, 8, "ptq")
	unlimited(t, tg, n.m, on)

	n = newNet(t, 8, 17)
	a = n.op("Clip", []*ir.Value{n.conv(n.input(1, 4, 12, 12), "conv0", 8, 4, 3), n.b.Float(0), n.b.Float(6)})
	n.output(n.conv(a, "conv1", 3, 8, 1), "y")
	_, on, _ = allWeights(n.m, 8, "ptq")
	unlimited(t, tg, n.m, on)
}
