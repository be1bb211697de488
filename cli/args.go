package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// sortArgs puts flags before positional arguments, so that they may stand on either side of the model. urfave/cli stops at
// the first positional argument and would take later flags for more of them. What the tables do not know stays where the
// parser finds it and reports it.
func sortArgs(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return []string{app.Name}, nil
	}
	out := []string{args[0]}
	rest := args[1:]
	flags, subs := app.Flags, app.Commands
	for len(subs) > 0 {
		i := firstPositional(rest, flags)
		if i < 0 {
			return append(out, rest...), nil
		}
		var next *cli.Command
		for _, c := range subs {
			if c.HasName(rest[i]) {
				next = c
			}
		}
		if next == nil {
			break
		}
		out = append(append(out, rest[:i]...), rest[i])
		rest, flags, subs = rest[i+1:], next.Flags, next.Subcommands
	}
	var front, back []string
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			back = append(back, rest[i+1:]...)
			i = len(rest)
		case !isFlag(a):
			back = append(back, a)
		default:
			front = append(front, a)
			if !strings.Contains(a, "=") && takesValue(flags, a) && i+1 < len(rest) {
				i++
				front = append(front, rest[i])
			}
		}
	}
	out = append(out, front...)
	if len(back) > 0 {
		out = append(append(out, "--"), back...)
	}
	return out, nil
}

func isFlag(a string) bool { return len(a) > 1 && a[0] == '-' }

func firstPositional(args []string, flags []cli.Flag) int {
	for i := 0; i < len(args); i++ {
		if !isFlag(args[i]) {
			return i
		}
		if !strings.Contains(args[i], "=") && takesValue(flags, args[i]) {
			i++
		}
	}
	return -1
}

func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}
