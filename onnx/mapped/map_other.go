//go:build !unix

package mapped

import (
	"io"
	"os"
)

// Rest does nothing: there are no views.
func Rest() {}

// mapFile reads size bytes of f.
func mapFile(f *os.File, size int64) ([]byte, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(f, data)
	return data, err
}
