package format

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback starts writing part of a file to disk and does not wait. What cannot be started is left to the sync.
func beginWriteback(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}

// reserve makes a file that is to be written size bytes long: full disks show at once, and writing is faster. File systems that
// cannot are left alone.
func reserve(f *os.File, size int64) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); errors.Is(err, unix.ENOSPC) {
		return err
	}
	return nil
}
