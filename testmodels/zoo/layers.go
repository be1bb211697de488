package zoo

import (
	"math"

	"mqatc/onnx/ir"
)

// conv describes a convolution; zero values mean the defaults in brackets.
type conv struct {
	out      int
	kernel   int  // [1]
	stride   int  // [1]
	dilation int  // [1]
	group    int  // [1]
	same     bool // pads as TensorFlow does: the output is the input over the stride, the odd pixel at the end [kernel/2 on all sides]
	bias     bool

	gain      float64 // variance of weights times fan-in [2, He's rule before ReLU]
	deviation float64 // of weights, instead of gain
	start     float64 // of the bias
}

func (n *net) conv(module string, x *ir.Value, c conv) *ir.Value {
	k, s, d, g := max(c.kernel, 1), max(c.stride, 1), max(c.dilation, 1), max(c.group, 1)
	in := n.channels(x)
	w := n.param(module+".weight", spread(c.scale(in/g*k*k)), int64(c.out), int64(in/g), int64(k), int64(k))
	inputs := list(x, w)
	if c.bias {
		inputs = append(inputs, n.param(module+".bias", filled(c.start), int64(c.out)))
	}
	p := int64(d * (k - 1) / 2)
	pads := []int64{p, p, p, p}
	if c.same {
		pads = n.samePads(x, k, s)
	}
	return n.op("Conv", module, inputs, ir.AInts("dilations", int64(d), int64(d)), ir.AInt("group", int64(g)),
		ir.AInts("kernel_shape", int64(k), int64(k)), ir.AInts("pads", pads...), ir.AInts("strides", int64(s), int64(s)))
}

func (c conv) scale(fan int) float64 {
	switch {
	case c.deviation > 0:
		return c.deviation
	case c.gain > 0:
		return math.Sqrt(c.gain / float64(fan))
	}
	return math.Sqrt(2 / float64(fan))
}

// samePads are the pads top, left, bottom, right.
func (n *net) samePads(x *ir.Value, kernel, stride int) []int64 {
	pads := make([]int64, 4)
	for i := range 2 {
		size := n.dim(x, 2+i)
		total := max(((size+stride-1)/stride-1)*stride+kernel-size, 0)
		pads[i], pads[2+i] = int64(total/2), int64(total-total/2)
	}
	return pads
}

// deconv is a transposed convolution of 3x3 without bias that doubles height and width.
func (n *net) deconv(module string, x *ir.Value, out int) *ir.Value {
	in := n.channels(x)
	w := n.param(module+".weight", spread(math.Sqrt(2/(float64(in)*9/4))), int64(in), int64(out), 3, 3)
	return n.op("ConvTranspose", module, list(x, w), ir.AInts("dilations", 1, 1), ir.AInt("group", 1), ir.AInts("kernel_shape", 3, 3),
		ir.AInts("output_padding", 1, 1), ir.AInts("pads", 1, 1, 1, 1), ir.AInts("strides", 2, 2))
}

// linear is a fully connected layer.
func (n *net) linear(module string, x *ir.Value, out int, gain float64) *ir.Value {
	in := n.dim(x, 1)
	w := n.param(module+".weight", spread(math.Sqrt(gain/float64(in))), int64(out), int64(in))
	b := n.param(module+".bias", filled(0), int64(out))
	return n.op("Gemm", module, list(x, w, b), ir.AFloat("alpha", 1), ir.AFloat("beta", 1), ir.AInt("transB", 1))
}

// norm is a batch normalization; zero values mean the defaults in brackets.
type norm struct {
	gamma    float64 // [1]
	variance float64 // running, of its input [1]
	epsilon  float64 // [1e-5]
}

func (n *net) norm(module string, x *ir.Value, o norm) *ir.Value {
	or := func(v, d float64) float64 {
		if v == 0 {
			return d
		}
		return v
	}
	c := int64(n.channels(x))
	return n.op("BatchNormalization", module, list(x, n.param(module+".weight", filled(or(o.gamma, 1)), c), n.param(module+".bias", filled(0), c),
		n.param(module+".running_mean", filled(0), c), n.param(module+".running_var", filled(or(o.variance, 1)), c)),
		ir.AFloat("epsilon", float32(or(o.epsilon, 1e-5))), ir.AFloat("momentum", 0.9))
}

// groupNorm is a normalization of 32 groups in the operators that stand for it below opset 21.
func (n *net) groupNorm(module string, x *ir.Value) *ir.Value {
	c, h, w := n.channels(x), n.dim(x, 2), n.dim(x, 3)
	groups := 32
	for c%groups != 0 {
		groups /= 2
	}
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y := n.call("Reshape", module, x, n.Int64s(0, int64(groups), -1))
	y = n.op("InstanceNormalization", module, list(y, n.Floats(ones, int64(groups)), n.Floats(zeros, int64(groups))), ir.AFloat("epsilon", 1e-5))
	y = n.call("Reshape", module, y, n.Int64s(0, int64(c), int64(h), int64(w)))
	y = n.call("Mul", module, y, n.param(module+".weight", filled(1), int64(c), 1, 1))
	return n.call("Add", module, y, n.param(module+".bias", filled(0), int64(c), 1, 1))
}

func (n *net) relu(module string, x *ir.Value) *ir.Value { return n.call("Relu", module, x) }

func (n *net) leaky(module string, x *ir.Value) *ir.Value {
	return n.op("LeakyRelu", module, list(x), ir.AFloat("alpha", 0.1))
}

func (n *net) swish(module string, x *ir.Value) *ir.Value {
	return n.call("Mul", module, x, n.call("Sigmoid", module, x))
}

// convNormRelu is a convolution without bias, a normalization and a ReLU, numbered from at on in a Sequential.
func (n *net) convNormRelu(module string, at int, x *ir.Value, c conv) *ir.Value {
	y := n.norm(child(module, at+1), n.conv(child(module, at), x, c), norm{})
	return n.relu(child(module, at+2), y)
}

// maxPool pools by kernel 3 and stride 2 with one pixel of padding.
func (n *net) maxPool(module string, x *ir.Value) *ir.Value {
	return n.op("MaxPool", module, list(x), ir.AInts("kernel_shape", 3, 3), ir.AInts("pads", 1, 1, 1, 1), ir.AInts("strides", 2, 2))
}

// nearest enlarges x to the height and width of like.
func (n *net) nearest(module string, x, like *ir.Value) *ir.Value {
	return n.op("Resize", module, list(x, nil, n.scales(x, n.dim(like, 2), n.dim(like, 3))), ir.AString("mode", "nearest"),
		ir.AString("coordinate_transformation_mode", "asymmetric"), ir.AString("nearest_mode", "floor"))
}

// bilinear enlarges x to a height and width; corners says that the corners of both images coincide.
func (n *net) bilinear(module string, x *ir.Value, h, w int, corners bool) *ir.Value {
	mode := "pytorch_half_pixel"
	if corners {
		mode = "align_corners"
	}
	return n.op("Resize", module, list(x, nil, n.scales(x, h, w)), ir.AString("mode", "linear"), ir.AString("coordinate_transformation_mode", mode))
}

// scales leave the batch free, which sizes would not. A scale is rounded up where its product with the size would fall short.
func (n *net) scales(x *ir.Value, h, w int) *ir.Value {
	s := []float32{1, 1, 1, 1}
	for i, out := range []int{h, w} {
		in := float32(n.dim(x, 2+i))
		r := float32(out) / in
		for in*r < float32(out) {
			r = math.Nextafter32(r, math.MaxFloat32)
		}
		s[2+i] = r
	}
	return n.Floats(s, 4)
}

// cells turns a map [N, A*values, h, w] into [N, h*w*A, values], row by row.
func (n *net) cells(module string, x *ir.Value, values int) *ir.Value {
	x = n.op("Transpose", module, list(x), ir.AInts("perm", 0, 2, 3, 1))
	return n.call("Reshape", module, x, n.Int64s(0, -1, int64(values)))
}

func (n *net) concat(module string, axis int, vs []*ir.Value) *ir.Value {
	return n.op("Concat", module, vs, ir.AInt("axis", int64(axis)))
}
