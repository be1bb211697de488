package format

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"mqatc/onnx/ir"
	"mqatc/onnx/pb"
)

// SaveOptions says how a model is written. The zero value writes one file, and a second one only when it must.
type SaveOptions struct {
	ExternalFile string               // name, beside the model, of the file for tensor data; "" keeps tensors inline
	External     func(*ir.Value) bool // which initializers of the main graph go there; nil: those of Threshold bytes and more
	Threshold    int64                // bytes; 0 means 1024
	Align        int64                // of each tensor in the external file, in bytes; 0 means 64
	SpillAbove   int64                // models of more bytes get an external file NAME.data by themselves; 0 means 1.5e9
}

// Placement is where an initializer lies in the external file.
type Placement struct {
	Name          string
	Offset, Bytes int64
}

// Save writes a model to path and reports what went to the external file, in file order; without one the list is empty. Both
// files are written under temporary names, synced and renamed. Initializers for which MayBeExternal is false stay inline
// whatever the options say.
func Save(m *ir.Model, path string, opt SaveOptions) ([]Placement, error) {
	return guarded(path, func() ([]Placement, error) {
		placed, err := save(m, path, opt)
		if err != nil {
			return nil, fail(path, "check that the folder exists, can be written and has room", "cannot write the model: %w", err)
		}
		return placed, nil
	})
}

func save(m *ir.Model, path string, opt SaveOptions) ([]Placement, error) {
	enc := &encoder{}
	p, err := enc.model(m)
	if err != nil {
		return nil, err
	}
	setDefault(&opt.Threshold, 1024)
	setDefault(&opt.Align, 64)
	setDefault(&opt.SpillAbove, 1_500_000_000)
	if opt.ExternalFile == "" && int64(p.Size()) > opt.SpillAbove {
		opt.ExternalFile = filepath.Base(path) + ".data"
	}
	var order []*ir.Value
	var list []Placement
	if opt.ExternalFile != "" {
		if filepath.Base(opt.ExternalFile) != opt.ExternalFile || opt.ExternalFile == filepath.Base(path) || !filepath.IsLocal(opt.ExternalFile) {
			return nil, fmt.Errorf("the external data file %q must be another file of the same folder, without a path", opt.ExternalFile)
		}
		order, list = place(m.Graph, opt)
		enc.file, enc.placed = opt.ExternalFile, map[*ir.Value]Placement{}
		for i, v := range order {
			enc.placed[v] = list[i]
		}
		if p, err = enc.model(m); err != nil {
			return nil, err
		}
	}
	if n := p.Size(); n > math.MaxInt32 {
		return nil, fmt.Errorf("%d bytes outside external data are too many for one protobuf message", n)
	}
	var files []*pending
	defer func() {
		for _, f := range files {
			f.discard()
		}
	}()
	write := func(name string, body func(io.Writer) error) error {
		f, err := create(name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if err := body(f.w); err != nil {
			return err
		}
		return f.sync()
	}
	if len(order) > 0 {
		name := filepath.Join(filepath.Dir(path), opt.ExternalFile)
		if err := write(name, func(w io.Writer) error { return writeExternal(w, order, list) }); err != nil {
			return nil, err
		}
	}
	if err := write(path, func(w io.Writer) error { return writeModel(w, p) }); err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := f.commit(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func setDefault(v *int64, def int64) {
	if *v <= 0 {
		*v = def
	}
}

// place lays the external initializers of g out one after another.
func place(g *ir.Graph, opt SaveOptions) ([]*ir.Value, []Placement) {
	var order []*ir.Value
	var list []Placement
	end := int64(0)
	for _, v := range g.Initializers() {
		if !MayBeExternal(v) {
			continue
		}
		n := int64(len(v.Init().Raw()))
		if opt.External != nil && !opt.External(v) || opt.External == nil && n < opt.Threshold {
			continue
		}
		at := (end + opt.Align - 1) / opt.Align * opt.Align
		order = append(order, v)
		list = append(list, Placement{v.Name(), at, n})
		end = at + n
	}
	return order, list
}

func writeExternal(w io.Writer, order []*ir.Value, list []Placement) error {
	at := int64(0)
	for i, v := range order {
		if err := pad(w, list[i].Offset-at); err != nil {
			return err
		}
		if _, err := w.Write(v.Init().Raw()); err != nil {
			return err
		}
		at = list[i].Offset + list[i].Bytes
	}
	return nil
}

// shapeInputs lists inputs whose values decide shapes. onnxruntime reads them while it infers shapes, when external data is not
// there yet, and refuses the model.
var shapeInputs = map[string][]int{
	"Reshape": {1}, "Expand": {1}, "Tile": {1}, "ConstantOfShape": {0}, "Resize": {1, 2, 3}, "Upsample": {1}, "Slice": {1, 2, 3, 4},
	"Pad": {1, 2, 3}, "Split": {1}, "Squeeze": {1}, "Unsqueeze": {1}, "TopK": {1}, "OneHot": {1, 2}, "Range": {0, 1, 2},
	"CenterCropPad": {1}, "AffineGrid": {1}, "ReduceSum": {1}, "ReduceMean": {1}, "ReduceMax": {1}, "ReduceMin": {1}, "ReduceProd": {1},
	"ReduceL1": {1}, "ReduceL2": {1}, "ReduceLogSum": {1}, "ReduceLogSumExp": {1}, "ReduceSumSquare": {1},
}

// MayBeExternal reports whether an initializer may lie in an external file: dense, of rank 1 at least, not of strings, and
// neither a constant that decides shapes nor a short list of int64, which may become one through Concat or Gather.
func MayBeExternal(v *ir.Value) bool {
	t := v.Init()
	if t == nil || t.DType() == ir.String || len(t.Dims()) == 0 || len(t.Raw()) == 0 {
		return false
	}
	if t.DType() == ir.Int64 && len(t.Dims()) == 1 && t.Len() <= 64 {
		return false
	}
	for _, u := range v.Uses() {
		if u.Node.Domain == "" && slices.Contains(shapeInputs[u.Node.Op], u.Index) {
			return false
		}
	}
	return true
}

// writeModel streams the bytes of p.Marshal without holding more than one tensor of them: fields stand in ascending order, and
// the graph's are split around its initializers.
func writeModel(w io.Writer, p *pb.ModelProto) error {
	g := p.Graph
	head := pb.ModelProto{IrVersion: p.IrVersion, ProducerName: p.ProducerName, ProducerVersion: p.ProducerVersion, Domain: p.Domain,
		ModelVersion: p.ModelVersion, DocString: p.DocString}
	if err := writeMessage(w, &head); err != nil {
		return err
	}
	if err := writeKey(w, 7, g.Size()); err != nil {
		return err
	}
	if err := writeMessage(w, &pb.GraphProto{Node: g.Node, Name: g.Name}); err != nil {
		return err
	}
	for _, t := range g.Initializer {
		if err := writeKey(w, 5, t.Size()); err != nil {
			return err
		}
		if err := writeMessage(w, t); err != nil {
			return err
		}
	}
	rest := *g
	rest.Node, rest.Name, rest.Initializer = nil, nil, nil
	if err := writeMessage(w, &rest); err != nil {
		return err
	}
	tail := *p
	tail.IrVersion, tail.ProducerName, tail.ProducerVersion, tail.Domain = nil, nil, nil, nil
	tail.ModelVersion, tail.DocString, tail.Graph = nil, nil, nil
	return writeMessage(w, &tail)
}

func writeMessage(w io.Writer, m interface{ Marshal() ([]byte, error) }) error {
	b, err := m.Marshal()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// writeKey writes the tag and length of a field that is a message.
func writeKey(w io.Writer, field uint64, size int) error {
	b := binary.AppendUvarint(nil, field<<3|2)
	_, err := w.Write(binary.AppendUvarint(b, uint64(size)))
	return err
}
