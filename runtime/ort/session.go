package ort

// #include <stdlib.h>
// #include "capi.h"
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"unsafe"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/mapped"

	binding "github.com/yalue/onnxruntime_go"
)

// ErrClosed is returned by sessions, buffers and bindings after Close.
var ErrClosed = errors.New("closed")

// ValueInfo is an input or output of a session. Sizes that the model leaves open are unknown or symbolic dimensions.
type ValueInfo struct {
	Name string
	Type ir.Type
}

// Session is a model loaded into onnxruntime. Run may be called from several goroutines at once. Close frees it; nothing
// else does.
type Session struct {
	mu              sync.RWMutex
	s               *binding.DynamicAdvancedSession
	native          unsafe.Pointer
	inputs, outputs []ValueInfo
	inIndex         map[string]int
	outIndex        map[string]int
	inNames         []*C.char
	outNames        []*C.char
	large           bool // Close gives memory back to the system
}

// NewSession loads a serialized model. The bytes are not needed afterwards.
func NewSession(model []byte, opts SessionOptions) (*Session, error) {
	return newSession(opts, func(o *binding.SessionOptions) (*binding.DynamicAdvancedSession, error) {
		return binding.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, o)
	})
}

// largeInitializer is the size in bytes from which Load hands an initializer to onnxruntime without writing it into a message first.
const largeInitializer = 1 << 20

// Load is NewSession for a model that is not serialized yet; large initializers are read where they lie.
func Load(m *ir.Model, opts SessionOptions) (*Session, error) {
	raw, files, err := format.Parts(m, largeInitializer)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		all := maps.Clone(opts.ExternalFiles)
		if all == nil {
			all = map[string][]byte{}
		}
		maps.Copy(all, files)
		opts.ExternalFiles = all
		// What is garbage here, or can be read again, would stand beside what onnxruntime takes.
		debug.FreeOSMemory()
		mapped.Rest()
		defer Trim()
	}
	s, err := NewSession(raw, opts)
	if err == nil {
		s.large = len(files) > 0
	}
	return s, err
}

// NewSessionFile loads the model at path; its external data is looked up beside it.
func NewSessionFile(path string, opts SessionOptions) (*Session, error) {
	return newSession(opts, func(o *binding.SessionOptions) (*binding.DynamicAdvancedSession, error) {
		return binding.NewDynamicAdvancedSession(path, nil, nil, o)
	})
}

func newSession(opts SessionOptions, load func(*binding.SessionOptions) (*binding.DynamicAdvancedSession, error)) (*Session, error) {
	if _, ok := Opened(); !ok {
		return nil, ErrNotOpen
	}
	o, release, err := opts.build()
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: %w", err)
	}
	defer release()
	b, err := load(o)
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: load model: %s", oneLine(strings.TrimPrefix(oneLine(err.Error()), "Error creating C session: ")))
	}
	s := &Session{s: b}
	if err := s.describe(); err != nil {
		s.Close()
		return nil, fmt.Errorf("onnxruntime: load model: %w", err)
	}
	return s, nil
}

func (s *Session) describe() (err error) {
	if s.native, err = handle(s.s, "s", "ortSession"); err != nil {
		return err
	}
	if s.inputs, s.inNames, err = s.values(0); err != nil {
		return err
	}
	if s.outputs, s.outNames, err = s.values(1); err != nil {
		return err
	}
	s.inIndex, s.outIndex = map[string]int{}, map[string]int{}
	for i, v := range s.inputs {
		s.inIndex[v.Name] = i
	}
	for i, v := range s.outputs {
		s.outIndex[v.Name] = i
	}
	return nil
}

func (s *Session) values(outputs C.int) ([]ValueInfo, []*C.char, error) {
	var n C.size_t
	if err := check(C.ort_count(s.native, outputs, &n)); err != nil {
		return nil, nil, err
	}
	var infos []ValueInfo
	var names []*C.char
	for i := C.size_t(0); i < n; i++ {
		var name *C.char
		var elem, rank C.int
		if err := check(C.ort_info(s.native, outputs, i, &name, &elem, &rank)); err != nil {
			return infos, names, err
		}
		names = append(names, name)
		v := ValueInfo{Name: C.GoString(name)}
		if elem != 0 {
			shape, err := s.shape(outputs, i, int(rank))
			if err != nil {
				return infos, names, err
			}
			v.Type = ir.TensorType(dtypeOf(elem), shape)
		}
		infos = append(infos, v)
	}
	return infos, names, nil
}

func (s *Session) shape(outputs C.int, i C.size_t, rank int) (ir.Shape, error) {
	if rank < 0 {
		return nil, nil
	}
	shape := make(ir.Shape, rank)
	if rank == 0 {
		return shape, nil
	}
	dims, symbols := make([]C.int64_t, rank), make([]*C.char, rank)
	err := check(C.ort_info_dims(s.native, outputs, i, &dims[0], &symbols[0], C.int(rank)))
	for k := range shape {
		shape[k] = ir.UnknownDim()
		if dims[k] >= 0 {
			shape[k] = ir.D(int64(dims[k]))
		}
		if symbols[k] != nil {
			if sym := C.GoString(symbols[k]); sym != "" && dims[k] < 0 {
				shape[k] = ir.Sym(sym)
			}
			C.free(unsafe.Pointer(symbols[k]))
		}
	}
	return shape, err
}

// Inputs are the inputs that a run must be fed, in the model's order; initializers are none.
func (s *Session) Inputs() []ValueInfo { return append([]ValueInfo{}, s.inputs...) }

// Outputs are the model's outputs, in its order.
func (s *Session) Outputs() []ValueInfo { return append([]ValueInfo{}, s.outputs...) }

// EndProfile stops profiling and returns the path of the JSON file, for sessions made with SessionOptions.Profile.
func (s *Session) EndProfile() (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.s == nil {
		return "", fmt.Errorf("onnxruntime: session: %w", ErrClosed)
	}
	var path *C.char
	if err := check(C.ort_end_profiling(s.native, &path)); err != nil {
		return "", fmt.Errorf("onnxruntime: profile: %w", err)
	}
	defer C.free(unsafe.Pointer(path))
	return C.GoString(path), nil
}

// Close frees the session, once its runs have ended. Bindings made from it can no longer run.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s == nil {
		return nil
	}
	err := s.s.Destroy()
	s.s, s.native = nil, nil
	for _, names := range [][]*C.char{s.inNames, s.outNames} {
		for _, n := range names {
			C.free(unsafe.Pointer(n))
		}
	}
	s.inNames, s.outNames = nil, nil
	if s.large {
		Trim()
	}
	return err
}

// The C API numbers element types as ONNX does up to 23, has no FLOAT8E8M0, and so has UINT2 and INT2 at 24 and 25. That is
// how they are always reported; but in older releases (1.24.3 and 1.30.0 seen, no longer 1.32.0) a tensor made with these
// numbers gets ONNX's meaning of them.
const uint2Elem = 24

// uint2Made is the number that makes a UINT2 tensor in the library loaded: 24 if that packs four elements in a byte.
func uint2Made() C.int {
	data, dims := [1]byte{}, [1]C.int64_t{4}
	var v unsafe.Pointer
	if err := check(C.ort_new_tensor(unsafe.Pointer(&data[0]), 1, &dims[0], 1, uint2Elem, &v)); err != nil {
		return C.int(ir.Uint2)
	}
	C.ort_release_value(v)
	return uint2Elem
}

func dtypeOf(elem C.int) ir.DType {
	if elem == uint2Elem || elem == uint2Elem+1 {
		return ir.Uint2 + ir.DType(elem-uint2Elem)
	}
	return ir.DType(elem)
}

func elemOf(d ir.DType) (C.int, error) {
	switch {
	case d == ir.Uint2 || d == ir.Int2:
		return process.uint2Made + C.int(d-ir.Uint2), nil
	case d > ir.Undefined && d <= ir.Float4E2M1 && d != ir.String:
		return C.int(d), nil
	}
	return 0, fmt.Errorf("element type %v cannot be passed to onnxruntime", d)
}
