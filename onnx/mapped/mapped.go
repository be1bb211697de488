// Package mapped brings the bytes of model files into memory: what is small is read, what is large is a view of the file. A view
// breaks when another program cuts the file short; Guard makes an error of that.
package mapped

import (
	"fmt"
	"io"
	"math"
	"os"
)

const (
	readBound = 64 << 20 // bytes that one Reader copies
	smallest  = 4 << 10  // smaller files are copied all the same: a mapping costs a page
)

// Reader gives the bytes of files. It copies readBound bytes in all, and maps what goes beyond them. The zero value is ready.
type Reader struct{ copied int64 }

// File returns the bytes of a regular file, which must not be written to. They stay valid after f is closed, until the process ends.
func (r *Reader) File(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size > math.MaxInt {
		return nil, fmt.Errorf("file of %d bytes is too large for this machine", size)
	}
	if size >= smallest && size > readBound-r.copied {
		return mapFile(f, size)
	}
	r.copied += size
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("file shrank while it was read: %w", err)
	}
	return data, nil
}
