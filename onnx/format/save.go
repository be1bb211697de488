package format

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"

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

// Placement is where a tensor lies in the external file: an initializer, or the output of a Constant node.
type Placement struct {
	Name          string
	Offset, Bytes int64
}

// Save writes a model to path and reports what went to the external file, in file order; without one the list is empty. Both
// files are written under temporary names, synced and renamed. Initializers for which MayBeExternal is false stay inline
// whatever the options say. Where more than SpillAbove bytes are left, the constants of nodes, subgraphs and functions go out too.
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
	out := layout{align: opt.Align}
	if opt.ExternalFile != "" {
		if filepath.Base(opt.ExternalFile) != opt.ExternalFile || opt.ExternalFile == filepath.Base(path) || !filepath.IsLocal(opt.ExternalFile) {
			return nil, fmt.Errorf("the external data file %q must be another file of the same folder, without a path", opt.ExternalFile)
		}
		enc.file, enc.placed = opt.ExternalFile, out.initializers(m.Graph, opt)
		if p, err = enc.model(m); err != nil {
			return nil, err
		}
		if int64(p.Size()) > opt.SpillAbove {
			enc.inner = out.inner(m, opt.Threshold)
			if p, err = enc.model(m); err != nil {
				return nil, err
			}
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
	write := func(name string, size int64, body func(io.Writer) error) error {
		f, err := create(name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if err := reserve(f.f, size); err != nil {
			return err
		}
		if err := body(f.w); err != nil {
			return err
		}
		return f.sync()
	}
	if len(out.list) > 0 {
		name := filepath.Join(filepath.Dir(path), opt.ExternalFile)
		if err := write(name, out.end, out.write); err != nil {
			return nil, err
		}
	}
	if err := write(path, int64(p.Size()), func(w io.Writer) error { return writeModel(w, p) }); err != nil {
		return nil, err
	}
	for i, f := range files {
		if i > 0 {
			syncFolder(filepath.Dir(path)) // no model without its data, even after a power cut
		}
		if err := f.commit(); err != nil {
			return nil, err
		}
	}
	return out.list, nil
}

func setDefault(v *int64, def int64) {
	if *v <= 0 {
		*v = def
	}
}

// writeModel streams the bytes of p.Marshal without a copy of the initializers' data: fields stand in ascending order, and
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
		if err := writeTensor(w, t); err != nil {
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

// writeTensor writes the bytes of t.Marshal, raw_data from where it lies.
func writeTensor(w io.Writer, t *pb.TensorProto) error {
	if t.RawData == nil {
		return writeMessage(w, t)
	}
	head := *t
	head.RawData, head.DoubleData, head.Uint64Data, head.DocString = nil, nil, nil, nil
	head.ExternalData, head.DataLocation, head.MetadataProps, head.XXX_unrecognized = nil, nil, nil, nil
	if err := writeMessage(w, &head); err != nil {
		return err
	}
	if err := writeKey(w, 9, len(*t.RawData)); err != nil {
		return err
	}
	if _, err := w.Write(*t.RawData); err != nil {
		return err
	}
	tail := pb.TensorProto{DoubleData: t.DoubleData, Uint64Data: t.Uint64Data, DocString: t.DocString, ExternalData: t.ExternalData,
		DataLocation: t.DataLocation, MetadataProps: t.MetadataProps, XXX_unrecognized: t.XXX_unrecognized}
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
