package grad

import "mqatc/onnx/ir"

func axes(v ...int64) ir.Attr { return ir.AInts("axes", v...) }

var noKeep = ir.AInt("keepdims", 0)

func unaryCases() []ruleCase {
	var cs []ruleCase
	add := func(op, name string, i input, a ...ir.Attr) {
		cs = append(cs, ruleCase{op: op, name: name, in: []input{i}, attrs: a})
	}
	for _, op := range []string{"Neg", "Abs", "Exp", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Relu", "LeakyRelu", "Elu",
		"Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Identity"} {
		add(op, "", x(3, 4))
	}
	for _, op := range []string{"Sqrt", "Log", "Reciprocal"} {
		add(op, "", in(0.4, 3, 3, 4))
	}
	for _, op := range []string{"Asin", "Acos", "Atanh", "Tan"} {
		add(op, "", in(-0.8, 0.8, 3, 4))
	}
	add("Acosh", "", in(1.2, 3, 3, 4))
	add("LeakyRelu", "alpha", x(3, 4), ir.AFloat("alpha", 0.3))
	add("Elu", "alpha", x(3, 4), ir.AFloat("alpha", 0.7))
	add("Celu", "alpha", x(3, 4), ir.AFloat("alpha", 0.7))
	add("Selu", "attributes", x(3, 4), ir.AFloat("alpha", 1.2), ir.AFloat("gamma", 0.9))
	add("ThresholdedRelu", "", x(3, 4).off(0.5), ir.AFloat("alpha", 0.5))
	add("HardSigmoid", "attributes", x(3, 4).off(1, -1), ir.AFloat("alpha", 0.5), ir.AFloat("beta", 0.5))
	add("HardSigmoid", "step", x(3, 4), ir.AFloat("alpha", stepSlope), ir.AFloat("beta", 0))
	add("HardSwish", "saturated", in(-5, 5, 4, 4).off(-3, 3))
	add("Softmax", "last", x(3, 4))
	add("Softmax", "middle", x(2, 3, 4), ir.AInt("axis", 1))
	add("LogSoftmax", "last", x(3, 4))
	add("LogSoftmax", "middle", x(2, 3, 4), ir.AInt("axis", -2))
	add("LpNormalization", "2", x(3, 4))
	add("LpNormalization", "1", x(3, 4), ir.AInt("axis", 0), ir.AInt("p", 1))
	cs = append(cs,
		ruleCase{op: "Gelu", name: "exact", in: []input{x(3, 4)}, opset: 20},
		ruleCase{op: "Gelu", name: "tanh", in: []input{x(3, 4)}, attrs: []ir.Attr{ir.AString("approximate", "tanh")}, opset: 20},
		ruleCase{op: "Mish", in: []input{x(3, 4)}, opset: 18},
		ruleCase{op: "Round", in: []input{x(3, 4)}, ste: true},
		ruleCase{op: "Cast", in: []input{x(3, 4)}, attrs: []ir.Attr{ir.AInt("to", 1)}},
		ruleCase{op: "CastLike", in: []input{x(3, 4), scalar(1)}},
		ruleCase{op: "Dropout", in: []input{x(3, 4)}},
		ruleCase{op: "Dropout", name: "ratio", in: []input{x(3, 4), scalar(0.5)}},
	)
	return cs
}

func elementwiseCases() []ruleCase {
	var cs []ruleCase
	for _, op := range []string{"Add", "Sub", "Mul", "Div"} {
		cs = append(cs,
			ruleCase{op: op, name: "same", in: []input{x(3, 4), x(3, 4)}},
			ruleCase{op: op, name: "row", in: []input{x(2, 3, 4), x(4)}},
			ruleCase{op: op, name: "both", in: []input{x(2, 1, 4), x(3, 1)}},
			ruleCase{op: op, name: "scalar", in: []input{x(), x(2, 3)}},
			ruleCase{op: op, name: "ones", in: []input{x(1, 1), x(3)}},
			ruleCase{op: op, name: "constant", in: []input{x(2, 3), num(2, -3, 0.5)}})
	}
	for _, op := range []string{"Min", "Max"} {
		cs = append(cs,
			ruleCase{op: op, name: "one", in: []input{x(3, 4)}},
			ruleCase{op: op, name: "two", in: []input{x(3, 4), x(3, 4)}},
			ruleCase{op: op, name: "broadcast", in: []input{x(3, 4), scalar(0)}},
			ruleCase{op: op, name: "three", in: []input{x(3, 4), x(4), x(3, 1)}})
	}
	return append(cs,
		ruleCase{op: "Sum", name: "three", in: []input{x(3, 4), x(4), x(3, 1)}},
		ruleCase{op: "Mean", name: "three", in: []input{x(3, 4), x(4), x(3, 1)}},
		ruleCase{op: "Pow", name: "2", in: []input{x(3, 4), scalar(2)}},
		ruleCase{op: "Pow", name: "3", in: []input{x(3, 4), scalar(3)}},
		ruleCase{op: "Pow", name: "1", in: []input{x(3, 4), scalar(1)}},
		ruleCase{op: "Pow", name: "0", in: []input{x(3, 4), scalar(0)}},
		ruleCase{op: "Pow", name: "half", in: []input{in(0.4, 3, 3, 4), scalar(0.5)}},
		ruleCase{op: "Pow", name: "fraction", in: []input{in(0.4, 3, 3, 4), num(-1.5)}},
		ruleCase{op: "Pow", name: "integers", in: []input{x(3, 4), ints(2, 3, 1, 4)}},
		ruleCase{op: "Pow", name: "both", in: []input{in(0.4, 3, 3, 4), x(4)}},
		ruleCase{op: "PRelu", name: "channel", in: []input{x(2, 3, 4), x(3, 1)}},
		ruleCase{op: "PRelu", name: "scalar", in: []input{x(2, 3, 4), x(1)}},
		ruleCase{op: "Where", name: "broadcast", in: []input{{dims: []int64{3, 1}, vals: []float64{1, 0, 1}, kind: "bool"}, x(3, 4), x(4)}},
		ruleCase{op: "Clip", name: "both", in: []input{x(4, 5).off(-1, 1), scalar(-1), scalar(1)}},
		ruleCase{op: "Clip", name: "low", in: []input{x(4, 5).off(-1), scalar(-1)}},
		ruleCase{op: "Clip", name: "high", in: []input{x(4, 5).off(1), absent, scalar(1)}},
		ruleCase{op: "Clip", name: "none", in: []input{x(4, 5)}},
		ruleCase{op: "Clip", name: "huge", in: []input{x(4, 5), scalar(0), scalar(3.4e38)}},
		ruleCase{op: "Clip", name: "bounds", in: []input{x(4, 5).off(-1, 1), {dims: []int64{}, lo: -1.01, hi: -0.99}, {dims: []int64{}, lo: 0.99, hi: 1.01}}},
		ruleCase{op: "QuantizeLinear", name: "int8", ste: true, in: []input{x(3, 4).off(-1.285, 1.275), scalar(0.01), {dims: []int64{}, vals: []float64{0}, kind: "int8"}}},
		ruleCase{op: "QuantizeLinear", name: "uint8", ste: true, in: []input{x(3, 4).off(-0.405, 2.155), scalar(0.01), {dims: []int64{}, vals: []float64{40}, kind: "uint8"}}},
		ruleCase{op: "QuantizeLinear", name: "channel", ste: true, in: []input{x(3, 4).off(-1.275, -0.645, -0.3225, 1.275, 0.635, 0.3175), num(0.01, 0.005, 0.0025), {dims: []int64{3}, vals: []float64{0, 0, 0}, kind: "int8"}}, attrs: []ir.Attr{ir.AInt("axis", 0)}},
		ruleCase{op: "DequantizeLinear", name: "of quantized", ste: true, in: []input{x(3, 4), scalar(0.03), {dims: []int64{}, vals: []float64{-3}, kind: "int8"}}},
	)
}

func reduceCases() []ruleCase {
	var cs []ruleCase
	for _, op := range []string{"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
		"ReduceLogSum", "ReduceLogSumExp"} {
		i := x(2, 3, 4)
		if op == "ReduceLogSum" {
			i = in(0.5, 2, 2, 3, 4)
		}
		cs = append(cs,
			ruleCase{op: op, name: "keep", in: []input{i}, attrs: []ir.Attr{axes(1)}},
			ruleCase{op: op, name: "drop", in: []input{i}, attrs: []ir.Attr{axes(-1, 0), noKeep}},
			ruleCase{op: op, name: "all", in: []input{i}},
			ruleCase{op: op, name: "input", in: []input{i, ints(0, 2)}, attrs: []ir.Attr{noKeep}, opset: 18})
	}
	return append(cs,
		ruleCase{op: "ReduceSum", name: "keep", in: []input{x(2, 3, 4), ints(1)}},
		ruleCase{op: "ReduceSum", name: "drop", in: []input{x(2, 3, 4), ints(-1, 0)}, attrs: []ir.Attr{noKeep}},
		ruleCase{op: "ReduceSum", name: "all", in: []input{x(2, 3, 4)}, attrs: []ir.Attr{noKeep}},
		ruleCase{op: "ReduceSum", name: "noop", in: []input{x(2, 3)}, attrs: []ir.Attr{ir.AInt("noop_with_empty_axes", 1)}},
		ruleCase{op: "GlobalAveragePool", in: []input{x(2, 3, 4, 5)}},
		ruleCase{op: "GlobalMaxPool", in: []input{x(2, 3, 4, 5)}},
		ruleCase{op: "CumSum", in: []input{x(3, 4), ints(1).shaped()}},
		ruleCase{op: "CumSum", name: "exclusive reverse", in: []input{x(3, 4), ints(0).shaped()}, attrs: []ir.Attr{ir.AInt("exclusive", 1), ir.AInt("reverse", 1)}},
		ruleCase{op: "BatchNormalization", name: "inference", in: []input{x(2, 3, 4, 2), x(3), x(3), x(3), in(0.5, 2, 3)}},
		ruleCase{op: "BatchNormalization", name: "rank 2", in: []input{x(4, 3), x(3), x(3), num(0.1, 0.2, 0.3), num(1, 2, 0.5)}},
		ruleCase{op: "BatchNormalization", name: "training", nout: 3, in: []input{x(3, 2, 4, 2), x(2), x(2), x(2), in(0.5, 2, 2)}, attrs: []ir.Attr{ir.AInt("training_mode", 1), ir.AFloat("momentum", 0.7)}},
		ruleCase{op: "InstanceNormalization", in: []input{x(2, 3, 4, 2), x(3), x(3)}},
		ruleCase{op: "LayerNormalization", name: "last", in: []input{x(2, 3, 4), x(4), x(4)}},
		ruleCase{op: "LayerNormalization", name: "two", in: []input{x(2, 3, 4), x(3, 4)}, attrs: []ir.Attr{ir.AInt("axis", 1)}},
		ruleCase{op: "GroupNormalization", name: "channel", in: []input{x(2, 4, 3, 2), x(4), x(4)}, attrs: []ir.Attr{ir.AInt("num_groups", 2)}, opset: 21},
		ruleCase{op: "GroupNormalization", name: "group", in: []input{x(2, 4, 3, 2), x(2), x(2)}, attrs: []ir.Attr{ir.AInt("num_groups", 2)}, opset: 18},
	)
}

func linearCases() []ruleCase {
	gemm := func(name string, a ...ir.Attr) ruleCase {
		c := ruleCase{op: "Gemm", name: name, in: []input{x(3, 4), x(4, 5), x(5)}, attrs: a}
		for _, t := range a {
			if t.Name == "transA" {
				c.in[0] = x(4, 3)
			}
			if t.Name == "transB" {
				c.in[1] = x(5, 4)
			}
		}
		return c
	}
	ta, tb := ir.AInt("transA", 1), ir.AInt("transB", 1)
	mm := func(name string, a, b input) ruleCase { return ruleCase{op: "MatMul", name: name, in: []input{a, b}} }
	loss := func(name string, weights []float64, a ...ir.Attr) ruleCase {
		i := []input{x(5, 4), ints(0, 2, 1, 3, 2)}
		if weights != nil {
			i = append(i, num(weights...))
		}
		return ruleCase{op: "SoftmaxCrossEntropyLoss", name: name, in: i, attrs: a}
	}
	ein := func(eq string, i ...input) ruleCase {
		return ruleCase{op: "Einsum", name: eq, in: i, attrs: []ir.Attr{ir.AString("equation", eq)}}
	}
	return []ruleCase{
		gemm("plain"), gemm("A", ta), gemm("B", tb), gemm("AB", ta, tb), gemm("scaled", ir.AFloat("alpha", 0.5), ir.AFloat("beta", -2), tb),
		loss("mean", nil), loss("weighted", []float64{1, 0.5, 2, 3}), loss("ignore", []float64{1, 0.5, 2, 3}, ir.AInt("ignore_index", 2)),
		loss("sum", nil, ir.AString("reduction", "sum")), loss("none", []float64{1, 0.5, 2, 3}, ir.AString("reduction", "none")),
		{op: "SoftmaxCrossEntropyLoss", name: "images", in: []input{x(2, 3, 2, 2), ints(0, 2, 1, 1, 2, 0, -1, 1).shaped(2, 2, 2).late()}, attrs: []ir.Attr{ir.AInt("ignore_index", -1)}},
		{op: "SoftmaxCrossEntropyLoss", name: "two outputs", nout: 2, in: []input{x(5, 4), ints(0, 2, 1, 3, 2)}},
		{op: "NegativeLogLikelihoodLoss", name: "mean", in: []input{x(5, 4), ints(0, 2, 1, 3, 2)}},
		{op: "NegativeLogLikelihoodLoss", name: "images", in: []input{x(2, 3, 2, 2), ints(0, 2, 1, 1, 2, 0, 1, 1).shaped(2, 2, 2), num(1, 2, 0.5)}},
		{op: "Gemm", name: "no C", in: []input{x(3, 4), x(4, 5)}},
		{op: "Gemm", name: "C scalar", in: []input{x(3, 4), x(4, 5), x()}},
		mm("2D", x(3, 4), x(4, 5)), mm("rows", x(2, 3, 4), x(4, 5)), mm("batch", x(2, 3, 4), x(2, 4, 5)), mm("left", x(3, 4), x(2, 4, 5)),
		mm("broadcast", x(2, 1, 3, 4), x(3, 4, 5)), mm("vector right", x(2, 3, 4), x(4)), mm("vector left", x(4), x(2, 4, 5)), mm("vectors", x(4), x(4)),
		ein("ij,jk->ik", x(3, 4), x(4, 5)), ein("bij,bkj->bik", x(2, 3, 4), x(2, 5, 4)), ein("ij->i", x(3, 4)), ein("ij,kj", x(3, 4), x(5, 4)),
	}
}

var ruleCases = func() []ruleCase {
	var cs []ruleCase
	for _, f := range []func() []ruleCase{unaryCases, elementwiseCases, reduceCases, linearCases, convCases, poolCases, shapeCases, indexCases, moreCases, sampleCases, attentionCases,
		recurrentCases, newerCases, loopCases, opaqueCases} {
		cs = append(cs, f()...)
	}
	return cs
}()
