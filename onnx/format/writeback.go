package format

import (
	"os"

	"mqatc/onnx/mapped"
)

const (
	writebackChunk = 8 << 20 // bytes after which the disk is set to work
	copyFrom       = 1 << 20 // bytes from which asking for a view's file is worth it
)

// eager is a file whose bytes go to disk while more are written, so that a sync at the end has little left to wait for.
type eager struct {
	f           *os.File
	size, begun int64
}

func (e *eager) Write(b []byte) (int, error) {
	total := 0
	for len(b) > 0 {
		n, err := e.put(b[:min(len(b), writebackChunk)])
		total += n
		e.size += int64(n)
		if err != nil {
			return total, err
		}
		if e.size-e.begun >= writebackChunk {
			beginWriteback(e.f, e.begun, e.size-e.begun)
			e.begun = e.size
		}
		b = b[n:]
	}
	return total, nil
}

// put writes b. From a view it is copied by the system: reading views costs a fault for each page.
func (e *eager) put(b []byte) (int, error) {
	if len(b) >= copyFrom {
		if done, err := mapped.Copy(e.f, b); err != nil {
			return 0, err
		} else if done {
			return len(b), nil
		}
	}
	return e.f.Write(b)
}
