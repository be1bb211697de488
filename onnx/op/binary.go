package op

import (
	"mqatc/onnx/ir"
)

// binaryTable lists elementwise operators of several tensors.
var binaryTable = []Schema{
	{Name: "Add", Versions: []int64{1, 6, 7, 13, 14}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalAdd},
	{Name: "Sub", Versions: []int64{1, 6, 7, 13, 14}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalSub},
	{Name: "Mul", Versions: []int64{1, 6, 7, 13, 14}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalMul},
	{Name: "Div", Versions: []int64{1, 6, 7, 13, 14}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalDiv},
	{Name: "Mod", Versions: []int64{10, 13, 28}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalMod, Attrs: []AttrSpec{
		intAttr("fmod", 0),
	}},
	{Name: "Min", Versions: []int64{1, 6, 8, 12, 13}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalMin},
	{Name: "Max", Versions: []int64{1, 6, 8, 12, 13}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalMax},
	{Name: "Mean", Versions: []int64{1, 6, 8, 13}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferBroadcast},
	{Name: "Sum", Versions: []int64{1, 6, 8, 13}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, eval: evalAdd},
	{Name: "BitwiseAnd", Versions: []int64{18}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast},
	{Name: "BitwiseOr", Versions: []int64{18}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast},
	{Name: "BitwiseXor", Versions: []int64{18}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast},
	{Name: "BitShift", Versions: []int64{11, 28}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, Attrs: []AttrSpec{
		required(ir.AttrString, "direction"),
	}},
	{Name: "SwiGLU", Versions: []int64{28}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast, Attrs: []AttrSpec{floatAttr("alpha", 1.0)}},
	{Name: "And", Versions: []int64{1, 7}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalAnd},
	{Name: "Or", Versions: []int64{1, 7}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalOr},
	{Name: "Xor", Versions: []int64{1, 7}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalXor},
	{Name: "Equal", Versions: []int64{1, 7, 11, 13, 19}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalEqual},
	{Name: "Less", Versions: []int64{1, 7, 9, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalLess},
	{Name: "LessOrEqual", Versions: []int64{12, 16}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalLessEq},
	{Name: "Greater", Versions: []int64{1, 7, 9, 13}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalGreater},
	{Name: "GreaterOrEqual", Versions: []int64{12, 16}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferCompare, eval: evalGrtEq},
	{Name: "Pow", Versions: []int64{1, 7, 12, 13, 15}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferFirstElem, eval: evalPow},
	{Name: "PRelu", Versions: []int64{1, 6, 7, 9, 16}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferPRelu},
	{Name: "Where", Versions: []int64{9, 16}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferWhere, eval: evalWhere},
}
