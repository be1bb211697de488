package mapped

import "runtime/debug"

// CutShort is the failure to read a view whose file has become shorter.
type CutShort struct{}

// Error says what happened.
func (*CutShort) Error() string {
	return "the model's file, or its external data, was cut short while it was in use"
}

// Hint says what to do, in one sentence.
func (*CutShort) Hint() string { return "let no other program change the model's files meanwhile" }

// IsFault reports whether a recovered panic is an access to memory that is not there, as in a view whose file was cut short, or a
// *CutShort, into which another goroutine's Guard made one.
func IsFault(recovered any) bool {
	if _, ok := recovered.(*CutShort); ok {
		return true
	}
	_, ok := recovered.(interface{ Addr() uintptr })
	return ok
}

// Guard runs f, which reads views, and returns a *CutShort in place of the fault that would end the process. Other panics go on.
// It covers f's own goroutine; what f starts in others needs Guarded.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); IsFault(r) {
			err = &CutShort{}
		} else if r != nil {
			panic(r)
		}
	}()
	return f()
}

// Guarded is f under Guard, for the body of a goroutine.
func Guarded(f func() error) func() error { return func() error { return Guard(f) } }
