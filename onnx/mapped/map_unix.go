//go:build unix

package mapped

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

var views struct {
	sync.Mutex
	all [][]byte
}

func keep(view []byte) {
	views.Lock()
	defer views.Unlock()
	views.all = append(views.all, view)
}

// Rest lets go of the memory that views take now; what is read again comes from the file again.
func Rest() {
	views.Lock()
	defer views.Unlock()
	for _, v := range views.all {
		_ = unix.Madvise(v, unix.MADV_DONTNEED) // advice
	}
}

// mapFile maps size bytes of f, read-only. The mapping stays until the process ends, because tensors are views of it.
func mapFile(f *os.File, size int64) ([]byte, error) {
	view, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return view, err
	}
	keep(view)
	if size < originFrom {
		return view, nil
	}
	if fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		keepOrigin(view, os.NewFile(uintptr(fd), f.Name()))
	}
	return view, nil
}
