package ort

// #include "capi.h"
import "C"

import (
	"fmt"

	"mqatc/onnx/ir"

	binding "github.com/yalue/onnxruntime_go"
)

// Binding is a session with buffers bound to its inputs and outputs, for runs without allocation or copies. One Binding is
// run by one goroutine at a time. Two bindings of a session with their buffers swapped make double buffering.
type Binding struct {
	s       *Session
	io      *binding.IoBinding
	buffers []*Buffer
}

// Bind binds a buffer to every input and to the outputs that are wanted. A buffer that is both input and output of a run is
// an error, since onnxruntime may write an output before it has read the input; inPlace names the outputs for which the caller
// knows better.
func (s *Session) Bind(inputs, outputs map[string]*Buffer, inPlace ...string) (_ *Binding, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.s == nil {
		return nil, fmt.Errorf("onnxruntime: bind: session: %w", ErrClosed)
	}
	io, err := s.s.CreateIoBinding()
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: bind: %s", oneLine(err.Error()))
	}
	b := &Binding{s: s, io: io}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	for name := range inputs {
		if _, ok := s.inIndex[name]; !ok {
			return nil, fmt.Errorf("onnxruntime: bind: the model has no input %q", name)
		}
	}
	for name := range outputs {
		if _, ok := s.outIndex[name]; !ok {
			return nil, fmt.Errorf("onnxruntime: bind: the model has no output %q", name)
		}
	}
	over := map[string]bool{}
	for _, name := range inPlace {
		over[name] = true
	}
	taken := map[*Buffer]bool{}
	for i, v := range s.inputs {
		if inputs[v.Name] == nil {
			return nil, fmt.Errorf("onnxruntime: bind: input %q has no buffer", v.Name)
		}
		if err := b.bind(0, v, s.inNames[i], inputs[v.Name]); err != nil {
			return nil, fmt.Errorf("onnxruntime: bind: input %q: %w", v.Name, err)
		}
		taken[inputs[v.Name]] = true
	}
	for i, v := range s.outputs {
		buf, wanted := outputs[v.Name]
		if !wanted {
			continue
		}
		if buf == nil {
			return nil, fmt.Errorf("onnxruntime: bind: output %q has no buffer", v.Name)
		}
		if taken[buf] && !over[v.Name] {
			return nil, fmt.Errorf("onnxruntime: bind: output %q: its buffer is bound already, and one run cannot use it twice", v.Name)
		}
		if err := b.bind(1, v, s.outNames[i], buf); err != nil {
			return nil, fmt.Errorf("onnxruntime: bind: output %q: %w", v.Name, err)
		}
		taken[buf] = true
	}
	return b, nil
}

func (b *Binding) bind(output C.int, v ValueInfo, name *C.char, buf *Buffer) error {
	if buf.dtype != v.Type.Elem || !fits(v.Type.Shape, buf.dims) {
		return fmt.Errorf("buffer is %v, the model has %v", ir.TensorType(buf.dtype, ir.StaticShape(buf.dims...)), v.Type)
	}
	native, err := handle(b.io, "o")
	if err != nil {
		return err
	}
	value, err := buf.hold()
	if err != nil {
		return err
	}
	b.buffers = append(b.buffers, buf)
	return check(C.ort_bind(native, output, name, value))
}

// fits reports whether dims agree with the known sizes of shape.
func fits(shape ir.Shape, dims []int64) bool {
	if !shape.HasRank() {
		return true
	}
	if len(shape) != len(dims) {
		return false
	}
	for i, d := range shape {
		if d.Known() && d.Size != dims[i] {
			return false
		}
	}
	return true
}

// Run computes the bound outputs from the bound inputs, in place.
func (b *Binding) Run() error {
	b.s.mu.RLock()
	defer b.s.mu.RUnlock()
	if b.s.s == nil || b.io == nil {
		return fmt.Errorf("onnxruntime: run: %w", ErrClosed)
	}
	if err := b.s.s.RunWithBinding(b.io); err != nil {
		return fmt.Errorf("onnxruntime: run: %s", oneLine(err.Error()))
	}
	return nil
}

// Close releases the binding; the buffers stay, and may then be closed.
func (b *Binding) Close() error {
	if b.io == nil {
		return nil
	}
	err := b.io.Destroy()
	b.io = nil
	for _, buf := range b.buffers {
		buf.release()
	}
	b.buffers = nil
	return err
}
