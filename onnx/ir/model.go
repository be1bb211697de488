package ir

import "fmt"

// OpsetID is an operator set that a model or function imports; the default domain is "" (never "ai.onnx").
type OpsetID struct {
	Domain  string
	Version int64
}

// Model is a whole ONNX model.
type Model struct {
	IRVersion       int64
	Opsets          []OpsetID
	Producer        string
	ProducerVersion string
	Domain          string
	Version         int64
	Doc             string
	Meta            Meta
	Graph           *Graph
	Functions       []*Function
	Extra           [][]byte // protobuf fields kept as they are: training_info, configuration, unknown ones
}

// Function is a model-local function (ONNX FunctionProto); its body is a graph whose inputs and outputs carry no types.
type Function struct {
	Domain, Name, Overload string
	Attrs                  []string
	AttrDefaults           []Attr
	Opsets                 []OpsetID
	Doc                    string
	Meta                   Meta
	Graph                  *Graph
	Extra                  []byte
}

// NewModel makes an empty model of the given default-domain opset.
func NewModel(name string, opset int64) *Model {
	return &Model{IRVersion: 8, Opsets: []OpsetID{{"", opset}}, Producer: "mqatc", Graph: NewGraph(name)}
}

// Opset is the imported version of a domain; 0 when it is not imported.
func (m *Model) Opset(domain string) int64 {
	for _, o := range m.Opsets {
		if o.Domain == domain {
			return o.Version
		}
	}
	return 0
}

// SetOpset imports a domain at a version, replacing an earlier import.
func (m *Model) SetOpset(domain string, v int64) {
	for i := range m.Opsets {
		if m.Opsets[i].Domain == domain {
			m.Opsets[i].Version = v
			return
		}
	}
	m.Opsets = append(m.Opsets, OpsetID{domain, v})
}

// Clone copies the model deeply; tensors, being immutable, are shared.
func (m *Model) Clone() (*Model, error) {
	c, err := m.without()
	if err != nil {
		return nil, err
	}
	if c.Graph, _, err = m.Graph.Clone(); err != nil {
		return nil, fmt.Errorf("cloning model: %w", err)
	}
	return c, nil
}

// without copies all of the model but its graph.
func (m *Model) without() (*Model, error) {
	c := *m
	c.Graph = nil
	c.Opsets = append([]OpsetID(nil), m.Opsets...)
	c.Meta = m.Meta.Clone()
	c.Functions = nil
	for _, f := range m.Functions {
		h := *f
		h.Opsets = append([]OpsetID(nil), f.Opsets...)
		h.Meta = f.Meta.Clone()
		body, _, err := f.Graph.Clone()
		if err != nil {
			return nil, fmt.Errorf("cloning function %s.%s: %w", f.Domain, f.Name, err)
		}
		h.Graph = body
		c.Functions = append(c.Functions, &h)
	}
	return &c, nil
}

// Verify checks the invariants of the graph and of every function body.
func (m *Model) Verify() error {
	if m.Graph == nil {
		return fmt.Errorf("model has no graph")
	}
	if err := m.Graph.Verify(); err != nil {
		return err
	}
	for _, f := range m.Functions {
		if err := f.Graph.Verify(); err != nil {
			return fmt.Errorf("function %s.%s: %w", f.Domain, f.Name, err)
		}
	}
	return nil
}
