package images

import (
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path string, img image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if strings.HasSuffix(path, ".png") {
		err = png.Encode(f, img)
	} else {
		err = jpeg.Encode(f, img, &jpeg.Options{Quality: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flat(w, h int, c color.Color) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	return img
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.png"), flat(3, 2, color.NRGBA{10, 20, 30, 255}))
	write(t, filepath.Join(dir, "a.JPG"), flat(16, 16, color.NRGBA{200, 100, 50, 255}))
	write(t, filepath.Join(dir, "below", "c.png"), flat(1, 1, color.White))
	os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o644)
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Names, []string{"a.JPG", "b.png"}) {
		t.Fatalf("names %v", f.Names)
	}
	a, err := f.Read(0)
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range []int{200, 100, 50} {
		if d := int(a.RGB[c]) - want; d < -3 || d > 3 {
			t.Errorf("channel %d of the JPEG is %d, want %d", c, a.RGB[c], want)
		}
	}
	b, err := f.Subset([]int{1}).Read(0)
	if err != nil || b.W != 3 || b.H != 2 || !slices.Equal(b.RGB[:3], []uint8{10, 20, 30}) {
		t.Errorf("%+v, %v", b, err)
	}
	deep, err := Open(filepath.Dir(dir))
	if err != nil || len(deep.Names) != 3 {
		t.Errorf("images below: %v, %v", deep, err)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nope")); err == nil {
		t.Error("missing folder accepted")
	}
	bad := filepath.Join(dir, "bad.jpg")
	os.WriteFile(bad, []byte("no image at all"), 0o644)
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(0); err == nil || !strings.Contains(err.Error(), "bad.jpg") {
		t.Errorf("undecodable file: %v", err)
	}
	if _, err := Open(bad); err == nil {
		t.Error("a file was taken for a folder")
	}
	huge := filepath.Join(dir, "huge.png")
	write(t, huge, flat(1, 1, color.White))
	raw, _ := os.ReadFile(huge)
	copy(raw[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // 65536 x 65536 in the header
	os.WriteFile(huge, raw, 0o644)
	if _, err := Read(huge); err == nil {
		t.Error("an image of 2^32 pixels was read")
	}
}
