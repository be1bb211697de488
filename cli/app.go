// Package cli is the command line of mqatc: one file per subcommand.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"mqatc/onnx/mapped"
)

// commands is the table of subcommands in the order of the help text.
func commands() []*cli.Command {
	return []*cli.Command{
		inspectCommand(), partitionCommand(), sensitivityCommand(), planCommand(), quantizeCommand(), trainCommand(), evalCommand(),
		diffCommand(), packCommand(), unpackCommand(), stepCommand(), zooCommand(), pnpCommand(), dataCommand(), runtimeCommand(),
		passesCommand(), demoCommand(),
	}
}

// Main runs mqatc with the process's arguments and returns the exit code: 0 done, 1 failed, 2 usage, 3 no plan fits,
// 130 interrupted.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := newApp(stdout, stderr)
	sorted, err := sortArgs(app, args)
	if err == nil {
		sorted, err = withConfig(app, sorted)
	}
	if err == nil {
		err = mapped.Guard(func() error { return app.RunContext(ctx, sorted) })
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = withHint(&exitError{code: 130, err: errors.New("interrupted")}, "the same command with --resume goes on from the last checkpoint")
	}
	return complain(stderr, err)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	usage := func(_ *cli.Context, err error, _ bool) error { return usageError(err) }
	app := &cli.App{
		Name:            "mqatc",
		Usage:           "compress ONNX pose and detection networks by modular quantization-aware training",
		Writer:          stdout,
		ErrWriter:       stderr,
		HideVersion:     true,
		OnUsageError:    usage,
		ExitErrHandler:  func(*cli.Context, error) {},
		CommandNotFound: nil,
		Commands:        commands(),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("%q is no command of mqatc; mqatc --help lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	var each func(cs []*cli.Command)
	each = func(cs []*cli.Command) {
		for _, c := range cs {
			c.OnUsageError = usage
			c.HideHelpCommand = true
			requireFlags(c)
			if len(c.Subcommands) > 0 {
				c.Action = groupAction
			}
			each(c.Subcommands)
		}
	}
	each(app.Commands)
	app.HideHelpCommand = true
	return app
}

// groupAction is that of a command that only holds others.
func groupAction(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	var names []string
	for _, s := range c.Command.Subcommands {
		names = append(names, s.Name)
	}
	return usagef("%q is no command of %s, which has %s", c.Args().First(), c.Command.FullName(), strings.Join(names, ", "))
}

// requireFlags makes a missing flag a usage error; urfave/cli would print the help on standard output instead.
func requireFlags(c *cli.Command) {
	var names []string
	for _, f := range c.Flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Required {
				f.Required = false
				names = append(names, f.Name)
			}
		}
	}
	act := c.Action
	if len(names) == 0 || act == nil {
		return
	}
	c.Action = func(c *cli.Context) error {
		for _, n := range names {
			if c.String(n) == "" {
				return usagef("%s needs %s", c.Command.FullName(), dashed(n))
			}
		}
		return act(c)
	}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// Shared flags.
var (
	jsonFlag    = &cli.BoolFlag{Name: "json", Usage: "print one JSON document on standard output"}
	ortLibFlag  = &cli.StringFlag{Name: "ort-lib", Usage: "onnxruntime library to use", TakesFile: true}
	threadsFlag = &cli.IntFlag{Name: "threads", Usage: "threads that onnxruntime works with, in all; 0 leaves it to onnxruntime"}
	seedFlag    = &cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of everything random"}
	shapeFlag   = &cli.StringSliceFlag{Name: "input-shape", Usage: "size of a dynamic input, as x=1x3x640x640"}
)

// oneArg returns the command's single positional argument.
func oneArg(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s takes one %s, got %d arguments", c.Command.FullName(), what, c.NArg())
	}
	return c.Args().First(), nil
}

func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no argument, got %q", c.Command.FullName(), c.Args().First())
	}
	return nil
}
