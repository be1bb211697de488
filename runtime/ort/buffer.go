package ort

// #include <stdlib.h>
// #include <string.h>
// #include "capi.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"mqatc/onnx/ir"
)

// Buffer is a tensor in memory of its own, aligned to 64 bytes, which Go code reads and writes in place and sessions use
// without copying. It keeps its address until Close; views must not be used after that. Reading or writing one while a run
// that it is bound to is under way is a race.
type Buffer struct {
	mu    sync.Mutex
	dtype ir.DType
	dims  []int64
	mem   unsafe.Pointer
	size  int
	value unsafe.Pointer
	bound int
	of    *Buffer // whose memory this one is a part of
}

// NewBuffer makes a buffer of zeros. Without dims it is a scalar.
func NewBuffer(d ir.DType, dims ...int64) (*Buffer, error) {
	if _, ok := Opened(); !ok {
		return nil, ErrNotOpen
	}
	n, err := ir.NumElements(dims)
	if err != nil {
		return nil, fmt.Errorf("buffer: %w", err)
	}
	size, err := ir.PackedSize(d, n)
	if err != nil {
		return nil, fmt.Errorf("buffer: %w", err)
	}
	mem := C.ort_aligned(C.size_t(max(size, 1)))
	if mem == nil {
		return nil, fmt.Errorf("buffer: no memory for %v%v, %d bytes", d, dims, size)
	}
	b := &Buffer{dtype: d, dims: append([]int64{}, dims...), mem: mem, size: int(size)}
	if b.value, err = newValue(mem, b.size, d, dims); err != nil {
		C.ort_aligned_free(mem, C.size_t(max(size, 1)))
		return nil, fmt.Errorf("buffer: %w", err)
	}
	return b, nil
}

// View makes a buffer of memory that belongs to b, from byte at on, which must be a multiple of 64. Views may overlap: what one run
// writes through one it may read through another. b stays open until its views are closed.
func (b *Buffer) View(at int64, d ir.DType, dims ...int64) (*Buffer, error) {
	n, err := ir.NumElements(dims)
	if err != nil {
		return nil, fmt.Errorf("buffer: %w", err)
	}
	size, err := ir.PackedSize(d, n)
	if err != nil {
		return nil, fmt.Errorf("buffer: %w", err)
	}
	if at < 0 || at%64 != 0 || size > int64(b.size) || at > int64(b.size)-size {
		return nil, fmt.Errorf("buffer: no view of %d bytes from %d on in %d", size, at, b.size)
	}
	if _, err := b.hold(); err != nil {
		return nil, err
	}
	v := &Buffer{dtype: d, dims: append([]int64{}, dims...), mem: unsafe.Add(b.mem, at), size: int(size), of: b}
	if v.value, err = newValue(v.mem, v.size, d, dims); err != nil {
		b.release()
		return nil, fmt.Errorf("buffer: %w", err)
	}
	return v, nil
}

// BufferOf makes a buffer that holds a copy of t.
func BufferOf(t *ir.Tensor) (*Buffer, error) {
	b, err := NewBuffer(t.DType(), t.Dims()...)
	if err != nil {
		return nil, err
	}
	return b, b.Set(t)
}

// DType is the element type.
func (b *Buffer) DType() ir.DType { return b.dtype }

// Dims are the sizes; the caller must not change them.
func (b *Buffer) Dims() []int64 { return b.dims }

// Bytes views the elements, little-endian and row-major; nil once closed.
func (b *Buffer) Bytes() []byte {
	if b.mem == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.mem), b.size)
}

func viewAs[T any](b *Buffer, d ir.DType) []T {
	if b.mem == nil || b.dtype != d {
		return nil
	}
	var z T
	return unsafe.Slice((*T)(b.mem), b.size/int(unsafe.Sizeof(z)))
}

// Float32s views the elements of a float buffer; nil for another type.
func (b *Buffer) Float32s() []float32 { return viewAs[float32](b, ir.Float32) }

// Float64s views the elements of a double buffer; nil for another type.
func (b *Buffer) Float64s() []float64 { return viewAs[float64](b, ir.Float64) }

// Int64s views the elements of an int64 buffer; nil for another type.
func (b *Buffer) Int64s() []int64 { return viewAs[int64](b, ir.Int64) }

// Int32s views the elements of an int32 buffer; nil for another type.
func (b *Buffer) Int32s() []int32 { return viewAs[int32](b, ir.Int32) }

// Int8s views the elements of an int8 buffer; nil for another type.
func (b *Buffer) Int8s() []int8 { return viewAs[int8](b, ir.Int8) }

// Uint8s views the elements of a uint8 buffer; nil for another type.
func (b *Buffer) Uint8s() []uint8 { return viewAs[uint8](b, ir.Uint8) }

// Bools views the elements of a bool buffer; nil for another type.
func (b *Buffer) Bools() []bool { return viewAs[bool](b, ir.Bool) }

// Set copies the elements of t, which must have the buffer's type and sizes.
func (b *Buffer) Set(t *ir.Tensor) error {
	if t.DType() != b.dtype || !equalDims(t.Dims(), b.dims) {
		return fmt.Errorf("buffer: cannot set %v%v from %v", b.dtype, b.dims, t.Type())
	}
	if b.mem == nil {
		return fmt.Errorf("buffer: %w", ErrClosed)
	}
	copy(b.Bytes(), t.Raw())
	return nil
}

// Tensor copies the elements out.
func (b *Buffer) Tensor() (*ir.Tensor, error) {
	if b.mem == nil {
		return nil, fmt.Errorf("buffer: %w", ErrClosed)
	}
	return ir.NewTensor(b.dtype, b.dims, append([]byte{}, b.Bytes()...))
}

// Close frees the memory. A buffer that is still bound is kept, and that is an error.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mem == nil {
		return nil
	}
	if b.bound > 0 {
		return fmt.Errorf("buffer %v%v is still bound %d times", b.dtype, b.dims, b.bound)
	}
	C.ort_release_value(b.value)
	if b.of != nil {
		b.of.release()
	} else {
		C.ort_aligned_free(b.mem, C.size_t(max(b.size, 1)))
	}
	b.mem, b.value = nil, nil
	return nil
}

func (b *Buffer) hold() (unsafe.Pointer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mem == nil {
		return nil, fmt.Errorf("buffer: %w", ErrClosed)
	}
	b.bound++
	return b.value, nil
}

func (b *Buffer) release() {
	b.mu.Lock()
	b.bound--
	b.mu.Unlock()
}

func equalDims(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Trim gives the system back what the C library keeps of memory that was freed, as closed sessions leave it.
func Trim() { C.ort_trim() }
