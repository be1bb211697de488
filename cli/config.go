package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

var configFlag = &cli.StringFlag{Name: "config", Usage: "FILE.yaml of flags by name; what the command line says wins", TakesFile: true}

// maxConfig is far more than flags take.
const maxConfig = 1 << 20

// withConfig puts the flags that a --config file names before the others, where the command line does not give them. It runs on
// sorted arguments, before the parser looks for required flags.
func withConfig(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	var cmd *cli.Command
	for _, c := range app.Commands {
		if c.HasName(args[1]) && slices.Contains(c.Flags, cli.Flag(configFlag)) {
			cmd = c
		}
	}
	path, given := "", map[string]bool{}
	for i, a := range args {
		if a == "--" {
			break
		}
		if !isFlag(a) {
			continue
		}
		name, value, joined := strings.Cut(strings.TrimLeft(a, "-"), "=")
		given[name] = true
		if name == configFlag.Name {
			if joined {
				path = value
			} else if i+1 < len(args) {
				path = args[i+1]
			}
		}
	}
	if cmd == nil || path == "" {
		return args, nil
	}
	extra, err := readConfig(cmd, path, given)
	if err != nil {
		return nil, usageError(fmt.Errorf("--config %s: %w", path, err))
	}
	return append(append(slices.Clone(args[:2]), extra...), args[2:]...), nil
}

func readConfig(cmd *cli.Command, path string, given map[string]bool) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("more than %d bytes", maxConfig)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("it is no list of flags as `compress: 4x`")
	}
	known := map[string]bool{}
	for _, f := range cmd.Flags {
		for _, n := range f.Names() {
			known[n] = n != configFlag.Name
		}
	}
	var out []string
	entries := doc.Content[0].Content
	for i := 0; i+1 < len(entries); i += 2 {
		name := entries[i].Value
		if !known[name] {
			return nil, fmt.Errorf("line %d: %s has no flag %q", entries[i].Line, cmd.Name, name)
		}
		if given[name] {
			continue
		}
		values := []*yaml.Node{entries[i+1]}
		if values[0].Kind == yaml.SequenceNode {
			values = values[0].Content
		}
		for _, v := range values {
			if v.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: the value of %s is neither a word nor a list of words", v.Line, name)
			}
			out = append(out, "--"+name+"="+v.Value)
		}
	}
	return out, nil
}
