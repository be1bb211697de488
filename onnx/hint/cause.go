package hint

import (
	"errors"
	"os"
)

// Cause is what the system said in an error about a file, without its path: a temporary name, for one.
func Cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
