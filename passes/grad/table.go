package grad

import "mqatc/onnx/ir"

// row is an operator's gradient.
type row struct {
	// vjp returns the cotangent of input i, nil for zero. It is called only for inputs somebody needs the gradient of. A nil vjp
	// says that the operator has no gradient: its outputs count as constants.
	vjp func(c *call, i int) *ir.Value
	// broadcast: the operator broadcasts, and the engine shall sum what vjp returns down to the input's shape (or repeat it).
	broadcast bool
	// carry: the operator moves elements, so an integer output carries the cotangent of an integer input between a QuantizeLinear
	// and its DequantizeLinear.
	carry bool
	// quantizes: the integer output carries a cotangent though the input is a float.
	quantizes bool
	// branches: cotangents go to values that the node's subgraphs read.
	branches bool
	// parts makes the outputs of a decomposed operator from others.
	parts func(c *call) []*ir.Value
}

func elementwise(vjp func(c *call, i int) *ir.Value) row { return row{vjp: vjp, broadcast: true} }
func moves(vjp func(c *call, i int) *ir.Value) row       { return row{vjp: vjp, carry: true} }

// unary is the row of y = f(x), given dy*f'(x).
func unary(f func(c *call, x, y, dy *ir.Value) *ir.Value) row {
	return row{vjp: func(c *call, _ int) *ir.Value { return f(c, c.in(0), c.out(0), c.dy()) }}
}

// table holds every rule, by operator; those of other domains have the domain and a dot before their name.
var table = map[string]row{
	// vjp_elementwise.go
	"Add":        elementwise(vjpAdd),
	"Sub":        elementwise(vjpSub),
	"Mul":        elementwise(vjpMul),
	"Div":        elementwise(vjpDiv),
	"Pow":        elementwise(vjpPow),
	"Sum":        elementwise(vjpAdd),
	"Mean":       elementwise(vjpMean),
	"Min":        elementwise(vjpMinMax),
	"Max":        elementwise(vjpMinMax),
	"Where":      elementwise(vjpWhere),
	"Clip":       elementwise(vjpClip),
	"Neg":        unary(vjpNeg),
	"Abs":        unary(vjpAbs),
	"Sqrt":       unary(vjpSqrt),
	"Exp":        unary(vjpExp),
	"Log":        unary(vjpLog),
	"Reciprocal": unary(vjpReciprocal),
	"Erf":        unary(vjpErf),
	"Sin":        unary(vjpSin),
	"Cos":        unary(vjpCos),
	"Tan":        unary(vjpTan),
	"Asin":       unary(vjpAsin),
	"Acos":       unary(vjpAcos),
	"Atan":       unary(vjpAtan),
	"Sinh":       unary(vjpSinh),
	"Cosh":       unary(vjpCosh),
	"Asinh":      unary(vjpAsinh),
	"Acosh":      unary(vjpAcosh),
	"Atanh":      unary(vjpAtanh),
	"Round":      unary(vjpRound),
	"Mod":        elementwise(vjpMod),

	// vjp_activation.go
	"Relu":                    unary(vjpRelu),
	"LeakyRelu":               unary(vjpLeakyRelu),
	"ThresholdedRelu":         unary(vjpThresholdedRelu),
	"PRelu":                   elementwise(vjpPRelu),
	"Elu":                     unary(vjpElu),
	"Selu":                    unary(vjpSelu),
	"Celu":                    unary(vjpCelu),
	"Gelu":                    unary(vjpGelu),
	"Mish":                    unary(vjpMish),
	"Sigmoid":                 unary(vjpSigmoid),
	"HardSigmoid":             unary(vjpHardSigmoid),
	"HardSwish":               unary(vjpHardSwish),
	"Tanh":                    unary(vjpTanh),
	"Softplus":                unary(vjpSoftplus),
	"Softsign":                unary(vjpSoftsign),
	"Softmax":                 unary(vjpSoftmax),
	"LogSoftmax":              unary(vjpLogSoftmax),
	"Shrink":                  unary(vjpShrink),
	"Swish":                   unary(vjpSwish),
	"com.microsoft.QuickGelu": unary(vjpSwish),
	"com.microsoft.Gelu":      unary(vjpGelu),
	"com.microsoft.FastGelu":  decomposed1(fastGelu),
	"com.microsoft.BiasGelu":  decomposed1(biasGelu),

	// vjp_reduce.go
	"ReduceSum":         {vjp: vjpReduceSum},
	"ReduceMean":        {vjp: vjpReduceMean},
	"ReduceMax":         {vjp: vjpReduceMax},
	"ReduceMin":         {vjp: vjpReduceMax},
	"ReduceProd":        {vjp: vjpReduceProd},
	"ReduceL1":          {vjp: vjpReduceL1},
	"ReduceL2":          {vjp: vjpReduceL2},
	"ReduceSumSquare":   {vjp: vjpReduceSumSquare},
	"ReduceLogSum":      {vjp: vjpReduceLogSum},
	"ReduceLogSumExp":   {vjp: vjpReduceLogSumExp},
	"GlobalAveragePool": {vjp: vjpGlobalAveragePool},
	"GlobalMaxPool":     {vjp: vjpGlobalMaxPool},
	"CumSum":            {vjp: vjpCumSum},

	// vjp_norm.go
	"BatchNormalization":                             {vjp: vjpBatchNorm},
	"InstanceNormalization":                          {vjp: vjpInstanceNorm},
	"LayerNormalization":                             {vjp: vjpLayerNorm},
	"GroupNormalization":                             {vjp: vjpGroupNorm},
	"LpNormalization":                                {vjp: vjpLpNorm},
	"LRN":                                            decomposed1(localResponse),
	"MeanVarianceNormalization":                      decomposed1(meanVariance),
	"RMSNormalization":                               decomposed(rootMeanSquare),
	"SimplifiedLayerNormalization":                   decomposed(rootMeanSquare),
	"com.microsoft.SkipLayerNormalization":           decomposed(skipLayerNorm),
	"com.microsoft.SkipSimplifiedLayerNormalization": decomposed(skipRootMeanSquare),

	// vjp_conv.go
	"Conv":          {vjp: vjpConv},
	"ConvTranspose": {vjp: vjpConvTranspose},

	// vjp_deform.go
	"DeformConv": decomposed1(deformConv),
	"Col2Im":     decomposed1(colToIm),

	// vjp_fused.go
	"com.microsoft.FusedConv":   decomposed1(fusedConv),
	"com.microsoft.FusedGemm":   decomposed1(fusedGemm),
	"com.microsoft.FusedMatMul": decomposed1(fusedMatMul),

	// opaque.go
	Domain + "." + ConvWeightGrad: {vjp: vjpConvWeightGrad},
	Domain + "." + ConvInputGrad:  {vjp: vjpConvInputGrad},

	// vjp_matmul.go
	"MatMul": {vjp: vjpMatMul, broadcast: true},
	"Gemm":   {vjp: vjpGemm, broadcast: true},
	"Einsum": {vjp: vjpEinsum},
	"Det":    decomposed1(det),

	// vjp_pool.go
	"AveragePool":  {vjp: vjpAveragePool},
	"MaxPool":      {vjp: vjpMaxPool, carry: true},
	"LpPool":       decomposed1(lpPool),
	"GlobalLpPool": decomposed1(globalLpPool),
	"MaxUnpool":    {vjp: vjpMaxUnpool},

	// vjp_shape.go
	"Identity":      moves(vjpIdentity),
	"Dropout":       {vjp: vjpDropout},
	"Cast":          {vjp: vjpCast},
	"CastLike":      {vjp: vjpCast},
	"Reshape":       moves(vjpReshape),
	"Flatten":       moves(vjpReshape),
	"Squeeze":       moves(vjpReshape),
	"Unsqueeze":     moves(vjpReshape),
	"Transpose":     moves(vjpTranspose),
	"Concat":        moves(vjpConcat),
	"Split":         moves(vjpSplit),
	"Slice":         moves(vjpSlice),
	"Pad":           moves(vjpPad),
	"Expand":        {vjp: vjpExpand, broadcast: true, carry: true},
	"Tile":          moves(vjpTile),
	"DepthToSpace":  moves(vjpDepthToSpace),
	"SpaceToDepth":  moves(vjpSpaceToDepth),
	"Trilu":         moves(vjpTrilu),
	"CenterCropPad": decomposed1(centerCropPad),

	// vjp_index.go
	"Gather":          moves(vjpGather),
	"GatherElements":  moves(vjpGatherElements),
	"GatherND":        moves(vjpGatherND),
	"ScatterElements": {vjp: vjpScatterElements},
	"ScatterND":       {vjp: vjpScatterND},
	"TopK":            {vjp: vjpTopK},
	"OneHot":          {vjp: vjpOneHot},
	"ReverseSequence": moves(vjpReverseSequence),
	"Compress":        decomposed1(compress),

	// vjp_loss.go
	"NegativeLogLikelihoodLoss": {vjp: vjpLoss},
	"SoftmaxCrossEntropyLoss":   {vjp: vjpLoss},

	// vjp_resize.go
	"Resize": {vjp: vjpResize},

	// vjp_sample.go
	"GridSample": decomposed1(gridSample),
	"AffineGrid": decomposed1(affineGrid),

	// vjp_roi.go
	"RoiAlign":   decomposed1(roiAlign),
	"MaxRoiPool": decomposed1(maxRoiPool),

	// vjp_attention.go
	"Attention":                        decomposed(attention),
	"com.microsoft.MultiHeadAttention": decomposed(multiHead),
	"RotaryEmbedding":                  decomposed1(rotary),

	// vjp_signal.go
	"DFT": decomposed1(fourier),

	// vjp_recurrent.go
	"RNN":  decomposed(rnn),
	"GRU":  decomposed(gru),
	"LSTM": decomposed(lstm),

	// branch.go
	"If": {vjp: noInput, branches: true},

	// unroll.go
	"Loop": decomposed(loop),
	"Scan": decomposed(scan),

	// vjp_quant.go
	"QuantizeLinear":   {vjp: vjpQuantize, quantizes: true},
	"DequantizeLinear": {vjp: vjpDequantize},

	// Without gradient: piecewise constant, integer, boolean or random results.
	"And": {}, "ArgMax": {}, "ArgMin": {}, "Bernoulli": {}, "BitShift": {}, "BitwiseAnd": {}, "BitwiseNot": {}, "BitwiseOr": {},
	"BitwiseXor": {}, "BlackmanWindow": {}, "Ceil": {}, "Constant": {}, "ConstantOfShape": {}, "Equal": {}, "EyeLike": {}, "Floor": {}, "Greater": {}, "HammingWindow": {}, "HannWindow": {}, "MelWeightMatrix": {}, "Multinomial": {}, "SequenceLength": {}, "OptionalHasElement": {},
	"GreaterOrEqual": {}, "Hardmax": {}, "IsInf": {}, "IsNaN": {}, "Less": {}, "LessOrEqual": {}, "NonMaxSuppression": {}, "NonZero": {}, "Not": {},
	"Or": {}, "RandomNormal": {}, "RandomNormalLike": {}, "RandomUniform": {}, "RandomUniformLike": {}, "Shape": {}, "Sign": {},
	"Size": {}, "Xor": {},
}
