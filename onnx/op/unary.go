package op

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// unaryTable lists elementwise operators of one tensor.
var unaryTable = []Schema{
	{Name: "Abs", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalAbs},
	{Name: "Neg", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalNeg},
	{Name: "Ceil", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalCeil},
	{Name: "Floor", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalFloor},
	{Name: "Round", Versions: []int64{11, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalRound},
	{Name: "Sqrt", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalSqrt},
	{Name: "Exp", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalExp},
	{Name: "Log", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalLog},
	{Name: "Reciprocal", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalRecip},
	{Name: "Acos", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Acosh", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Asin", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Asinh", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Atan", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Atanh", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Cos", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Cosh", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Sin", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Sinh", Versions: []int64{9, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Tan", Versions: []int64{7, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Tanh", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Erf", Versions: []int64{9, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Sign", Versions: []int64{9, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Relu", Versions: []int64{1, 6, 13, 14}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalRelu},
	{Name: "Sigmoid", Versions: []int64{1, 6, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Celu", Versions: []int64{12, 28}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{floatAttr("alpha", 1.0)}},
	{Name: "Elu", Versions: []int64{1, 6, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{floatAttr("alpha", 1.0)}},
	{Name: "Gelu", Versions: []int64{20}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{strAttr("approximate", "none")}},
	{Name: "HardSigmoid", Versions: []int64{1, 6, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 0.2), floatAttr("beta", 0.5),
	}},
	{Name: "HardSwish", Versions: []int64{14, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "LeakyRelu", Versions: []int64{1, 6, 16}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 0.01),
	}},
	{Name: "Mish", Versions: []int64{18, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Selu", Versions: []int64{1, 6, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 1.6732632), floatAttr("gamma", 1.050701),
	}},
	{Name: "Shrink", Versions: []int64{9}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("bias", 0.0), floatAttr("lambd", 0.5),
	}},
	{Name: "Softplus", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Softsign", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Swish", Versions: []int64{24}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{floatAttr("alpha", 1.0)}},
	{Name: "ThresholdedRelu", Versions: []int64{10, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 1.0),
	}},
	{Name: "BitwiseNot", Versions: []int64{18}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Name: "Identity", Versions: []int64{1, 13, 14, 16, 19, 21, 23, 24, 25}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, eval: evalIdentity},
	{Name: "IsInf", Versions: []int64{10, 20}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameBool, Attrs: []AttrSpec{
		intAttr("detect_negative", 1), intAttr("detect_positive", 1),
	}},
	{Name: "IsNaN", Versions: []int64{9, 13, 20}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameBool},
	{Name: "Not", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameBool, eval: evalNot},
	{Name: "Clip", Versions: []int64{1, 6, 11, 12, 13}, MinIn: 1, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferClip, eval: evalClip, Attrs: []AttrSpec{
		floatAttr("max", math.MaxFloat32), floatAttr("min", -math.MaxFloat32),
	}},
	{Name: "Softmax", Versions: []int64{1, 11, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferAlongAxis, Attrs: []AttrSpec{
		intAttr("axis", -1),
	}},
	{Name: "LogSoftmax", Versions: []int64{1, 11, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferAlongAxis, Attrs: []AttrSpec{
		intAttr("axis", -1),
	}},
	{Name: "Hardmax", Versions: []int64{1, 11, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferAlongAxis, Attrs: []AttrSpec{
		intAttr("axis", -1),
	}},
	{Name: "Dropout", Versions: []int64{1, 6, 7, 10, 12, 13, 22}, MinIn: 1, MaxIn: 3, MinOut: 1, MaxOut: 2, Infer: inferDropout, Attrs: []AttrSpec{
		floatAttr("ratio", 0.5), optional(ir.AttrInt, "seed"),
	}},
}

// inferClip checks that the bounds are scalars.
func inferClip(c *Ctx) error {
	if err := c.sameElem(c.allInputs()...); err != nil {
		return err
	}
	for i := 1; i < c.NumIn(); i++ {
		if s := c.Shape(i); len(s) > 1 || len(s) == 1 && s[0].Known() && s[0].Size != 1 {
			return fmt.Errorf("bound in input %d has shape %v, must be a scalar", i, s)
		}
	}
	return inferSame(c)
}

func evalClip(e *evalCtx) []*part {
	if e.node.Attr("min") != nil || e.node.Attr("max") != nil {
		return nil
	}
	p := e.in(0)
	for i := 1; i < 3 && p != nil; i++ {
		if !e.has(i) {
			continue
		}
		bound := e.in(i)
		if bound == nil || bound.len() != 1 || bound.elem != p.elem {
			return nil
		}
		q := newPart(p.elem, p.dims)
		for k := 0; k < p.len(); k++ {
			switch {
			case p.f != nil && i == 1:
				q.f[k] = math.Max(p.f[k], bound.f[0])
			case p.f != nil:
				q.f[k] = math.Min(p.f[k], bound.f[0])
			case i == 1:
				q.v[k] = maxNum(p.v[k], bound.v[0])
			default:
				q.v[k] = minNum(p.v[k], bound.v[0])
			}
		}
		p = q
	}
	return one(p)
}
