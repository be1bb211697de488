package ort

// #include "capi.h"
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"mqatc/onnx/ir"
)

// Run feeds every input by its name and returns the named outputs, all of them when outputs is empty. The results are copies
// that belong to the caller. Tensors of every element type but strings are taken and returned, scalars and empty ones too.
func (s *Session) Run(feeds map[string]*ir.Tensor, outputs []string) (map[string]*ir.Tensor, error) {
	res := map[string]*ir.Tensor{}
	err := s.Visit(feeds, outputs, func(name string, t *ir.Tensor) error {
		c, err := ir.NewTensor(t.DType(), t.Dims(), append(make([]byte, 0, len(t.Raw())), t.Raw()...))
		res[name] = c
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Visit is Run that hands the outputs to visit one by one, in their order, as views that hold until it returns. It ends with the first
// error, which is visit's own as it is.
func (s *Session) Visit(feeds map[string]*ir.Tensor, outputs []string, visit func(name string, t *ir.Tensor) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.s == nil {
		return fmt.Errorf("onnxruntime: run: session: %w", ErrClosed)
	}
	for name := range feeds {
		if _, ok := s.inIndex[name]; !ok {
			return fmt.Errorf("onnxruntime: run: the model has no input %q", name)
		}
	}
	outNames, err := s.outputNames(&outputs)
	if err != nil || len(outNames) == 0 {
		return err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	in := make([]unsafe.Pointer, len(s.inputs)+1)
	out := make([]unsafe.Pointer, len(outNames))
	defer func() {
		for _, list := range [][]unsafe.Pointer{in, out} {
			for _, v := range list {
				C.ort_release_value(v)
			}
		}
	}()
	for i, want := range s.inputs {
		t := feeds[want.Name]
		if t == nil {
			return fmt.Errorf("onnxruntime: run: input %q is not fed", want.Name)
		}
		if in[i], err = feedValue(want, t, &pins); err != nil {
			return fmt.Errorf("onnxruntime: run: input %q: %w", want.Name, err)
		}
	}
	inNames := append(append([]*C.char{}, s.inNames...), nil)
	err = check(C.ort_run(s.native, &inNames[0], &in[0], C.size_t(len(s.inputs)), &outNames[0], C.size_t(len(outNames)), &out[0]))
	if err != nil {
		return fmt.Errorf("onnxruntime: run: %w", err)
	}
	for i, name := range outputs {
		if out[i] == nil {
			return fmt.Errorf("onnxruntime: run: output %q was not computed", name)
		}
		t, err := viewTensor(out[i])
		if err != nil {
			return fmt.Errorf("onnxruntime: run: output %q: %w", name, err)
		}
		if err := visit(name, t); err != nil {
			return err
		}
		C.ort_release_value(out[i])
		out[i] = nil
	}
	return nil
}

// outputNames fills outputs with all names if it is empty, and returns their C strings.
func (s *Session) outputNames(outputs *[]string) ([]*C.char, error) {
	if len(*outputs) == 0 {
		for _, v := range s.outputs {
			*outputs = append(*outputs, v.Name)
		}
	}
	names := make([]*C.char, len(*outputs))
	for i, name := range *outputs {
		k, ok := s.outIndex[name]
		if !ok {
			return nil, fmt.Errorf("onnxruntime: run: the model has no output %q", name)
		}
		names[i] = s.outNames[k]
	}
	return names, nil
}

// noBytes stands for the data of an empty tensor, for which onnxruntime wants an address.
var noBytes = [8]byte{}

// feedValue wraps t's bytes as a value; they are pinned, not copied, unless they are misaligned.
func feedValue(want ValueInfo, t *ir.Tensor, pins *runtime.Pinner) (unsafe.Pointer, error) {
	if t.DType() != want.Type.Elem {
		return nil, fmt.Errorf("tensor is %v, the model takes %v", t.Type(), want.Type)
	}
	raw := t.Raw()
	p := unsafe.Pointer(&noBytes[0])
	if len(raw) > 0 {
		if size := uintptr(t.DType().Bits() / 8); size > 1 && uintptr(unsafe.Pointer(&raw[0]))%min(size, 8) != 0 {
			raw = append(make([]byte, 0, len(raw)+8), raw...)
		}
		p = unsafe.Pointer(&raw[0])
		pins.Pin(p)
	}
	return newValue(p, len(raw), t.DType(), t.Dims())
}

func newValue(p unsafe.Pointer, size int, d ir.DType, dims []int64) (unsafe.Pointer, error) {
	elem, err := elemOf(d)
	if err != nil {
		return nil, err
	}
	shape := append(make([]int64, 0, len(dims)+1), dims...)
	shape = append(shape, 0)
	var v unsafe.Pointer
	err = check(C.ort_new_tensor(p, C.size_t(size), (*C.int64_t)(unsafe.Pointer(&shape[0])), C.size_t(len(dims)), elem, &v))
	return v, err
}

// viewTensor is a tensor over the memory of v.
func viewTensor(v unsafe.Pointer) (*ir.Tensor, error) {
	var elem, rank C.int
	var data unsafe.Pointer
	if err := check(C.ort_tensor(v, &elem, &rank, &data)); err != nil {
		return nil, err
	}
	d := dtypeOf(elem)
	if _, err := elemOf(d); err != nil {
		return nil, err
	}
	dims := make([]int64, rank)
	if rank > 0 {
		if err := check(C.ort_tensor_dims(v, (*C.int64_t)(unsafe.Pointer(&dims[0])), rank)); err != nil {
			return nil, err
		}
	}
	n, err := ir.NumElements(dims)
	if err != nil {
		return nil, err
	}
	size, err := ir.PackedSize(d, n)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return ir.NewTensor(d, dims, []byte{})
	}
	return ir.NewTensor(d, dims, unsafe.Slice((*byte)(data), size))
}
