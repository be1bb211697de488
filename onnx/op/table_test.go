package op_test

import (
	"math"
	"testing"

	"mqatc/onnx/ir"
)

const maxInt = math.MaxInt64

func TestElementwise(t *testing.T) {
	runCases(t, []nodeCase{
		{"Relu", []any{"float[N,3,?]"}, nil, []string{"float[N,3,?]"}},
		{"Relu", []any{"float[...]"}, nil, []string{"float[...]"}},
		{"IsNaN", []any{"float[2]"}, nil, []string{"bool[2]"}},
		{"Clip", []any{"float[2,3]", float32(0), float32(6)}, nil, []string{"float[2,3]"}},
		{"Clip", []any{"float[2,3]", nil, []float32{1, 2}}, nil, []string{"error scalar"}},
		{"Dropout", []any{"float[2,3]"}, nil, []string{"float[2,3]", "bool[2,3]"}},
		{"Add", []any{"float[2,3,4]", "float[3,1]"}, nil, []string{"float[2,3,4]"}},
		{"Add", []any{"float[1,4]", "float[5,1]"}, nil, []string{"float[5,4]"}},
		{"Add", []any{"float[N,3]", "float[N,1]"}, nil, []string{"float[N,3]"}},
		{"Add", []any{"float[N,3]", "float[1,3]"}, nil, []string{"float[N,3]"}},
		{"Add", []any{"float[N]", "float[M]"}, nil, []string{"float[?]"}},
		{"Add", []any{"float[N]", "float[7]"}, nil, []string{"float[7]"}},
		{"Add", []any{"float[0]", "float[1]"}, nil, []string{"float[0]"}},
		{"Add", []any{"float[2,3]", "float[2]"}, nil, []string{"error do not broadcast"}},
		{"Add", []any{"float[2]", "int64[2]"}, nil, []string{"error int64"}},
		{"Sum", []any{"float[2,1]", "float[3]", "float"}, nil, []string{"float[2,3]"}},
		{"Pow", []any{"float[2,1]", "int64[3]"}, nil, []string{"float[2,3]"}},
		{"Less", []any{"float[2,1]", "float[3]"}, nil, []string{"bool[2,3]"}},
		{"And", []any{"bool[2,1]", "bool[3]"}, nil, []string{"bool[2,3]"}},
		{"Where", []any{"bool[4,1]", "float[3]", "float"}, nil, []string{"float[4,3]"}},
		{"Where", []any{"float[4,1]", "float[3]", "float"}, nil, []string{"error must be bool"}},
		{"PRelu", []any{"float[2,3,4]", "float[3,1]"}, nil, []string{"float[2,3,4]"}},
		{"PRelu", []any{"float[3]", "float[2,3]"}, nil, []string{"error onto"}},
		{"Softmax", []any{"float[2,3]"}, attrs(aInt("axis", -1)), []string{"float[2,3]"}},
		{"Softmax", []any{"float[2,3]"}, attrs(aInt("axis", 9)), []string{"error axis 9"}},
		{"Softmax", []any{"float[2,3]"}, attrs(aFloat("axis", 1)), []string{"error kind float"}},
		{"Relu", []any{"float[2]"}, attrs(aInt("axis", 1)), []string{`error no attribute "axis"`}},
		{"Relu", []any{nil}, nil, []string{"error input 0 is required"}},
		{"Relu", []any{"float", "float"}, nil, []string{"error 2 inputs"}},
	})
}

func TestConvolutions(t *testing.T) {
	x, w := "float[2,3,9,11]", "float[8,3,3,3]"
	pads := aInts("pads", 1, 1, 1, 1)
	runCases(t, []nodeCase{
		{"Conv", []any{x, w, "float[8]"}, attrs(pads), []string{"float[2,8,9,11]"}},
		{"Conv", []any{x, w}, attrs(aInts("strides", 2, 2)), []string{"float[2,8,4,5]"}},
		{"Conv", []any{x, w}, attrs(aInts("dilations", 2, 3)), []string{"float[2,8,5,5]"}},
		{"Conv", []any{x, w}, attrs(aStr("auto_pad", "SAME_UPPER"), aInts("strides", 2, 3)), []string{"float[2,8,5,4]"}},
		{"Conv", []any{x, w}, attrs(aStr("auto_pad", "VALID")), []string{"float[2,8,7,9]"}},
		{"Conv", []any{"float[N,3,H,W]", w}, attrs(pads, aInts("strides", 2, 2)), []string{"float[N,8,((H - 1)//2) + 1,((W - 1)//2) + 1]"}},
		{"Conv", []any{"float[N,3,H,W]", w}, attrs(pads), []string{"float[N,8,H,W]"}},
		{"Conv", []any{"float[2,6,9,9]", "float[4,3,1,1]"}, attrs(aInt("group", 2)), []string{"float[2,4,9,9]"}},
		{"Conv", []any{"float[2,3,9]", "float[4,3,3]"}, nil, []string{"float[2,4,7]"}},
		{"Conv", []any{"float[...]", w}, nil, []string{"float[?,8,?,?]"}},
		{"Conv", []any{x, "float[...]"}, attrs(aInts("kernel_shape", 3, 3)), []string{"float[2,?,7,9]"}},
		{"Conv", []any{x, w}, attrs(aInts("strides", 1)), []string{"error strides [1] has 1 entries"}},
		{"Conv", []any{x, w}, attrs(aInts("strides", 0, 1)), []string{"error strides [0 1] is not positive"}},
		{"Conv", []any{x, w}, attrs(aInts("dilations", 1, 1, 1)), []string{"error dilations"}},
		{"Conv", []any{x, w}, attrs(aInts("pads", 1, 1)), []string{"error pads"}},
		{"Conv", []any{x, w}, attrs(aInts("pads", -1, 0, 0, 0)), []string{"error negative"}},
		{"Conv", []any{x, w}, attrs(aInts("kernel_shape", 5, 5)), []string{"error contradicts"}},
		{"Conv", []any{x, w}, attrs(aInt("group", 0)), []string{"error group 0"}},
		{"Conv", []any{x, w}, attrs(aStr("auto_pad", "MAYBE")), []string{"error MAYBE"}},
		{"Conv", []any{x, "float[8,4,3,3]"}, nil, []string{"error channels"}},
		{"Conv", []any{x, "float[8,3,3]"}, nil, []string{"error equal rank"}},
		{"Conv", []any{x, w, "float[7]"}, nil, []string{"error input 2"}},
		{"Conv", []any{x, "float[8,3,13,3]"}, nil, []string{"error does not fit"}},
		{"Conv", []any{x, "float16[8,3,3,3]"}, nil, []string{"error float16"}},
		{"ConvTranspose", []any{"float[1,8,5,5]", "float[8,4,3,3]"}, attrs(aInts("strides", 2, 2), pads), []string{"float[1,4,9,9]"}},
		{"ConvTranspose", []any{"float[1,8,5,5]", "float[8,4,3,3]"}, attrs(aInts("strides", 2, 2), pads, aInts("output_padding", 1, 1)), []string{"float[1,4,10,10]"}},
		{"ConvTranspose", []any{"float[1,8,5,5]", "float[8,4,2,2]"}, attrs(aInts("output_shape", 11, 12), aInt("group", 2)), []string{"float[1,8,11,12]"}},
		{"ConvTranspose", []any{"float[N,8,H,W]", "float[8,4,2,2]"}, attrs(aInts("strides", 2, 2)), []string{"float[N,4,2*H,2*W]"}},
		{"ConvTranspose", []any{"float[1,7,5,5]", "float[8,4,2,2]"}, nil, []string{"error channels"}},
		{"ConvInteger", []any{"uint8[1,1,3,3]", "int8[1,1,2,2]"}, nil, []string{"int32[1,1,2,2]"}},
		{"QLinearConv", []any{"uint8[1,3,7,7]", "float", "uint8", "int8[8,3,3,3]", "float[8]", "int8[8]", "float", "uint8", "int32[8]"}, attrs(pads), []string{"uint8[1,8,7,7]"}},
		{"com.microsoft:FusedConv", []any{x, w, "float[8]"}, attrs(aStr("activation", "Relu"), pads), []string{"float[2,8,9,11]"}},
		{"com.microsoft.nchwc:Conv", []any{"float[2,32,9,9]", "float[64,32,3,3]"}, attrs(pads, aInts("kernel_shape", 3, 3)), []string{"float[2,64,9,9]"}},
		{"com.microsoft.nchwc:ReorderInput", []any{"float[2,32,9,9]"}, nil, []string{"float[2,32,9,9]"}},
		{"com.microsoft.nchwc:ReorderInput", []any{"float[2,20,9,9]"}, nil, []string{"float[2,?,9,9]"}},
		{"com.microsoft.nchwc:ReorderOutput", []any{"float[2,32,9,9]"}, attrs(aInt("channels", 20)), []string{"float[2,20,9,9]"}},
	})
}

func TestPools(t *testing.T) {
	k3, s2 := aInts("kernel_shape", 3, 3), aInts("strides", 2, 2)
	runCases(t, []nodeCase{
		{"MaxPool", []any{"float[1,8,10,10]"}, attrs(k3, s2), []string{"float[1,8,4,4]", "int64[1,8,4,4]"}},
		{"MaxPool", []any{"float[1,8,10,10]"}, attrs(k3, s2, aInt("ceil_mode", 1)), []string{"float[1,8,5,5]"}},
		// The fifth window would begin in the padding, so it does not count.
		{"MaxPool", []any{"float[1,8,4,4]"}, attrs(aInts("kernel_shape", 1, 1), s2, aInts("pads", 0, 0, 1, 1), aInt("ceil_mode", 1)), []string{"float[1,8,2,2]"}},
		{"AveragePool", []any{"float[N,8,H,16]"}, attrs(aInts("kernel_shape", 2, 2), s2), []string{"float[N,8,((H - 2)//2) + 1,8]"}},
		{"AveragePool", []any{"float[1,8,10,10]"}, attrs(aInts("kernel_shape", 3)), []string{"error kernel_shape"}},
		{"AveragePool", []any{"float[1,8,10,10]"}, nil, []string{`error "kernel_shape" is missing`}},
		{"MaxPool", []any{"float[1,8,2,2]"}, attrs(k3), []string{"error does not fit"}},
		{"MaxPool", []any{"float[8]"}, attrs(k3), []string{"error rank 3"}},
		{"GlobalAveragePool", []any{"float[N,8,H,W]"}, nil, []string{"float[N,8,1,1]"}},
	})
}

func TestLinear(t *testing.T) {
	runCases(t, []nodeCase{
		{"MatMul", []any{"float[2,3]", "float[3,4]"}, nil, []string{"float[2,4]"}},
		{"MatMul", []any{"float[7,1,2,3]", "float[5,3,4]"}, nil, []string{"float[7,5,2,4]"}},
		{"MatMul", []any{"float[3]", "float[3]"}, nil, []string{"float"}},
		{"MatMul", []any{"float[5,2,3]", "float[3]"}, nil, []string{"float[5,2]"}},
		{"MatMul", []any{"float[2,3]", "float[4,3]"}, nil, []string{"error inner"}},
		{"MatMul", []any{"float", "float[4,3]"}, nil, []string{"error scalars"}},
		{"Gemm", []any{"float[3,2]", "float[4,3]", "float[4]"}, attrs(aInt("transA", 1), aInt("transB", 1)), []string{"float[2,4]"}},
		{"Gemm", []any{"float[N,3]", "float[3,4]"}, nil, []string{"float[N,4]"}},
		{"Gemm", []any{"float[2,3]", "float[3,4]", "float[3]"}, nil, []string{"error broadcast"}},
		{"Gemm", []any{"float[2,3,1]", "float[3,4]"}, nil, []string{"error rank 2"}},
		{"MatMulInteger", []any{"uint8[2,3]", "int8[3,4]"}, nil, []string{"int32[2,4]"}},
		{"Einsum", []any{"float[2,3]", "float[3,4]"}, attrs(aStr("equation", "ij,jk->ki")), []string{"float[4,2]"}},
		{"Einsum", []any{"float[5,2,3]", "float[5,3,4]"}, attrs(aStr("equation", "...ij, ...jk")), []string{"float[5,2,4]"}},
		{"Einsum", []any{"float[2,3]"}, attrs(aStr("equation", "ij->ik")), []string{"error stands in no term"}},
		{"com.microsoft:FusedMatMul", []any{"float[3,2]", "float[4,3]"}, attrs(aInt("transA", 1), aInt("transB", 1)), []string{"float[2,4]"}},
	})
}

func TestNormalizations(t *testing.T) {
	runCases(t, []nodeCase{
		{"BatchNormalization", []any{"float[2,3,4,4]", "float[3]", "float[3]", "float[3]", "float[3]"}, nil, []string{"float[2,3,4,4]"}},
		{"BatchNormalization", []any{"float[2,3,4,4]", "float[3]", "float[3]", "float[3]", "float[3]"}, attrs(aInt("training_mode", 1)), []string{"float[2,3,4,4]", "float[3]", "float[3]"}},
		{"BatchNormalization", []any{"float[2,3,4,4]", "float[4]", "float[3]", "float[3]", "float[3]"}, nil, []string{"error input 1"}},
		{"InstanceNormalization", []any{"float[2,3,4]", "float[3]", "float[3]"}, nil, []string{"float[2,3,4]"}},
		{"LayerNormalization", []any{"float[2,3,4]", "float[4]"}, nil, []string{"float[2,3,4]", "float[2,3,1]", "float[2,3,1]"}},
		{"GroupNormalization", []any{"float[2,6,4]", "float[6]", "float[6]"}, attrs(aInt("num_groups", 3)), []string{"float[2,6,4]"}},
		{"GroupNormalization", []any{"float[2,6,4]", "float[6]", "float[6]"}, attrs(aInt("num_groups", 4)), []string{"error 4 groups"}},
	})
}

func TestReductions(t *testing.T) {
	runCases(t, []nodeCase{
		{"ReduceSum", []any{"float[2,3,4]", []int64{1, -1}}, nil, []string{"float[2,1,1]"}},
		{"ReduceSum", []any{"float[2,3,4]", []int64{1}}, attrs(aInt("keepdims", 0)), []string{"float[2,4]"}},
		{"ReduceSum", []any{"float[2,3,4]"}, attrs(aInt("noop_with_empty_axes", 1)), []string{"float[2,3,4]"}},
		{"ReduceSum", []any{"float[2,3,4]", "int64[1]"}, nil, []string{"float[?,?,?]"}},
		{"ReduceSum", []any{"float[2,3,4]", "int64[1]"}, attrs(aInt("keepdims", 0)), []string{"float[?,?]"}},
		{"ReduceMean", []any{"float[N,3,4]"}, attrs(aInts("axes", 2), aInt("keepdims", 0)), []string{"float[N,3]"}},
		{"ReduceMax", []any{"float[N,3,4]"}, attrs(aInt("keepdims", 0)), []string{"float"}},
		{"ReduceMax", []any{"float[2,3]"}, attrs(aInts("axes", 2)), []string{"error axis 2"}},
		{"ReduceMax", []any{"float[2,3]"}, attrs(aInts("axes", 1, -1)), []string{"error twice"}},
		{"ArgMax", []any{"float[2,3]"}, attrs(aInt("axis", 1), aInt("keepdims", 0)), []string{"int64[2]"}},
		{"TopK", []any{"float[2,9]", []int64{4}}, nil, []string{"float[2,4]", "int64[2,4]"}},
		{"TopK", []any{"float[2,9]", []int64{10}}, nil, []string{"error k is 10", ""}},
	})
}

func TestShapes(t *testing.T) {
	runCases(t, []nodeCase{
		{"Reshape", []any{"float[2,3,4]", []int64{0, -1}}, nil, []string{"float[2,12]"}},
		{"Reshape", []any{"float[N,3,4]", []int64{-1, 12}}, nil, []string{"float[N,12]"}},
		{"Reshape", []any{"float[N,3,4]", []int64{0, -1}}, nil, []string{"float[N,12]"}},
		{"Reshape", []any{"float[N,3,H,W]", []int64{0, 3, -1}}, nil, []string{"float[N,3,(H*W)]"}},
		{"Reshape", []any{"float[N,6,H]", []int64{0, 2, 3, -1}}, nil, []string{"float[N,2,3,H]"}},
		{"Reshape", []any{"float[0,3]", []int64{0, 3}}, attrs(aInt("allowzero", 1)), []string{"float[0,3]"}},
		{"Reshape", []any{"float[2,3]", []int64{5}}, nil, []string{"error numbers of elements differ"}},
		{"Reshape", []any{"float[2,3]", []int64{-1, 4}}, nil, []string{"error do not divide"}},
		{"Reshape", []any{"float[2,3]", []int64{-1, -1}}, nil, []string{"error two -1"}},
		{"Reshape", []any{"float[2,3]", []int64{-2, 3}}, nil, []string{"error negative"}},
		{"Reshape", []any{"float[2,3]", []int64{2, 3, 0}}, nil, []string{"error copies axis 2"}},
		{"Reshape", []any{"float[2,3]", "int64[4]"}, nil, []string{"float[?,?,?,?]"}},
		{"Reshape", []any{"float[2,3]", "int64[999999]"}, nil, []string{"float[...]"}},
		{"Flatten", []any{"float[2,3,4]"}, attrs(aInt("axis", 2)), []string{"float[6,4]"}},
		{"Flatten", []any{"float[N,3,4]"}, nil, []string{"float[N,12]"}},
		{"Flatten", []any{"float[2,3,4]"}, attrs(aInt("axis", 0)), []string{"float[1,24]"}},
		{"Transpose", []any{"float[N,3,4]"}, attrs(aInts("perm", 0, 2, 1)), []string{"float[N,4,3]"}},
		{"Transpose", []any{"float[2,3,4]"}, nil, []string{"float[4,3,2]"}},
		{"Transpose", []any{"float[2,3,4]"}, attrs(aInts("perm", 0, 1)), []string{"error perm"}},
		{"Transpose", []any{"float[2,3]"}, attrs(aInts("perm", 1, 1)), []string{"error twice"}},
		{"Squeeze", []any{"float[1,3,1]", []int64{0}}, nil, []string{"float[3,1]"}},
		{"Squeeze", []any{"float[1,3,1]"}, nil, []string{"float[3]"}},
		{"Squeeze", []any{"float[1,3,1]"}, attrs(aInts("axes", 1)), []string{"error is not 1"}},
		{"Unsqueeze", []any{"float[3]", []int64{0, -1}}, nil, []string{"float[1,3,1]"}},
		{"Unsqueeze", []any{"float[3]"}, attrs(aInts("axes", 3)), []string{"error axis 3"}},
		{"Shape", []any{"float[N,3,4]"}, nil, []string{"int64[3]"}},
		{"Shape", []any{"float[N,3,4]"}, attrs(aInt("start", 1), aInt("end", -1)), []string{"int64[1]"}},
		{"Size", []any{"float[N,3,4]"}, nil, []string{"int64"}},
		{"Expand", []any{"float[3,1]", []int64{2, 1, 6}}, nil, []string{"float[2,3,6]"}},
		{"Expand", []any{"float[3,1]", []int64{4, 1}}, nil, []string{"error do not broadcast"}},
		{"Tile", []any{"float[2,3]", []int64{1, 2}}, nil, []string{"float[2,6]"}},
		{"Tile", []any{"float[2,3]", []int64{1}}, nil, []string{"error repeats"}},
		{"DepthToSpace", []any{"float[1,8,2,3]"}, attrs(aInt("blocksize", 2)), []string{"float[1,2,4,6]"}},
		{"DepthToSpace", []any{"float[1,7,2,3]"}, attrs(aInt("blocksize", 2)), []string{"error blocksize"}},
		{"SpaceToDepth", []any{"float[1,2,4,6]"}, attrs(aInt("blocksize", 2)), []string{"float[1,8,2,3]"}},
	})
}

func TestSlices(t *testing.T) {
	runCases(t, []nodeCase{
		{"Concat", []any{"float[N,2]", "float[N,3]"}, attrs(aInt("axis", 1)), []string{"float[N,5]"}},
		{"Concat", []any{"float[A,2]", "float[B,2]"}, attrs(aInt("axis", 0)), []string{"float[(A + B),2]"}},
		{"Concat", []any{"float[2,2]", "float[2,3]"}, attrs(aInt("axis", 0)), []string{"error axis 1"}},
		{"Concat", []any{"float[2,2]", "float[2]"}, attrs(aInt("axis", 0)), []string{"error ranks"}},
		{"Split", []any{"float[2,6]"}, attrs(aInt("axis", 1), aInts("split", 2, 4)), []string{"float[2,2]", "float[2,4]"}},
		{"Split", []any{"float[2,7]"}, attrs(aInt("axis", 1), aInt("num_outputs", 3)), []string{"float[2,3]", "float[2,3]", "float[2,1]"}},
		{"Split", []any{"float[2,6]", []int64{1, 5}}, attrs(aInt("axis", 1)), []string{"float[2,1]", "float[2,5]"}},
		{"Split", []any{"float[2,6]", []int64{1, 4}}, attrs(aInt("axis", 1)), []string{"error add up", ""}},
		{"Slice", []any{"float[9,9]", []int64{1}, []int64{-1}, []int64{1}}, nil, []string{"float[9,7]"}},
		{"Slice", []any{"float[9,9]", []int64{-1}, []int64{-maxInt - 1}, []int64{0}, []int64{-1}}, nil, []string{"float[9,9]"}},
		{"Slice", []any{"float[9,9]", []int64{0}, []int64{maxInt}, []int64{0}, []int64{2}}, nil, []string{"float[5,9]"}},
		{"Slice", []any{"float[N,9]", []int64{0}, []int64{maxInt}, []int64{0}}, nil, []string{"float[N,9]"}},
		{"Slice", []any{"float[9]", []int64{0}, []int64{1}, []int64{0}, []int64{0}}, nil, []string{"error step is 0"}},
		{"Slice", []any{"float[9]", []int64{-maxInt - 1}, []int64{maxInt}}, nil, []string{"float[9]"}},
		{"Slice", []any{"float[9,8]"}, attrs(aInts("starts", 2), aInts("ends", 5), aInts("axes", 1)), []string{"float[9,3]"}},
		{"Slice", []any{"float[9]", []int64{0}, []int64{1}, []int64{3}}, nil, []string{"error axis 3"}},
		{"Pad", []any{"float[2,3]", []int64{0, 1, 0, 2}}, nil, []string{"float[2,6]"}},
		{"Pad", []any{"float[2,3]", []int64{0, -1, 0, -1}}, nil, []string{"float[2,1]"}},
		{"Pad", []any{"float[2,3]", []int64{0, -2, 0, -2}}, nil, []string{"error pads"}},
		{"Pad", []any{"float[2,3]", []int64{1, 1}, nil, []int64{-1}}, nil, []string{"float[2,5]"}},
		{"Pad", []any{"float[2,3]", []int64{1, 1}}, nil, []string{"error 2 pads"}},
		{"Resize", []any{"float[1,3,8,8]", nil, []float32{1, 1, 2, 1.5}}, nil, []string{"float[1,3,16,12]"}},
		{"Resize", []any{"float[1,3,8,8]", nil, nil, []int64{1, 3, 5, 7}}, nil, []string{"float[1,3,5,7]"}},
		{"Resize", []any{"float[N,3,H,W]", nil, []float32{1, 1, 2, 2}}, nil, []string{"float[N,3,2*H,2*W]"}},
		{"Resize", []any{"float[1,3,8,8]", []float32{1, 1, 2, 2}}, nil, []string{"float[1,3,16,16]"}},
		{"Resize", []any{"float[1,3,8,8]", nil, []float32{1, 2, 2}}, nil, []string{"error 3 scales"}},
		{"Resize", []any{"float[1,3,8,8]", nil, []float32{1, 1, -2, 2}}, nil, []string{"error not positive"}},
		{"Upsample", []any{"float[1,3,8,8]", []float32{1, 1, 2, 2}}, nil, []string{"float[1,3,16,16]"}},
	})
}

func TestIndexing(t *testing.T) {
	runCases(t, []nodeCase{
		{"Gather", []any{"float[5,3]", "int64[2,4]"}, nil, []string{"float[2,4,3]"}},
		{"Gather", []any{"float[5,3]", 1}, attrs(aInt("axis", 1)), []string{"float[5]"}},
		{"Gather", []any{"float[5,3]", 5}, nil, []string{"error index 5"}},
		{"GatherElements", []any{"float[5,3]", "int64[2,3]"}, nil, []string{"float[2,3]"}},
		{"GatherND", []any{"float[5,3,4]", "int64[7,2]"}, nil, []string{"float[7,4]"}},
		{"GatherND", []any{"float[5,3,4]", "int64[5,1]"}, attrs(aInt("batch_dims", 1)), []string{"float[5,4]"}},
		{"GatherND", []any{"float[5]", "int64[7,2]"}, nil, []string{"error more axes"}},
		{"ScatterND", []any{"float[5,3,4]", "int64[7,2]", "float[7,4]"}, nil, []string{"float[5,3,4]"}},
		{"ScatterND", []any{"float[5,3,4]", "int64[7,2]", "float[7,3]"}, nil, []string{"error updates"}},
		{"ScatterElements", []any{"float[5,3]", "int64[2,3]", "float[2,3]"}, nil, []string{"float[5,3]"}},
		{"Compress", []any{"float[5,3]", []int64{1, 0, 1}}, attrs(aInt("axis", 0)), []string{"float[2,3]"}},
		{"Compress", []any{"float[1,2]", []int64{1, 0, 1}}, nil, []string{"float[1]"}},
		{"Compress", []any{"float[N]", []int64{1, 0, 1}}, nil, []string{"float[2]"}},
		{"Compress", []any{"float[5,3]", "bool[15]"}, nil, []string{"float[?]"}},
		{"NonZero", []any{"float[5,3]"}, nil, []string{"int64[2,?]"}},
		{"NonZero", []any{[]int64{0, 3, 4}}, nil, []string{"int64[1,2]"}},
		{"OneHot", []any{"int64[5]", 7, "float[2]"}, nil, []string{"float[5,7]"}},
		{"CumSum", []any{"float[5,3]", 0}, nil, []string{"float[5,3]"}},
		{"Trilu", []any{"float[5,3]"}, nil, []string{"float[5,3]"}},
		{"Range", []any{0, 10, 3}, nil, []string{"int64[4]"}},
		{"Range", []any{10, 0, -3}, nil, []string{"int64[4]"}},
		{"ConstantOfShape", []any{[]int64{2, 3}}, nil, []string{"float[2,3]"}},
		{"ConstantOfShape", []any{[]int64{2, -3}}, nil, []string{"error negative"}},
		{"ConstantOfShape", []any{[]int64{1 << 40, 1 << 40}}, nil, []string{"error overflow"}},
		{"Cast", []any{"float[5,3]"}, attrs(aInt("to", int64(ir.Int8))), []string{"int8[5,3]"}},
		{"Cast", []any{"float[5,3]"}, attrs(aInt("to", 999)), []string{"error no element type"}},
		{"CastLike", []any{"float[5,3]", "int8"}, nil, []string{"int8[5,3]"}},
		{"Constant", nil, attrs(aInts("value_ints", 4, 5)), []string{"int64[2]"}},
		{"Constant", nil, nil, []string{"error exactly one value"}},
	})
}

func TestQuantization(t *testing.T) {
	runCases(t, []nodeCase{
		{"QuantizeLinear", []any{"float[2,3]", "float", "int8"}, nil, []string{"int8[2,3]"}},
		{"QuantizeLinear", []any{"float[2,3]", "float"}, nil, []string{"uint8[2,3]"}},
		{"QuantizeLinear", []any{"float[2,3]", "float"}, attrs(aInt("output_dtype", int64(ir.Int4))), []string{"int4[2,3]"}},
		{"QuantizeLinear", []any{"float[2,3]", "float[3]", "int8[3]"}, nil, []string{"int8[2,3]"}},
		{"QuantizeLinear", []any{"float[2,3]", "float[2]", "int8[2]"}, nil, []string{"error axis 1"}},
		{"DequantizeLinear", []any{"int2[2,3]", "float[2]"}, attrs(aInt("axis", 0)), []string{"float[2,3]"}},
		{"DequantizeLinear", []any{"int4[2,64]", "float[2,2]"}, attrs(aInt("axis", 1), aInt("block_size", 32)), []string{"float[2,64]"}},
		{"DequantizeLinear", []any{"int4[2,64]", "float[2,3]"}, attrs(aInt("axis", 1), aInt("block_size", 32)), []string{"error blocks of 32"}},
		{"DequantizeLinear", []any{"uint8[2,3]", "float", "int8"}, nil, []string{"error int8"}},
		{"DynamicQuantizeLinear", []any{"float[2,3]"}, nil, []string{"uint8[2,3]", "float", "uint8"}},
	})
}

func TestStrings(t *testing.T) {
	size := []ir.Attr{aInt("min_gram_length", 2), aInt("max_gram_length", 2), aInt("max_skip_count", 0), aStr("mode", "TF"), aInts("ngram_counts", 0, 4)}
	grams := append(size, aInts("ngram_indexes", 0, 6, 2))
	stop := ir.Attr{Name: "stopwords", Kind: ir.AttrStrings, Strings: [][]byte{[]byte("monday")}}
	runCases(t, []nodeCase{
		{"StringConcat", []any{"string[2,1]", "string[3]"}, nil, []string{"string[2,3]"}},
		{"StringSplit", []any{"string[2,N]"}, nil, []string{"string[2,N,?]", "int64[2,N]"}},
		{"RegexFullMatch", []any{"string[2,3]"}, attrs(aStr("pattern", "a.*")), []string{"bool[2,3]"}},
		{"StringNormalizer", []any{"string[4]"}, nil, []string{"string[4]"}},
		{"StringNormalizer", []any{"string[N]"}, nil, []string{"string[?]"}},
		{"StringNormalizer", []any{"string[?,4]"}, attrs(stop), []string{"string[1,?]"}},
		{"StringNormalizer", []any{"string[2,4]"}, nil, []string{"error [1, C]"}},
		{"TfIdfVectorizer", []any{"int32[12]"}, grams, []string{"float[7]"}},
		{"TfIdfVectorizer", []any{"string[N,12]"}, grams, []string{"float[N,7]"}},
		{"TfIdfVectorizer", []any{"string[1,1,12]"}, grams, []string{"error rank 1 or 2"}},
		{"TfIdfVectorizer", []any{"string[12]"}, append(size, aInts("ngram_indexes", -1)), []string{"error out of range"}},
		{"TfIdfVectorizer", []any{"string[12]"}, append(size, aInts("ngram_indexes")), []string{"error is empty"}},
		{"ImageDecoder", []any{"uint8[N]"}, nil, []string{"uint8[?,?,?]"}},
		{"ImageDecoder", []any{"uint8[2,N]"}, nil, []string{"error rank 1"}},
	})
}

func TestModelsOfSequences(t *testing.T) {
	heads := attrs(aInt("q_num_heads", 4), aInt("kv_num_heads", 2))
	runCases(t, []nodeCase{
		{"Attention", []any{"float[2,3,4,8]", "float[2,3,6,8]", "float[2,3,6,5]"}, nil, []string{"float[2,3,4,5]", "float[2,3,6,8]", "float[2,3,6,5]", "float[2,3,4,6]"}},
		{"Attention", []any{"float[2,T,32]", "float[2,6,16]", "float[2,6,10]", nil, "float[2,2,P,8]", "float[2,2,P,5]"}, heads,
			[]string{"float[2,T,20]", "float[2,2,P + 6,8]", "float[2,2,P + 6,5]", "float[2,4,T,P + 6]"}},
		{"LinearAttention", []any{"float16[N,T,32]", "float16[N,T,16]", "float16[N,T,10]", "float[N,2,8,5]"}, heads, []string{"float16[N,T,20]", "float[N,2,8,5]"}},
		{"LinearAttention", []any{"float[N,T,32]", "float[N,T,16]", "float[N,T,11]"}, heads, []string{"error input 2 does not divide", ""}},
		{"LinearAttention", []any{"float[N,T,32]", "float[N,T,16]", "float[N,T,10]"}, attrs(aInt("q_num_heads", 0), aInt("kv_num_heads", 2)), []string{"error not positive", ""}},
		{"CausalConvWithState", []any{"float[2,?,L]", "float[6,1,4]", "float[6]"}, nil, []string{"float[2,6,L]", "float[2,6,3]"}},
		{"CausalConvWithState", []any{"float[2,5,L]", "float[6,1,4]"}, nil, []string{"error channels", ""}},
		{"CausalConvWithState", []any{"float[2,5]", "float[5,1,4]"}, nil, []string{"error rank 3", ""}},
		{"ai.onnx.preview:FlexAttention", []any{"float[N,4,T,8]", "float[N,2,S,8]", "float[N,2,S,5]"}, nil, []string{"float[N,4,T,5]"}},
		{"ai.onnx.preview:FlexAttention", []any{"float[N,T,8]", "float[N,2,S,8]", "float[N,2,S,5]"}, nil, []string{"error rank 4"}},
		{"TensorScatter", []any{"float[2,8,64,16]", "float[2,8,T,16]", "int64[2]"}, nil, []string{"float[2,8,64,16]"}},
		{"TensorScatter", []any{"float[2,64,16]", "float[2,65,16]"}, nil, []string{"error does not fit"}},
	})
}

func TestOptimizers(t *testing.T) {
	domain := "ai.onnx.preview.training:"
	momentum := attrs(aFloat("alpha", 0.9), aFloat("beta", 1), aStr("mode", "standard"), aFloat("norm_coefficient", 0))
	names := func(name string, v ...string) ir.Attr {
		a := ir.Attr{Name: name, Kind: ir.AttrStrings}
		for _, s := range v {
			a.Strings = append(a.Strings, []byte(s))
		}
		return a
	}
	xy := attrs(names("xs", "a", "b"), names("zs", "c"), aStr("y", "d"))
	runCases(t, []nodeCase{
		{domain + "Adam", []any{"float", "int64", "float[2]", "float[3]", "float[2]", "float[3]", "float[2]", "float[3]", "float[2]", "float[3]"}, nil,
			[]string{"float[2]", "float[3]", "float[2]", "float[3]", "float[2]", "float[3]"}},
		{domain + "Adagrad", []any{"float", "int64", "float[2]", "float[2]", "float[2]"}, nil, []string{"float[2]", "float[2]"}},
		{domain + "Momentum", []any{"float", "int64", "float[2]", "float[2]", "double[2]"}, momentum, []string{"float[2]", "double[2]"}},
		{domain + "Momentum", []any{"float", "int64", "float[2]", "float[2]", "float[2]"}, nil, []string{"error is missing", ""}},
		{domain + "Adam", []any{"float", "int64", "float[2]", "float[2]", "float[2]"}, nil, []string{"error lists of 4", "", ""}},
		{domain + "Gradient", []any{"float[2]", "float[3]", "float[4]"}, xy, []string{"float[2]", "float[3]"}},
		{domain + "Gradient", []any{"float[2]", "float[3]", "float[4]"}, xy, []string{"error 2 names in xs", "", ""}},
	})
}

func TestFusedTransformers(t *testing.T) {
	ms := "com.microsoft:"
	heads, kv := aInt("num_heads", 4), aInt("kv_num_heads", 2)
	share := aInt("past_present_share_buffer", 1)
	runCases(t, []nodeCase{
		{"SimplifiedLayerNormalization", []any{"float[2,T,8]", "float16[8]"}, nil, []string{"float16[2,T,8]", "float[2,T,1]"}},
		{"SimplifiedLayerNormalization", []any{"float[2,T,8]", "float[9]"}, nil, []string{"error do not broadcast"}},
		{ms + "SkipLayerNormalization", []any{"float[N,T,8]", "float[T,8]", "float[8]"}, nil, []string{"float[N,T,8]", "?", "?", "float[N,T,8]"}},
		{ms + "SkipSimplifiedLayerNormalization", []any{"float[T,8]", "float[T,8]", "float[8]"}, nil, []string{"float[T,8]"}},
		{ms + "BiasGelu", []any{"float[N,T,8]", "float[8]"}, nil, []string{"float[N,T,8]"}},
		{ms + "BiasGelu", []any{"float[N,T,8]", "float[9]"}, nil, []string{"error do not broadcast"}},
		{ms + "FastGelu", []any{"float[N,T,8]"}, nil, []string{"float[N,T,8]"}},
		{ms + "MatMulNBits", []any{"float[N,T,64]", "uint8[24,2,16]", "float[48]"}, attrs(aInt("K", 64), aInt("N", 24), aInt("block_size", 32)), []string{"float[N,T,24]"}},
		{ms + "MatMulNBits", []any{"float[N,T,63]", "uint8[24,2,16]", "float[48]"}, attrs(aInt("K", 64), aInt("N", 24), aInt("block_size", 32)), []string{"error inner"}},
		{ms + "Attention", []any{"float[N,T,10]", "float[10,48]"}, attrs(heads), []string{"float[N,T,16]", "float[2,N,4,T,4]"}},
		{ms + "Attention", []any{"float[N,T,10]", "float[10,64]", nil, nil, "float[2,N,4,P,4]"}, attrs(heads, aInts("qkv_hidden_sizes", 16, 16, 32)), []string{"float[N,T,32]", "float[2,N,4,(P + T),4]"}},
		{ms + "Attention", []any{"float[N,T,10]", "float[10,48]", nil, nil, "float[2,N,4,64,4]"}, attrs(heads, share), []string{"float[N,T,16]", "float[2,N,4,64,4]"}},
		{ms + "Attention", []any{"float[N,T,10]", "float[10,48]"}, attrs(aInt("num_heads", 0)), []string{"error num_heads 0"}},
		{ms + "QAttention", []any{"uint8[N,T,10]", "int8[10,48]", "float[48]", "float", "float"}, attrs(heads), []string{"float[N,T,16]"}},
		{ms + "MultiHeadAttention", []any{"float[N,T,16]", "float[N,S,16]", "float[N,S,32]"}, attrs(heads), []string{"float[N,T,32]", "float[N,4,S,4]", "float[N,4,S,8]"}},
		{ms + "MultiHeadAttention", []any{"float[N,T,4,3,5]"}, attrs(heads), []string{"float[N,T,20]", "float[N,4,T,5]", "float[N,4,T,5]"}},
		{ms + "MultiHeadAttention", []any{"float[N,T,16]", "float[N,S,4,2,4]"}, attrs(heads), []string{"float[N,T,16]"}},
		{ms + "MultiHeadAttention", []any{"float[N,T,16]", "float[N,4,S,4]", "float[N,4,S,8]"}, attrs(heads), []string{"float[N,T,32]"}},
		{ms + "MultiHeadAttention", []any{"float[N,T,16]", "float[N,1,16]", "float[N,1,16]", nil, nil, nil, "float[N,4,6,4]", "float[N,4,6,4]"}, attrs(heads), []string{"float[N,T,16]", "float[N,4,7,4]", "float[N,4,7,4]"}},
		{ms + "MultiHeadAttention", []any{"float[N,16]"}, attrs(heads), []string{"error rank 3 or 5"}},
		{ms + "GroupQueryAttention", []any{"float[N,T,32]", "float[N,T,16]", "float[N,T,16]", nil, nil, "int32[N]", "int32"}, attrs(heads, kv), []string{"float[N,T,32]", "float[N,2,?,8]", "float[N,2,?,8]"}},
		{ms + "GroupQueryAttention", []any{"float[N,T,64]", nil, nil, "int8[N,2,9,4]", "int8[N,2,9,4]", "int32[N]", "int32"}, attrs(heads, kv, aInt("kv_cache_bit_width", 4)), []string{"float[N,T,32]", "int8[N,2,?,?]", "int8[N,2,?,?]"}},
	})
}

func TestFusedQuantization(t *testing.T) {
	ms := "com.microsoft:"
	k2, s2 := aInts("kernel_shape", 2, 2), aInts("strides", 2, 2)
	last := aInt("channels_last", 1)
	runCases(t, []nodeCase{
		{ms + "DynamicQuantizeMatMul", []any{"float[N,T,8]", "int8[8,5]", "float[5]"}, nil, []string{"float[N,T,5]"}},
		{ms + "MatMulIntegerToFloat", []any{"uint8[N,T,8]", "int8[8,5]", "float16", "float16[5]"}, nil, []string{"float16[N,T,5]"}},
		{ms + "MatMulIntegerToFloat", []any{"uint8[N,T,7]", "int8[8,5]", "float", "float[5]"}, nil, []string{"error inner"}},
		{ms + "QLinearAveragePool", []any{"uint8[1,8,6,10]", "float", nil, "float"}, attrs(k2, s2), []string{"uint8[1,8,3,5]"}},
		{ms + "QLinearAveragePool", []any{"uint8[1,6,10,8]", "float", "uint8", "float", "uint8"}, attrs(k2, s2, last), []string{"uint8[1,3,5,8]"}},
		{ms + "NhwcMaxPool", []any{"uint8[1,6,10,8]"}, attrs(k2, s2), []string{"uint8[1,3,5,8]"}},
		{ms + "NhwcMaxPool", []any{"uint8[1,6]"}, attrs(k2, s2), []string{"error rank 3"}},
		{ms + "QLinearGlobalAveragePool", []any{"uint8[N,8,6,10]", "float", "uint8", "float", "uint8"}, nil, []string{"uint8[N,8,1,1]"}},
		{ms + "QLinearGlobalAveragePool", []any{"uint8[N,6,10,8]", "float", "uint8", "float", "uint8"}, attrs(last), []string{"uint8[N,1,1,8]"}},
		{ms + "QLinearReduceMean", []any{"uint8[2,3,4]", "float", nil, "float"}, attrs(aInts("axes", -1), aInt("keepdims", 0)), []string{"uint8[2,3]"}},
		{ms + "QLinearReduceMean", []any{"uint8[2,3,4]", "float", "uint8", "float", "uint8"}, attrs(aInts("axes", 1), aInt("keepdims", 1)), []string{"uint8[2,1,4]"}},
		{ms + "QLinearWhere", []any{"bool[4,1]", "uint8[3]", "float", "uint8", "uint8", "float", "uint8", "float", "uint8"}, nil, []string{"uint8[4,3]"}},
	})
}

func TestClassicalMachineLearning(t *testing.T) {
	ml := "ai.onnx.ml:"
	words := func(name string, v ...string) ir.Attr {
		a := ir.Attr{Name: name, Kind: ir.AttrStrings}
		for _, s := range v {
			a.Strings = append(a.Strings, []byte(s))
		}
		return a
	}
	runCases(t, []nodeCase{
		{ml + "ArrayFeatureExtractor", []any{"float[N,4]", "int64[3]"}, nil, []string{"float[N,3]"}},
		{ml + "ArrayFeatureExtractor", []any{"float[4]", "int64[2]"}, nil, []string{"float[1,2]"}},
		{ml + "ArrayFeatureExtractor", []any{"float", "int64[2]"}, nil, []string{"error scalar"}},
		{ml + "Binarizer", []any{"int64[N,4]"}, nil, []string{"int64[N,4]"}},
		{ml + "CategoryMapper", []any{"string[N]"}, nil, []string{"int64[N]"}},
		{ml + "FeatureVectorizer", []any{"float[N,4]", "float[N,2]"}, attrs(aInts("inputdimensions", 4, 2)), []string{"float[N,6]"}},
		{ml + "FeatureVectorizer", []any{"float[N,4]"}, attrs(aInts("inputdimensions", -4)), []string{"error negative"}},
		{ml + "LabelEncoder", []any{"string[N]"}, attrs(words("values_strings", "a")), []string{"string[N]"}},
		{ml + "LabelEncoder", []any{"string[N]"}, attrs(aInts("values_int64s", 1)), []string{"int64[N]"}},
		{ml + "LabelEncoder", []any{"string[N]"}, attrs(ir.ATensor("values_tensor", ir.ScalarFloat32(1))), []string{"float[N]"}},
		{ml + "LinearClassifier", []any{"float[N,4]"}, attrs(words("classlabels_strings", "a", "b")), []string{"string[N]", "float[N,?]"}},
		{ml + "TreeEnsembleClassifier", []any{"float[4]"}, attrs(aInts("classlabels_int64s", 0, 1)), []string{"int64[1]", "float[1,?]"}},
		{ml + "LinearRegressor", []any{"double[N,4]"}, nil, []string{"float[N,1]"}},
		{ml + "LinearRegressor", []any{"double[N,4]"}, attrs(aInt("targets", 3)), []string{"float[N,3]"}},
		{ml + "SVMRegressor", []any{"float[N,4]"}, nil, []string{"float[N,?]"}},
		{ml + "TreeEnsemble", []any{"double[N,4]"}, attrs(aInt("n_targets", 2)), []string{"double[N,2]"}},
		{ml + "TreeEnsemble", []any{"double[N,4]"}, attrs(aInt("n_targets", 0)), []string{"error not positive"}},
		{ml + "OneHotEncoder", []any{"int64[N,4]"}, attrs(aInts("cats_int64s", 1, 2, 3)), []string{"float[N,4,3]"}},
		{ml + "Scaler", []any{"int32[N,4]"}, nil, []string{"float[N,4]"}},
		{ml + "ZipMap", []any{"float[N,2]"}, attrs(words("classlabels_strings", "a", "b")), []string{"seq(map(string,float[...]))"}},
		{ml + "DictVectorizer", []any{"float[2]"}, attrs(aInts("int64_vocabulary", 1)), []string{"error must be a map"}},
		{ml + "CastMap", []any{"float"}, attrs(aStr("cast_to", "TO_MARS")), []string{"error TO_MARS"}},
	})
}

func TestDetection(t *testing.T) {
	runCases(t, []nodeCase{
		{"NonMaxSuppression", []any{"float[1,9,4]", "float[1,2,9]"}, nil, []string{"int64[?,3]"}},
		{"RoiAlign", []any{"float[1,8,9,9]", "float[5,4]", "int64[5]"}, attrs(aInt("output_height", 7), aInt("output_width", 6)), []string{"float[5,8,7,6]"}},
		{"GridSample", []any{"float[2,8,9,9]", "float[2,5,6,2]"}, nil, []string{"float[2,8,5,6]"}},
		{"GridSample", []any{"float[2,8,9,9]", "float[2,5,6,3]"}, nil, []string{"error coordinates"}},
		{"LSTM", []any{"float[7,2,3]", "float[1,16,3]", "float[1,16,4]"}, attrs(aInt("hidden_size", 4)), []string{"float[7,1,2,4]", "float[1,2,4]", "float[1,2,4]"}},
		{"GRU", []any{"float[7,2,3]", "float[2,12,3]", "float[2,12,4]"}, attrs(aStr("direction", "bidirectional"), aInt("hidden_size", 4)), []string{"float[7,2,2,4]", "float[2,2,4]"}},
		{"SoftmaxCrossEntropyLoss", []any{"float[2,5,3]", "int64[2,3]"}, nil, []string{"float", "float[2,5,3]"}},
		{"NoSuchOperator", []any{"float"}, nil, []string{"error ai.onnx"}},
		{"some.domain:Relu", []any{"float"}, nil, []string{"error some.domain"}},
	})
}
