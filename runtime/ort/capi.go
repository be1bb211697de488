package ort

// #include <stdlib.h>
// #include "capi.h"
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unsafe"
)

// apiVersion is the C API version the binding asks for.
const apiVersion = 24

var sourcePlace = regexp.MustCompile(`\S*/onnxruntime/(core|contrib_ops)/\S+:\d+ `)

var statusPrefix = regexp.MustCompile(`^.*\[ONNXRuntimeError\] : \d+ : \w+ : `)

// oneLine makes onnxruntime's message one line without the places in its own source, at most 500 bytes.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(sourcePlace.ReplaceAllString(s, "")), " ")
	s = statusPrefix.ReplaceAllString(s, "")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}

func check(r C.ort_result) error {
	if r.error == nil {
		return nil
	}
	msg := oneLine(C.GoString(r.error))
	C.free(unsafe.Pointer(r.error))
	return errors.New(msg)
}

// attach points the function table at the library behind base and returns the library's own version.
func attach(base unsafe.Pointer) (string, error) {
	var version *C.char
	rc := C.ort_attach(base, apiVersion, &version)
	v := ""
	if version != nil {
		v = C.GoString(version)
	}
	if rc != 0 {
		return v, fmt.Errorf("onnxruntime %s does not offer C API version %d, at least %s is needed", v, apiVersion, MinVersion)
	}
	return v, nil
}

func providers() ([]string, error) {
	var names **C.char
	var n C.int
	if err := check(C.ort_providers(&names, &n)); err != nil {
		return nil, err
	}
	defer C.ort_free_providers(names, n)
	var out []string
	for _, p := range unsafe.Slice(names, int(n)) {
		out = append(out, C.GoString(p))
	}
	return out, nil
}

func buildInfo() string { return C.GoString(C.ort_build_info()) }

// handle reads the pointer that the binding keeps in an unexported field of *v, which the binding gives no other way to.
func handle(v any, fields ...string) (unsafe.Pointer, error) {
	x := reflect.ValueOf(v)
	for _, f := range fields {
		if x.Kind() == reflect.Pointer {
			x = x.Elem()
		}
		if x.Kind() != reflect.Struct || !x.FieldByName(f).IsValid() {
			return nil, fmt.Errorf("%T of onnxruntime_go has no field %s: another version of the binding", v, f)
		}
		x = x.FieldByName(f)
	}
	if x.Kind() != reflect.Pointer || x.IsNil() {
		return nil, fmt.Errorf("%T of onnxruntime_go is closed", v)
	}
	return x.UnsafePointer(), nil
}
