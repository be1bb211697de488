package bop

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"

	_ "image/jpeg" // JPEG images
	_ "image/png"  // PNG images
)

const (
	maxImageFile   = 256 << 20
	maxImagePixels = 1 << 26
)

func decode(path string) (image.Image, error) {
	data, err := readBounded(path, maxImageFile)
	if err != nil {
		return nil, fmt.Errorf("bop: %w", err)
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("bop: %s: %w", path, err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxImagePixels/cfg.Height {
		return nil, fmt.Errorf("bop: %s: %dx%d pixels, at most %d are read", path, cfg.Width, cfg.Height, maxImagePixels)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("bop: %s: %w", path, err)
	}
	return img, nil
}

// decodeRGB reads an image file; transparency is dropped.
func decodeRGB(path string) (*Pixels, error) {
	img, err := decode(path)
	if err != nil {
		return nil, err
	}
	return toRGB(img), nil
}

func toRGB(img image.Image) *Pixels {
	b := img.Bounds()
	p := &Pixels{W: b.Dx(), H: b.Dy()}
	p.RGB = make([]uint8, 3*p.W*p.H)
	var pix []uint8
	var stride int
	switch src := img.(type) {
	case *image.NRGBA:
		pix, stride = src.Pix[src.PixOffset(b.Min.X, b.Min.Y):], src.Stride
	default:
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

// decodeMask reads a mask file, on where the gray value is not zero.
func decodeMask(path string) (*Mask, error) {
	img, err := decode(path)
	if err != nil {
		return nil, err
	}
	b := img.Bounds()
	gray, ok := img.(*image.Gray)
	if !ok {
		gray = image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(gray, gray.Rect, img, b.Min, draw.Src)
		b = gray.Rect
	}
	return &Mask{W: b.Dx(), H: b.Dy(), On: func(x, y int) bool {
		return x >= 0 && y >= 0 && x < b.Dx() && y < b.Dy() && gray.GrayAt(b.Min.X+x, b.Min.Y+y).Y != 0
	}}, nil
}
