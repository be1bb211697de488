package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"mqatc/onnx/hint"
)

// exitError carries an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func withHint(err error, format string, a ...any) error {
	return hint.Wrap(err, fmt.Sprintf(format, a...))
}

func usageError(err error) error {
	return withHint(&exitError{2, fmt.Errorf("usage: %w", err)}, "mqatc COMMAND --help lists what the command takes")
}

func usagef(format string, a ...any) error { return usageError(fmt.Errorf(format, a...)) }

// Hinter is implemented by errors that know what to do about them.
type Hinter interface{ Hint() string }

// complain writes an error as two lines, where and what, then what to do, and returns the exit code.
func complain(w io.Writer, err error) int {
	code := 1
	var ee *exitError
	if errors.As(err, &ee) {
		code = ee.code
	}
	todo := "see docs/ARCHITECTURE.md for the stages of a run, or run again with --dump-passes DIR"
	var h Hinter
	if errors.As(err, &h) && h.Hint() != "" {
		todo = h.Hint()
	}
	if errors.Is(err, syscall.ENOSPC) {
		todo = "free space on the disk, or name a folder on another one; what is there already is whole"
	}
	fmt.Fprintf(w, "mqatc: error: %s\nhint: %s\n", oneLine(err.Error()), oneLine(todo))
	return code
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
