// Package orttest gives the tests of every package an opened onnxruntime.
package orttest

import (
	"context"
	"testing"
	"time"

	"mqatc/runtime/ort"
)

// TestLibrary opens onnxruntime for the test's process, installing the pinned version into the user's cache where the machine
// has none. It fails the test with what the user can do where that is impossible.
func TestLibrary(t testing.TB) ort.Library {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if err := ort.Open(ctx, ort.Options{Progress: progress{t}}); err != nil {
		t.Fatalf("open onnxruntime: %v", err)
	}
	l, _ := ort.Opened()
	return l
}

type progress struct{ t testing.TB }

func (p progress) Write(b []byte) (int, error) {
	p.t.Helper()
	p.t.Logf("%s", b)
	return len(b), nil
}
