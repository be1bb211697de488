package format

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback starts writing part of a file to disk and does not wait. What cannot be started is left to the sync.
func beginWriteback(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
