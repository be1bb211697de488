//go:build unix

package mapped

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps size bytes of f, read-only. The mapping stays until the process ends, because tensors are views of it.
func mapFile(f *os.File, size int64) ([]byte, error) {
	view, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil || size < originFrom {
		return view, err
	}
	if fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		keepOrigin(view, os.NewFile(uintptr(fd), f.Name()))
	}
	return view, nil
}
