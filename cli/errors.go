package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// exitError carries an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// hinted carries what the user can do about an error.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

func withHint(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, a...)}
}

func usageError(err error) error {
	return withHint(&exitError{2, fmt.Errorf("usage: %w", err)}, "mqatc COMMAND --help lists what the command takes")
}

func usagef(format string, a ...any) error { return usageError(fmt.Errorf(format, a...)) }

// Hinter is implemented by errors of other packages that know what to do about them.
type Hinter interface{ Hint() string }

// complain writes an error as two lines, where and what, then what to do, and returns the exit code.
func complain(w io.Writer, err error) int {
	code := 1
	var ee *exitError
	if errors.As(err, &ee) {
		code = ee.code
	}
	hint := "see docs/ARCHITECTURE.md for the stages of a run, or run again with --dump-passes DIR"
	var h *hinted
	var other Hinter
	switch {
	case errors.As(err, &h):
		hint = h.hint
	case errors.As(err, &other) && other.Hint() != "":
		hint = other.Hint()
	}
	fmt.Fprintf(w, "mqatc: error: %s\nhint: %s\n", oneLine(err.Error()), oneLine(hint))
	return code
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
