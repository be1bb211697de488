package mapped

import (
	"io"
	"os"
	"sync"
	"unsafe"
)

// originFrom is the size from which the file of a view stays open, so that few do.
const originFrom = 64 << 20

type origin struct {
	start, size uintptr
	file        *os.File
}

var origins struct {
	sync.Mutex
	list []origin
}

// keepOrigin remembers the file of a view. Neither is ever given back: tensors are views until the process ends.
func keepOrigin(view []byte, file *os.File) {
	origins.Lock()
	defer origins.Unlock()
	origins.list = append(origins.list, origin{uintptr(unsafe.Pointer(unsafe.SliceData(view))), uintptr(len(view)), file})
}

// Copy appends b to f, by the system within its cache of files where b lies in a view of a large file. Without one, done is false
// and nothing happened. A file that was cut short gives a *CutShort.
func Copy(f *os.File, b []byte) (done bool, err error) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	origins.Lock()
	defer origins.Unlock()
	for _, o := range origins.list {
		if at < o.start || at-o.start > o.size || uintptr(len(b)) > o.size-(at-o.start) {
			continue
		}
		if _, err := o.file.Seek(int64(at-o.start), io.SeekStart); err != nil {
			return false, nil
		}
		_, err := io.CopyN(f, o.file, int64(len(b)))
		if err == io.EOF {
			return true, &CutShort{}
		}
		return true, err
	}
	return false, nil
}
