// Command sizes plans the networks of the paper at the widths of its tables, by the command line alone, and prints how many times smaller
// they become: by the paper's figure (nominal), in bytes of weights with all that stands for them (achieved), and in files on disk.
//
// usage: go run ./bench/sizes MQATC FOLDER
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// table is what the paper says, in its tables' order: its figure is empty where it gives widths alone.
var table = []struct {
	network, widths string
	assign          string
	perUse          bool
	paper           string
}{
	{"wdr", "8-2-8", "backbone=8,fpn=2,head=8", false, ""},
	{"wdr", "4-2-4", "backbone=4,fpn=2,head=4", false, ""},
	{"caspacenet", "8-32-32", "backbone=8,fpn=32,head=32", true, "2.2"},
	{"caspacenet", "8-8-32", "backbone=8,fpn=8,head=32", true, "3.2"},
	{"caspacenet", "8-8-8", "backbone=8,fpn=8,head=8", true, "4.0"},
	{"caspacenet", "8-2-8", "backbone=8,fpn=2,head=8", true, "4.7"},
	{"caspacenet", "8-2-8", "backbone=8,fpn=2,head=8", false, "4.7"},
	{"caspacenet", "3-32-32", "backbone=3,fpn=32,head=32", true, "2.9"},
	{"caspacenet", "3-3-32", "backbone=3,fpn=3,head=32", true, "5.9"},
	{"caspacenet", "4-2-4", "backbone=4,fpn=2,head=4", true, "8.2"},
	{"caspacenet", "3-3-3", "backbone=3,fpn=3,head=3", true, "10.6"},
	{"zebrapose", "8-4", "backbone=8,decoder=4", false, "4.62"},
	{"gdrnet", "7-7-7", "backbone=7,rotation=7,pnp=7", false, "4.57"},
	{"gdrnet", "8-4-4", "backbone=8,rotation=4,pnp=4", false, "4.97"},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sizes MQATC FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sizes:", err)
		os.Exit(1)
	}
}

func write(mqatc, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	fmt.Println("| network | bits | shared weights | paper | nominal | achieved | file |\n| --- | --- | --- | --- | --- | --- | --- |")
	built := map[string]bool{}
	for _, r := range table {
		model := filepath.Join(dir, r.network+".onnx")
		if !built[r.network] {
			if _, err := run(mqatc, "zoo", r.network, "-o", model); err != nil {
				return err
			}
			built[r.network] = true
		}
		count := "once"
		if r.perUse {
			count = "per-use"
		}
		out, err := run(mqatc, "plan", model, "--assign", r.assign, "--compress", "1x", "--compress-basis", "nominal", "--count-shared", count, "--json")
		if err != nil {
			return err
		}
		var doc struct {
			Compress struct{ Nominal, Achieved, File float64 }
		}
		if err := json.Unmarshal(out, &doc); err != nil {
			return fmt.Errorf("%s %s: %w", r.network, r.widths, err)
		}
		c := doc.Compress
		fmt.Printf("| %s | %s | %s | %s | %.3f | %.3f | %.3f |\n", r.network, r.widths, count, r.paper, c.Nominal, c.Achieved, c.File)
	}
	return nil
}

func run(name string, args ...string) ([]byte, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s %v: %w: %s", name, args, err, exit.Stderr)
	}
	return out, err
}
