package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// twoLines is how a failure ends: where and what, then what to do.
var twoLines = regexp.MustCompile(`(?:^|\n)mqatc: error: [^:\n]+: .+\nhint: .+\n$`)

// parsed is what a command saw.
type parsed struct {
	ran    bool
	values map[string]string
	args   []string
}

// record runs the command line with every action replaced by one that records it.
func record(t *testing.T, args []string) (parsed, string, string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	p := parsed{values: map[string]string{}}
	app := newApp(&out, &errs)
	var each func(cs []*cli.Command)
	each = func(cs []*cli.Command) {
		for _, c := range cs {
			if len(c.Subcommands) == 0 {
				c.Action = func(x *cli.Context) error {
					p.ran = true
					p.args = x.Args().Slice()
					for _, f := range c.Flags {
						p.values[f.Names()[0]] = fmt.Sprint(x.Value(f.Names()[0]))
					}
					return nil
				}
			}
			each(c.Subcommands)
		}
	}
	each(app.Commands)
	sorted, err := sortArgs(app, args)
	if err != nil {
		t.Fatal(err)
	}
	code := 0
	if err := app.Run(sorted); err != nil {
		code = complain(&errs, err)
	}
	return p, out.String(), errs.String(), code
}

// sample is a value for a flag that its default is not.
func sample(f cli.Flag) []string {
	name := "--" + f.Names()[0]
	switch f.(type) {
	case *cli.BoolFlag:
		return []string{name}
	case *cli.StringFlag:
		return []string{name, "some value"}
	case *cli.StringSliceFlag:
		return []string{name, "a=1,b=2"}
	case *cli.Float64Flag:
		return []string{name, "-0.125"}
	}
	return []string{name, "7"}
}

// leaves calls f for each command that does something, with the words that name it.
func leaves(f func(words []string, c *cli.Command)) {
	var each func(words []string, cs []*cli.Command)
	each = func(words []string, cs []*cli.Command) {
		for _, c := range cs {
			w := append(slices.Clone(words), c.Name)
			if len(c.Subcommands) == 0 {
				f(w, c)
			}
			each(w, c.Subcommands)
		}
	}
	each([]string{"mqatc"}, commands())
}

func TestFlagsStandOnEitherSide(t *testing.T) {
	n := 0
	leaves(func(words []string, c *cli.Command) {
		n++
		t.Run(strings.Join(words[1:], "_"), func(t *testing.T) {
			var flags []string
			for _, f := range c.Flags {
				flags = append(flags, sample(f)...)
			}
			orders := [][]string{append(slices.Clone(flags), "model.onnx", "-"), append([]string{"model.onnx", "-"}, flags...)}
			if len(flags) > 1 {
				k := len(sample(c.Flags[0]))
				orders = append(orders, slices.Concat(flags[:k], []string{"model.onnx"}, flags[k:], []string{"-"}))
			}
			var first parsed
			for i, o := range orders {
				p, out, errs, code := record(t, slices.Concat(words, o))
				if !p.ran || code != 0 || out != "" {
					t.Fatalf("%q: exit %d, stdout %q, stderr %q", o, code, out, errs)
				}
				if !slices.Equal(p.args, []string{"model.onnx", "-"}) {
					t.Errorf("%q: arguments %q", o, p.args)
				}
				if i == 0 {
					first = p
				}
				for k, v := range first.values {
					if p.values[k] != v {
						t.Errorf("%q: --%s is %q, in another order %q", o, k, p.values[k], v)
					}
				}
			}
		})
	})
	if n < 15 {
		t.Fatalf("%d commands", n)
	}
}

func TestUnknownFlagIsAUsageError(t *testing.T) {
	leaves(func(words []string, _ *cli.Command) {
		for _, o := range [][]string{{"--no-such-flag", "model.onnx"}, {"model.onnx", "--no-such-flag"}, {"model.onnx", "--no-such-flag=3"}} {
			args := slices.Concat(words, o)
			p, out, errs, code := record(t, args)
			if p.ran || code != 2 || out != "" || !twoLines.MatchString(errs) {
				t.Errorf("%q: ran %v, exit %d, stdout %q, stderr %q", args, p.ran, code, out, errs)
			}
		}
	})
}

func TestMissingFlagsAndArguments(t *testing.T) {
	leaves(func(words []string, c *cli.Command) {
		required := false
		for _, f := range c.Flags {
			if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
				required = true
			}
		}
		if !required {
			return
		}
		var out, errs bytes.Buffer
		code := Main(append(slices.Clone(words), "model.onnx"), &out, &errs)
		if code != 2 || out.Len() > 0 || !twoLines.MatchString(errs.String()) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", words, code, out.String(), errs.String())
		}
	})
}

func TestEndOfFlags(t *testing.T) {
	p, _, errs, code := record(t, []string{"mqatc", "inspect", "--json", "--", "--odd.onnx"})
	if code != 0 || !slices.Equal(p.args, []string{"--odd.onnx"}) || p.values["json"] != "true" {
		t.Errorf("exit %d, %v, %s", code, p, errs)
	}
}

func TestEveryFlagSaysWhatItIs(t *testing.T) {
	leaves(func(words []string, c *cli.Command) {
		if c.Usage == "" {
			t.Errorf("%q has no usage", words)
		}
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() == "" {
				t.Errorf("%q: --%s says nothing", words, f.Names()[0])
			}
		}
	})
}
