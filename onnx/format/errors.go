package format

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is a failure to read or write a model: where it is, what is wrong, and what to do about it.
type Error struct {
	Where string // file, and the part of it
	What  string
	hint  string
	err   error
}

// Error is the place and the fault on one line.
func (e *Error) Error() string {
	if e.Where == "" {
		return e.What
	}
	return e.Where + ": " + e.What
}

// Hint says what to do, in one sentence; it may be empty.
func (e *Error) Hint() string { return e.hint }

// Unwrap is the cause, if another package reported it.
func (e *Error) Unwrap() error { return e.err }

func fail(where, hint, what string, args ...any) error {
	err := fmt.Errorf(what, args...)
	return &Error{Where: where, What: oneLine(err.Error()), hint: hint, err: err}
}

// oneLine makes a message that quotes a stranger's file fit to print.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if r := []rune(s); len(r) > 600 {
		return string(r[:600]) + "..."
	}
	return s
}

type signature struct {
	at    int
	bytes string
	name  string
	hint  string
}

var signatures = []signature{
	{0, "version https://git-lfs", "a Git LFS pointer, not the file itself", `fetch the file with "git lfs pull"`},
	{0, "\x89PNG", "a PNG image", ""},
	{0, "\xff\xd8\xff", "a JPEG image", ""},
	{0, "PK\x03\x04", "a zip archive or a PyTorch checkpoint", "export the network to ONNX first (torch.onnx.export)"},
	{0, "\x80\x02", "a Python pickle or an old PyTorch checkpoint", "export the network to ONNX first (torch.onnx.export)"},
	{0, "\x1f\x8b", "gzip-compressed", "unpack it with gunzip"},
	{0, "\x89HDF", "an HDF5 file (Keras)", "convert the network to ONNX first (tf2onnx)"},
	{4, "TFL3", "a TensorFlow Lite model", "convert the network to ONNX first (tf2onnx)"},
	{4, "ORTM", "in onnxruntime's own format", "use the .onnx file it was made from"},
	{0, "GGUF", "a GGUF file", ""},
	{0, "ptrt", "a TensorRT engine", "use the .onnx file it was made from"},
	{0, "%PDF", "a PDF document", ""},
	{0, "\x7fELF", "a program or library", ""},
}

// sniff explains what data is when it is known not to be an ONNX model.
func sniff(data []byte) (what, hint string, ok bool) {
	for _, s := range signatures {
		if len(data) >= s.at+len(s.bytes) && string(data[s.at:s.at+len(s.bytes)]) == s.bytes {
			if s.hint == "" {
				return s.name, "give the path of an .onnx file", true
			}
			return s.name, s.hint, true
		}
	}
	head := data[:min(len(data), 1024)]
	if isText(head) {
		return "a text file", "give the path of an .onnx file; a pass dump must be called .onnxtxt", true
	}
	return "", "", false
}

func isText(head []byte) bool {
	for cut := 0; cut < utf8.UTFMax && !utf8.Valid(head); cut++ {
		head = head[:max(len(head)-1, 0)]
	}
	if !utf8.Valid(head) {
		return false
	}
	if bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' }) {
		return false
	}
	return bytes.ContainsAny(head, " \n") || len(head) > 64
}
