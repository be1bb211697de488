package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A full disk is told of as one, whatever hint the command gives.
func TestFullDiskHasItsHint(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "train.bin", Err: syscall.ENOSPC}
	var out bytes.Buffer
	code := complain(&out, withHint(fmt.Errorf("step: %w", full), "name another file"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if code != 1 || len(lines) != 2 || !strings.Contains(lines[0], "train.bin") || !strings.HasPrefix(lines[1], "hint: free space") {
		t.Errorf("code %d:\n%s", code, out.String())
	}
}
