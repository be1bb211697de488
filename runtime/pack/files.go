package pack

import (
	"bufio"
	"io"

	"github.com/google/renameio/v2"
)

// output is a file to be written.
type output struct {
	path string
	body func(io.Writer) error
}

func bytesTo(path string, data []byte) output {
	return output{path, func(w io.Writer) error { _, err := w.Write(data); return err }}
}

// files are the description and the header beside blob.
func (d *Description) files(blob string) ([]output, error) {
	j, err := d.JSON()
	if err != nil {
		return nil, err
	}
	h, err := d.Header()
	if err != nil {
		return nil, err
	}
	return []output{bytesTo(beside(blob, ".json"), j), bytesTo(beside(blob, ".h"), h)}, nil
}

// writeAll writes all files under temporary names before it renames the first.
func writeAll(files []output, opts ...renameio.Option) error {
	var pending []*renameio.PendingFile
	defer func() {
		for _, p := range pending {
			_ = p.Cleanup()
		}
	}()
	for _, f := range files {
		p, err := newPending(f, opts)
		if p != nil {
			pending = append(pending, p)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range pending {
		if err := p.CloseAtomicallyReplace(); err != nil {
			return err
		}
	}
	return nil
}

func newPending(f output, opts []renameio.Option) (*renameio.PendingFile, error) {
	p, err := renameio.NewPendingFile(f.path, append([]renameio.Option{renameio.WithPermissions(0o644), renameio.WithExistingPermissions()}, opts...)...)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(p, 1<<16)
	if err := f.body(w); err != nil {
		return p, err
	}
	if err := w.Flush(); err != nil {
		return p, err
	}
	return p, p.Sync()
}
