//go:build !windows

package ort

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"unsafe"
)

// openLibrary loads the library at path and returns the address of OrtGetApiBase; close undoes it.
func openLibrary(path string) (base unsafe.Pointer, close func(), err error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	h := C.dlopen(cpath, C.RTLD_LAZY|C.RTLD_LOCAL)
	if h == nil {
		return nil, nil, errors.New(oneLine(C.GoString(C.dlerror())))
	}
	sym := C.CString("OrtGetApiBase")
	defer C.free(unsafe.Pointer(sym))
	p := C.dlsym(h, sym)
	if p == nil {
		C.dlclose(h)
		return nil, nil, errors.New("not onnxruntime: no OrtGetApiBase")
	}
	return p, func() { C.dlclose(h) }, nil
}

func pathBytes(s string) []byte { return append([]byte(s), 0) }
