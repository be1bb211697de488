package ort

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openLibrary loads the library at path and returns the address of OrtGetApiBase; close undoes it.
func openLibrary(path string) (base unsafe.Pointer, close func(), err error) {
	h, err := windows.LoadLibrary(path)
	if err != nil {
		return nil, nil, err
	}
	p, err := windows.GetProcAddress(h, "OrtGetApiBase")
	if err != nil {
		windows.FreeLibrary(h)
		return nil, nil, errors.New("not onnxruntime: no OrtGetApiBase")
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&p)), func() { windows.FreeLibrary(h) }, nil
}

func pathBytes(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
