// Package clitest holds what tests of the command line share.
package clitest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Command runs main, which is cli.Main, and returns what it printed on standard output; an exit code other than 0 ends the test.
func Command(t testing.TB, main func(args []string, stdout, stderr io.Writer) int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := main(append([]string{"mqatc"}, args...), &out, &errs); code != 0 {
		t.Fatalf("mqatc %s: exit %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// Images fills a folder with n images of random rectangles, 80 x 60 pixels, always the same.
func Images(t testing.TB, dir string, n int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(4, 2))
	for i := range n {
		img := image.NewRGBA(image.Rect(0, 0, 80, 60))
		for range 12 {
			c := color.RGBA{uint8(r.IntN(256)), uint8(r.IntN(256)), uint8(r.IntN(256)), 255}
			x, y := r.IntN(80), r.IntN(60)
			for py := y; py < min(y+25, 60); py++ {
				for px := x; px < min(x+25, 80); px++ {
					img.Set(px, py, c)
				}
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.png", i)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
