// Package images reads folders of JPEG and PNG images.
package images

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // JPEG images
	_ "image/png"  // PNG images
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFile   = 256 << 20
	maxPixels = 1 << 26
	maxImages = 10_000_000
)

// Folder is the list of images in a folder, sorted by name.
type Folder struct {
	Dir   string
	Names []string // relative to Dir, with slashes
}

// Is reports whether a file name has an extension that this package reads.
func Is(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return true
	}
	return false
}

// Open lists the images in dir; if there are none directly in it, those in the folders below it. Links to folders are not
// followed. A folder without images is an error.
func Open(dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("images: %s is not a folder", dir)
	}
	f := &Folder{Dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && Is(e.Name()) {
			f.Names = append(f.Names, e.Name())
		}
	}
	if len(f.Names) == 0 {
		err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() || !Is(path) {
				return nil
			}
			if len(f.Names) == maxImages {
				return fmt.Errorf("more than %d images", maxImages)
			}
			rel, err := filepath.Rel(dir, path)
			f.Names = append(f.Names, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("images: %s: %w", dir, err)
		}
	}
	if len(f.Names) == 0 {
		return nil, fmt.Errorf("images: no JPEG or PNG images in %s", dir)
	}
	slices.Sort(f.Names)
	return f, nil
}

// Len is the number of images.
func (f *Folder) Len() int { return len(f.Names) }

// Subset is the folder restricted to some images.
func (f *Folder) Subset(idx []int) *Folder {
	s := &Folder{Dir: f.Dir}
	for _, i := range idx {
		s.Names = append(s.Names, f.Names[i])
	}
	return s
}

// Image is an 8-bit RGB image in height, width, channel order.
type Image struct {
	W, H int
	RGB  []uint8 // H x W x 3
}

// Read decodes image i.
func (f *Folder) Read(i int) (*Image, error) {
	if i < 0 || i >= len(f.Names) {
		return nil, fmt.Errorf("images: image %d of %d", i, len(f.Names))
	}
	return Read(filepath.Join(f.Dir, filepath.FromSlash(f.Names[i])))
}

// Read decodes an image file of at most 2^26 pixels; transparency is dropped.
func Read(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("images: %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("images: %s has more than %d bytes", path, maxFile)
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("images: %s cannot be decoded: %w", path, err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxPixels/cfg.Height {
		return nil, fmt.Errorf("images: %s has %dx%d pixels; at most %d are read", path, cfg.Width, cfg.Height, maxPixels)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("images: %s cannot be decoded: %w", path, err)
	}
	return rgb(img), nil
}

func rgb(img image.Image) *Image {
	b := img.Bounds()
	p := &Image{W: b.Dx(), H: b.Dy()}
	p.RGB = make([]uint8, 3*p.W*p.H)
	pix, stride := []uint8(nil), 0
	if src, ok := img.(*image.NRGBA); ok {
		pix, stride = src.Pix[src.PixOffset(b.Min.X, b.Min.Y):], src.Stride
	} else {
		dst := image.NewRGBA(image.Rect(0, 0, p.W, p.H))
		draw.Draw(dst, dst.Rect, img, b.Min, draw.Src)
		pix, stride = dst.Pix, dst.Stride
	}
	for y := range p.H {
		in, out := pix[y*stride:][:4*p.W], p.RGB[3*y*p.W:][:3*p.W]
		for x := range p.W {
			copy(out[3*x:3*x+3], in[4*x:])
		}
	}
	return p
}
