package rebatch

// rule finds the states of a node's outputs where an input holds the batch, the last one standing for all further outputs, and
// rewrites operands that say 1 for the batch. The node's inputs have types at the trial batch. An error of type *stuck says why
// images cannot be told apart behind the node.
type rule func(s *step) ([]state, error)

// rules by operator of the default domain; for others unlisted is taken, as for the operators of one operand that work element by
// element.
var rules = map[string]rule{
	"Reshape": regroup, "Flatten": regroup, "Squeeze": regroup, "Unsqueeze": regroup,
	"Transpose": transpose, "Expand": expand, "Tile": tile, "Resize": resize, "Upsample": resize, "Slice": slice, "Pad": keep,
	"Shape": measure, "Size": measure,

	"Concat": concat, "Split": split, "Gather": gather, "GatherElements": elements, "ScatterElements": elements, "GatherND": gatherND,

	"Add": broadcast, "Sub": broadcast, "Mul": broadcast, "Div": broadcast, "Pow": broadcast, "Mod": broadcast, "Min": broadcast,
	"Max": broadcast, "Sum": broadcast, "Mean": broadcast, "Where": broadcast, "PRelu": broadcast, "And": broadcast, "Or": broadcast,
	"Xor": broadcast, "Equal": broadcast, "Greater": broadcast, "Less": broadcast, "GreaterOrEqual": broadcast,
	"LessOrEqual": broadcast, "BitShift": broadcast, "BitwiseAnd": broadcast, "BitwiseOr": broadcast, "BitwiseXor": broadcast,

	"Conv": rowwise(0), "ConvInteger": rowwise(0), "QLinearConv": rowwise(0), "ConvTranspose": rowwise(0), "DeformConv": rowwise(0, 2, 4),
	"AveragePool": rowwise(0), "LpPool": rowwise(0), "MaxPool": maxPool, "GlobalAveragePool": rowwise(0), "GlobalMaxPool": rowwise(0),
	"GlobalLpPool": rowwise(0), "LRN": rowwise(0), "InstanceNormalization": rowwise(0), "GroupNormalization": rowwise(0),
	"DepthToSpace": rowwise(0), "SpaceToDepth": rowwise(0), "Col2Im": rowwise(0), "GridSample": rowwise(0, 1),
	"BatchNormalization": batchNorm, "MeanVarianceNormalization": meanVariance,

	"MatMul": product(0, 1), "MatMulInteger": product(0, 1), "QLinearMatMul": product(0, 3), "Gemm": gemm, "Einsum": einsum,

	"Softmax": softmax, "LogSoftmax": softmax, "Hardmax": softmax, "LayerNormalization": onward(-1), "RMSNormalization": onward(-1),
	"LpNormalization": along(-1), "TopK": topK, "CumSum": cumsum, "ArgMax": arg, "ArgMin": arg,
	"ReduceSum": reduce, "ReduceMean": reduce, "ReduceMax": reduce, "ReduceMin": reduce, "ReduceProd": reduce, "ReduceL1": reduce,
	"ReduceL2": reduce, "ReduceLogSum": reduce, "ReduceLogSumExp": reduce, "ReduceSumSquare": reduce,
	"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent,
}

// mixers are operators whose results cannot be told apart by image, with the reason.
var mixers = map[string]string{
	"NonMaxSuppression":     "the number of its results depends on the images",
	"NonZero":               "the number of its results depends on the images",
	"Unique":                "the number of its results depends on the images",
	"Compress":              "the number of its results depends on the images",
	"DynamicQuantizeLinear": "its scale is one for all images of a batch",
	"ScatterND":             "its indices count the images of the batch",
	"RoiAlign":              "its regions are not counted by image",
	"MaxRoiPool":            "its regions are not counted by image",
	"MaxUnpool":             "its positions count the elements of all images",
	"ReverseSequence":       "its sequences are not followed",
}

func transpose(s *step) ([]state, error) {
	t := s.in[0]
	perm := s.n.Ints("perm")
	if perm == nil {
		return []state{t.on(len(s.dims(0)) - 1 - t.axis)}, nil
	}
	for i, p := range perm {
		if int(p) == t.axis {
			return []state{t.on(i)}, nil
		}
	}
	return nil, s.refuse("its perm %v has no dimension %d", perm, t.axis)
}
