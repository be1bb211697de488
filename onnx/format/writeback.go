package format

import "os"

// writebackChunk is after how many bytes the disk is set to work.
const writebackChunk = 8 << 20

// eager is a file whose bytes go to disk while more are written, so that a sync at the end has little left to wait for.
type eager struct {
	f           *os.File
	size, begun int64
}

func (e *eager) Write(b []byte) (int, error) {
	total := 0
	for len(b) > 0 {
		n, err := e.f.Write(b[:min(len(b), writebackChunk)])
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
