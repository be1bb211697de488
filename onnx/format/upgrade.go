package format

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

	"mqatc/onnx/ir"
)

// Opsets of the default domain that Upgrade reads and writes.
const (
	upgradeFrom = 7
	upgradeLow  = 17
	upgradeHigh = 25
)

// upgradePass is recorded in the nodes that Upgrade adds.
const upgradePass = "upgrade"

// step brings one operator from the meaning it had before opset since to the one it has from there on.
type step struct {
	since int64
	apply func(u *upgrader, n *ir.Node) error
}

// upgrades holds, per operator of the default domain and in ascending order, the changes of interface or meaning from opset 7 to
// 25 (ONNX Operators and Changelog). Operators that are not listed only had types or optional attributes added.
var upgrades = map[string][]step{
	"BatchNormalization": {{9, batchNormSpatial}, {14, batchNormOutputs}},
	"Clip":               {{11, clipBounds}},
	"DFT":                {{20, dftAxis}},
	"Dropout":            {{10, dropoutMask}, {12, dropoutRatio}},
	"GridSample":         {{20, gridSampleMode}},
	"GroupNormalization": {{21, groupNormScale}},
	"Hardmax":            {{13, flattenedAxis}},
	"LogSoftmax":         {{13, flattenedAxis}},
	"Pad":                {{11, padAmounts}},
	"ReduceL1":           {{18, axesInput}},
	"ReduceL2":           {{18, axesInput}},
	"ReduceLogSum":       {{18, axesInput}},
	"ReduceLogSumExp":    {{18, axesInput}},
	"ReduceMax":          {{18, axesInput}},
	"ReduceMean":         {{18, axesInput}},
	"ReduceMin":          {{18, axesInput}},
	"ReduceProd":         {{18, axesInput}},
	"ReduceSum":          {{13, axesInput}},
	"ReduceSumSquare":    {{18, axesInput}},
	"Resize":             {{11, resizeModes}, {13, resizeNearestModes}},
	"RoiAlign":           {{16, roiAlignOffset}},
	"Scan":               {{9, refuse("its batched form of opset 8 has no successor")}},
	"Scatter":            {{11, scatterElements}},
	"Slice":              {{10, sliceBounds}},
	"Softmax":            {{13, flattenedAxis}},
	"Split":              {{13, splitSizes}, {18, splitCount}},
	"Squeeze":            {{13, axesInput}},
	"TopK":               {{10, topK}},
	"Unsqueeze":          {{13, axesInput}},
	"Upsample":           {{9, upsampleScales}, {10, upsampleToResize}},
	"ATen":               {{9, refuse(removed)}},
	"Affine":             {{9, refuse(removed)}},
	"ConstantFill":       {{9, refuse(removed)}},
	"Crop":               {{9, refuse(removed)}},
	"DynamicSlice":       {{9, refuse(removed)}},
	"GRUUnit":            {{9, refuse(removed)}},
	"GivenTensorFill":    {{9, refuse(removed)}},
	"ImageScaler":        {{9, refuse(removed)}},
	"LoopIndexTensor":    {{9, refuse(removed)}},
	"ParametricSoftplus": {{9, refuse(removed)}},
	"Scale":              {{9, refuse(removed)}},
	"ScaledTanh":         {{9, refuse(removed)}},
}

const removed = "it was experimental and is no operator of ONNX any more"

func refuse(why string) func(*upgrader, *ir.Node) error {
	return func(*upgrader, *ir.Node) error {
		return fmt.Errorf("%s; export the network again with opset %d", why, upgradeLow)
	}
}

// sameType lists operators whose outputs have the element type of their first input.
var sameType = map[string]bool{
	"Abs": true, "Add": true, "AveragePool": true, "BatchNormalization": true, "Clip": true, "Concat": true, "Conv": true,
	"ConvTranspose": true, "DepthToSpace": true, "Div": true, "Dropout": true, "Elu": true, "Exp": true, "Expand": true, "Flatten": true,
	"Gather": true, "Gemm": true, "GlobalAveragePool": true, "GlobalMaxPool": true, "HardSigmoid": true, "Identity": true,
	"InstanceNormalization": true, "LRN": true, "LeakyRelu": true, "LogSoftmax": true, "MatMul": true, "Max": true, "MaxPool": true,
	"Min": true, "Mul": true, "PRelu": true, "Pad": true, "Pow": true, "ReduceMax": true, "ReduceMean": true, "ReduceMin": true,
	"ReduceSum": true, "Relu": true, "Reshape": true, "Resize": true, "Selu": true, "Sigmoid": true, "Slice": true, "Softmax": true,
	"Softplus": true, "SpaceToDepth": true, "Split": true, "Sqrt": true, "Squeeze": true, "Sub": true, "Sum": true, "Tanh": true,
	"Tile": true, "Transpose": true, "Unsqueeze": true, "Upsample": true,
}

// Upgrade rewrites the operators of the default domain, in the main graph, its subgraphs and the model's functions, so that the
// model means the same at opset to (17 to 25). A model at that opset or above is left alone. Opsets from 7 on are read; an
// operator that cannot be brought up is refused by name, and m is then not to be used any more.
func Upgrade(m *ir.Model, to int) error {
	from := m.Opset("")
	if from == 0 || from >= int64(to) && len(m.Functions) == 0 {
		return nil
	}
	if to < upgradeLow || to > upgradeHigh {
		return fmt.Errorf("upgrade to opset %d: only %d to %d can be asked for", to, upgradeLow, upgradeHigh)
	}
	for _, f := range m.Functions {
		for i := range f.Opsets {
			o := &f.Opsets[i]
			if o.Domain != "" || o.Version >= int64(to) {
				continue
			}
			if err := upgradeGraph(f.Graph, o.Version, int64(to), true); err != nil {
				return fmt.Errorf("function %s.%s: %w", f.Domain, f.Name, err)
			}
			o.Version = int64(to)
		}
	}
	if from >= int64(to) {
		return nil
	}
	if m.IRVersion < 4 {
		if err := dropInitializerInputs(m.Graph); err != nil {
			return err
		}
	}
	if err := upgradeGraph(m.Graph, from, int64(to), false); err != nil {
		return err
	}
	m.SetOpset("", int64(to))
	m.IRVersion = max(m.IRVersion, LowestIR(int64(to)))
	return nil
}

// LowestIR is the lowest IR version that goes with an opset of the default domain.
func LowestIR(opset int64) int64 {
	switch {
	case opset <= 18:
		return 8
	case opset <= 20:
		return 9
	case opset <= 22:
		return 10
	case opset == 23:
		return 11
	case opset == 24:
		return 12
	case opset <= 27:
		return 13
	}
	return 14
}

// dropInitializerInputs removes constants from the graph inputs: before IR version 4 they had to be listed there, afterwards
// being listed would make them replaceable defaults.
func dropInitializerInputs(g *ir.Graph) error {
	for _, v := range append([]*ir.Value(nil), g.Inputs()...) {
		if v.IsInitializer() {
			if err := g.RemoveInput(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// upgrader rewrites the nodes of one graph.
type upgrader struct {
	g        *ir.Graph
	b        *ir.Builder
	function bool // constants must be nodes
	types    map[*ir.Value]ir.DType
}

func upgradeGraph(g *ir.Graph, from, to int64, function bool) error {
	if from < upgradeFrom {
		return fmt.Errorf("opset %d is older than %d: export the network again, with opset %d", from, upgradeFrom, upgradeLow)
	}
	u := &upgrader{g: g, b: ir.NewBuilder(g, upgradePass, nil), function: function, types: map[*ir.Value]ir.DType{}}
	return u.graph(from, to)
}

func (u *upgrader) graph(from, to int64) error {
	for _, n := range u.g.Nodes() {
		for _, s := range n.Subgraphs() {
			sub := &upgrader{g: s, b: ir.NewBuilder(s, upgradePass, nil), function: u.function, types: u.types}
			if err := sub.graph(from, to); err != nil {
				return fmt.Errorf("in subgraph %q: %w", s.Name, err)
			}
		}
		if n.Domain != "" {
			continue
		}
		u.b.Before, u.b.Site = n, site(n)
		for at := from; ; {
			s := next(n.Op, at, to)
			if s == nil {
				break
			}
			name := n.String()
			if err := s.apply(u, n); err != nil {
				return fmt.Errorf("node %s cannot be brought from opset %d to %d: %w", name, from, to, err)
			}
			if err := u.b.Err(); err != nil {
				return err
			}
			at = s.since
		}
		if d := u.dtype(n.Input(0)); d != ir.Undefined && sameType[n.Op] {
			for _, o := range n.Outputs() {
				u.types[o] = d
			}
		}
	}
	return nil
}

func next(op string, at, to int64) *step {
	for i, s := range upgrades[op] {
		if s.since > at && s.since <= to {
			return &upgrades[op][i]
		}
	}
	return nil
}

// site is the stem for names of values that stand for parts of n.
func site(n *ir.Node) string {
	for _, o := range n.Outputs() {
		if o.Name() != "" {
			return o.Name()
		}
	}
	return n.Name
}

// dtype is the element type of v as far as it is declared or follows from the operators before it.
func (u *upgrader) dtype(v *ir.Value) ir.DType {
	if v == nil {
		return ir.Undefined
	}
	if v.Type.Kind == ir.KindTensor && v.Type.Elem != ir.Undefined {
		return v.Type.Elem
	}
	return u.types[v]
}

// constant adds a constant: an initializer, or in a function a Constant node.
func (u *upgrader) constant(t *ir.Tensor, err error) (*ir.Value, error) {
	if err != nil {
		return nil, err
	}
	if u.function {
		v := u.b.Op("Constant", nil, ir.ATensor("value", t))
		v.Type = t.Type()
		return v, u.b.Err()
	}
	v := u.b.Const(t)
	return v, u.b.Err()
}

// input turns an attribute into input i of n and removes it; an absent or empty one leaves the input absent. In a function the
// attribute may refer to one of the function's, which a Constant node can do as well.
func (u *upgrader) input(n *ir.Node, attr string, i int) error {
	a := n.Attr(attr)
	if a == nil {
		return nil
	}
	var v *ir.Value
	var err error
	switch {
	case a.Ref != "":
		name := map[ir.AttrKind]string{ir.AttrInts: "value_ints", ir.AttrInt: "value_int", ir.AttrFloats: "value_floats", ir.AttrFloat: "value_float"}[a.Kind]
		if name == "" {
			return fmt.Errorf("attribute %q refers to %q, whose kind is not given", attr, a.Ref)
		}
		v, err = u.b.Op("Constant", nil, ir.Attr{Name: name, Kind: a.Kind, Ref: a.Ref}), u.b.Err()
	case a.Kind == ir.AttrInts:
		if len(a.Ints) > 0 {
			v, err = u.constant(ir.FromInt64s(append([]int64{}, a.Ints...), int64(len(a.Ints))))
		}
	case a.Kind == ir.AttrFloats:
		if len(a.Floats) > 0 {
			v, err = u.constant(ir.FromFloat32s(append([]float32{}, a.Floats...), int64(len(a.Floats))))
		}
	default:
		return fmt.Errorf("attribute %q is not a list of numbers", attr)
	}
	n.RemoveAttr(attr)
	if err != nil || v == nil {
		return err
	}
	return u.g.SetInput(n, i, v)
}

// scalarLike turns a float attribute into scalar input i of n, of the element type of input 0.
func (u *upgrader) scalarLike(n *ir.Node, attr string, i int) error {
	a := n.Attr(attr)
	if a == nil {
		return nil
	}
	x := n.Input(0)
	dt := u.dtype(x)
	var v *ir.Value
	var err error
	switch {
	case a.Ref != "":
		v = u.b.Op("Constant", nil, ir.Attr{Name: "value_float", Kind: ir.AttrFloat, Ref: a.Ref})
		if dt != ir.Float32 {
			v = u.b.Op("CastLike", []*ir.Value{v, x})
		}
		err = u.b.Err()
	case a.Kind != ir.AttrFloat:
		return fmt.Errorf("attribute %q is not a number", attr)
	case dt == ir.Undefined:
		if v, err = u.constant(ir.ScalarFloat32(a.F), nil); err == nil {
			v, err = u.b.Op("CastLike", []*ir.Value{v, x}), u.b.Err()
		}
	default:
		v, err = u.constant(floatScalar(dt, a.F))
	}
	if err != nil {
		return err
	}
	n.RemoveAttr(attr)
	return u.g.SetInput(n, i, v)
}

// floatScalar is v as a scalar of a floating-point type.
func floatScalar(d ir.DType, v float32) (*ir.Tensor, error) {
	switch d {
	case ir.Float32:
		return ir.ScalarFloat32(v), nil
	case ir.Float64:
		return ir.FromFloat64s([]float64{float64(v)})
	case ir.Float16:
		return ir.NewTensor(d, nil, binary.LittleEndian.AppendUint16(nil, float16.Fromfloat32(v).Bits()))
	case ir.BFloat16:
		return ir.NewTensor(d, nil, binary.LittleEndian.AppendUint16(nil, uint16(math.Float32bits(v)>>16)))
	}
	return nil, fmt.Errorf("a number of type %v cannot be made from %g", d, v)
}
