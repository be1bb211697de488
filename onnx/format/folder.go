package format

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mqatc/onnx/hint"
)

// WriteFolder makes the folder dir, which must be absent or empty. It appears whole, by a rename, or not at all: fill writes into the
// folder that it is given, beside dir. Folders above dir are made.
func WriteFolder(dir string, fill func(tmp string) error) (err error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return hint.Errorf("name a folder that is not there yet, or empty it first", "folder %s is not empty", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return hint.Errorf("name a folder that can be written", "folder %s: %w", dir, hint.Cause(err))
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return hint.Errorf("name a folder that can be written", "folder %s: %w", dir, hint.Cause(err))
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".tmp-")
	if err != nil {
		return hint.Errorf("name a folder that can be written", "folder %s: %w", dir, hint.Cause(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	syncFolder(tmp)
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("folder %s: %w", dir, hint.Cause(err))
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("folder %s: %w", dir, hint.Cause(err))
	}
	syncFolder(parent)
	return nil
}
