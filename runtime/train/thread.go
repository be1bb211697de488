package train

import (
	"runtime"
	"sync"

	"mqatc/runtime/ort"
)

// thread runs bindings on one thread of the system: kernels keep buffers for each thread that calls them.
type thread struct {
	calls chan *ort.Binding
	done  chan error
	once  sync.Once // closes
}

func newThread() *thread {
	t := &thread{calls: make(chan *ort.Binding), done: make(chan error)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for b := range t.calls {
			t.done <- b.Run()
		}
	}()
	return t
}

func (t *thread) run(b *ort.Binding) error {
	t.calls <- b
	return <-t.done
}

func (t *thread) close() { t.once.Do(func() { close(t.calls) }) }
