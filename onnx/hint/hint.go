// Package hint makes errors that say what to do about them.
package hint

import "fmt"

// Error is a failure with what to do about it.
type Error struct {
	err  error
	hint string
}

// Error says what is wrong and where.
func (e *Error) Error() string { return e.err.Error() }

// Hint says what to do, in one sentence.
func (e *Error) Hint() string { return e.hint }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.err }

// Errorf makes an error out of a format, as fmt.Errorf does.
func Errorf(hint, format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...), hint}
}

// Wrap gives an error a hint; nil stays nil.
func Wrap(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{err, hint}
}
