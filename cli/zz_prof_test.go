package cli

import (
	"os"
	"strings"
	"testing"
)

func TestZZProf(t *testing.T) {
	a := os.Getenv("ZZARGS")
	if a == "" {
		t.Skip()
	}
	if code := Main(append([]string{"mqatc"}, strings.Fields(a)...), os.Stdout, os.Stderr); code != 0 {
		t.Fatal(code)
	}
}
