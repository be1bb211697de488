package format_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend/simple"
	"gonum.org/v1/gonum/graph"
	"gorgonia.org/tensor"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/testmodels/cubesat"
	"mqatc/testmodels/pretrained"
)

// opinion is onnx-go's graph of a model with what that graph alone does not keep: tensors, operations, and the edges between two
// values beyond the first.
type opinion struct {
	*simple.Graph
	nodes []operation
	edges map[edge]bool
}

type operation struct {
	onnx.Operation
	outputs []string
}

// edge says that input number input of the node that makes to is from.
type edge struct {
	to, from string
	input    int
}

// carrier is a value of onnx-go with its tensor.
type carrier struct {
	*simple.Node
	t tensor.Tensor
}

func (c *carrier) SetTensor(t tensor.Tensor) error { c.t = t; return nil }
func (c *carrier) GetTensor() tensor.Tensor        { return c.t }

func (o *opinion) NewNode() graph.Node { return &carrier{Node: o.Graph.NewNode().(*simple.Node)} }

func (o *opinion) SetWeightedEdge(e graph.WeightedEdge) {
	o.Graph.SetWeightedEdge(e)
	o.edges[edge{e.From().(*carrier).GetName(), e.To().(*carrier).GetName(), int(e.Weight())}] = true
}

func (o *opinion) ApplyOperation(op onnx.Operation, outputs ...graph.Node) error {
	made := operation{Operation: op}
	for _, n := range outputs {
		made.outputs = append(made.outputs, n.(*carrier).GetName())
	}
	o.nodes = append(o.nodes, made)
	return o.Graph.ApplyOperation(op, outputs...)
}

// ask decodes data with onnx-go. An error says that it cannot.
func ask(data []byte) (o *opinion, m *onnx.Model, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	o = &opinion{Graph: simple.NewSimpleGraph(), edges: map[edge]bool{}}
	m = onnx.NewModel(o)
	return o, m, m.UnmarshalBinary(data)
}

// compare reports where m and onnx-go's opinion of the same bytes differ.
func compare(m *ir.Model, o *opinion, theirs *onnx.Model) []string {
	var out []string
	differ := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	by := map[string]operation{}
	for _, n := range o.nodes {
		by[strings.Join(n.outputs, "\x00")] = n
	}
	if len(o.nodes) != m.Graph.NumNodes() {
		differ("%d nodes, onnx-go has %d", m.Graph.NumNodes(), len(o.nodes))
	}
	ours := map[edge]bool{}
	for n := m.Graph.First(); n != nil; n = n.Next() {
		var names []string
		for _, v := range n.Outputs() {
			names = append(names, v.Name())
		}
		t, ok := by[strings.Join(names, "\x00")]
		if !ok || t.Name != n.Op {
			differ("%v makes %q, onnx-go has %q there", n, names, t.Name)
			continue
		}
		if len(t.Attributes) != len(n.Attrs()) {
			differ("%v has %d attributes, onnx-go %d", n, len(n.Attrs()), len(t.Attributes))
		}
		for _, a := range n.Attrs() {
			if d := compareAttr(a, t.Attributes[a.Name]); d != "" {
				differ("%v: attribute %s: %s", n, a.Name, d)
			}
		}
		for _, to := range names {
			for i, v := range n.Inputs() {
				from := ""
				if v != nil {
					from = v.Name()
				}
				ours[edge{to, from, i}] = true
			}
			if len(n.Inputs()) == 0 { // onnx-go invents an input
				ours[edge{to, n.Name + "/input", 0}] = true
			}
		}
	}
	for e := range ours {
		if !o.edges[e] {
			differ("onnx-go lacks %+v", e)
		}
	}
	for e := range o.edges {
		if !ours[e] {
			differ("onnx-go has %+v besides", e)
		}
		to, _ := theirs.GetNodeByName(e.to)
		from, _ := theirs.GetNodeByName(e.from)
		if strings.HasSuffix(e.from, "/input") {
			continue // nodes without a name share the invented one
		}
		if to == nil || from == nil || !o.HasEdgeFromTo(to.ID(), from.ID()) {
			differ("the graph of onnx-go has no edge for %+v", e)
		}
	}
	for _, v := range m.Graph.Initializers() {
		n, ok := theirs.GetNodeByName(v.Name())
		if !ok {
			differ("onnx-go has no value %q", v.Name())
		} else if d := compareTensor(v.Init(), n.(*carrier).t); d != "" {
			differ("initializer %q: %s", v.Name(), d)
		}
	}
	return out
}

func compareAttr(a ir.Attr, theirs any) string {
	var ours any
	switch a.Kind {
	case ir.AttrFloat:
		ours = a.F
	case ir.AttrInt:
		ours = a.I
	case ir.AttrString:
		ours = string(a.S)
	case ir.AttrFloats:
		ours = a.Floats
	case ir.AttrInts:
		ours = a.Ints
	case ir.AttrStrings:
		var list []string
		for _, s := range a.Strings {
			list = append(list, string(s))
		}
		ours = list
	case ir.AttrTensor:
		x, ok := theirs.(tensor.Tensor)
		if !ok {
			return fmt.Sprintf("a tensor, onnx-go has %T", theirs)
		}
		return compareTensor(a.T, x)
	}
	if x, y := fmt.Sprintf("%T %v", ours, ours), fmt.Sprintf("%T %v", theirs, theirs); x != y {
		return x + ", onnx-go has " + y
	}
	return ""
}

func compareTensor(t *ir.Tensor, x tensor.Tensor) string {
	if x == nil || t == nil {
		return fmt.Sprintf("%v, onnx-go has %v", t, x)
	}
	y, err := fromGorgonia(x)
	if y == nil && err == nil {
		y, err = single(x.Data())
	}
	if err != nil || y == nil {
		return fmt.Sprintf("onnx-go's %v cannot be read: %v", x.Dtype(), err)
	}
	if y.DType() != t.DType() || !bytes.Equal(y.Raw(), t.Raw()) || t.Len() != 1 && !slices.Equal(y.Dims(), t.Dims()) {
		return fmt.Sprintf("%v, onnx-go has %v, or other bytes", t.Type(), y.Type())
	}
	return ""
}

// single reads what gorgonia's tensors have in place of a list of one element.
func single(x any) (*ir.Tensor, error) {
	switch v := x.(type) {
	case float32:
		return ir.FromFloat32s([]float32{v}, 1)
	case float64:
		return ir.FromFloat64s([]float64{v}, 1)
	case int64:
		return ir.FromInt64s([]int64{v}, 1)
	case int32:
		return ir.FromInt32s([]int32{v}, 1)
	case bool:
		return ir.FromBools([]bool{v}, 1)
	}
	return nil, nil
}

// secondOpinion compares both readings of data; it reports why onnx-go has none.
func secondOpinion(t *testing.T, data []byte) error {
	t.Helper()
	m, err := format.Parse(data, "")
	if err != nil {
		t.Error(err)
		return nil
	}
	o, theirs, err := ask(data)
	if err != nil {
		return err
	}
	for i, d := range compare(m, o, theirs) {
		if i == 5 {
			t.Error("...")
			break
		}
		t.Error(d)
	}
	return nil
}

func TestSecondOpinionOnConformanceModels(t *testing.T) {
	agreed, skipped := 0, 0
	for _, c := range conformanceCases() {
		t.Run(c.Title, func(t *testing.T) {
			if err := secondOpinion(t, c.ModelB); err != nil {
				skipped++
				t.Skipf("onnx-go cannot decode it: %.120s", err)
			}
			agreed++
		})
	}
	t.Logf("%d models were compared, %d others onnx-go cannot decode", agreed, skipped)
	if agreed < 300 {
		t.Errorf("only %d models were compared", agreed)
	}
}

func TestSecondOpinionOnNetworks(t *testing.T) {
	net, err := cubesat.Network(1, 64, 0.25)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"cubesat": marshal(t, net), "pretrained": pretrained.CubeSat()} {
		t.Run(name, func(t *testing.T) {
			if err := secondOpinion(t, data); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range sharedModels {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(sharedModel(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := secondOpinion(t, data); err != nil {
				t.Skipf("onnx-go cannot decode it: %.120s", err)
			}
		})
	}
}
