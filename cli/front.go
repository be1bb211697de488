package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"mqatc/compiler/frontend"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/passes/pass"
	"mqatc/runtime/ort"
)

// Flags of commands that bring a model in through compiler/frontend.
var (
	modulesFlag = &cli.StringFlag{Name: "modules", Value: "auto", Usage: "auto; auto:K for exactly K modules; or a FILE of modules, as partition -o writes it"}
	headsFlag   = &cli.StringFlag{Name: "heads", Value: "joined", Usage: "joined: outputs on the same features are one module; split: one module each"}
	dumpFlag    = &cli.StringFlag{Name: "dump-passes", Usage: "folder for the model after each pass that changed it"}
	stopFlag    = &cli.StringFlag{Name: "stop-after", Usage: "end after this pass; mqatc passes lists them"}
)

// lazyEvaluator opens onnxruntime when a pass first needs it.
type lazyEvaluator struct{ c *cli.Context }

func (l lazyEvaluator) Run(model []byte, feeds map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	if err := openRuntime(l.c); err != nil {
		return nil, err
	}
	return ort.Evaluator{}.Run(model, feeds)
}

// frontOptions reads the flags above and --input-shape. Later names passes that the command runs after the frontend's.
func frontOptions(c *cli.Context, later ...string) (frontend.Options, error) {
	o := frontend.Options{Env: pass.Env{Eval: lazyEvaluator{c}}, Dump: c.String("dump-passes"), StopAfter: c.String("stop-after"), Later: later,
		Seed: c.Uint64("seed")}
	var err error
	if o.InputShapes, err = inputShapes(c); err != nil {
		return o, err
	}
	if o.Dump != "" {
		o.Repro = filepath.Join(o.Dump, "repro")
	}
	switch c.String("heads") {
	case "", "joined":
	case "split":
		o.Split = true
	default:
		return o, usagef("--heads %q: joined or split", c.String("heads"))
	}
	switch f := c.String("modules"); {
	case f == "" || f == "auto":
	case strings.HasPrefix(f, "auto:"):
		if o.Count, err = strconv.Atoi(strings.TrimPrefix(f, "auto:")); err != nil || o.Count < 1 {
			return o, usagef("--modules %q: write auto:K with a number of modules from 1 on, as auto:3", f)
		}
	default:
		if o.Modules, err = readModules(f); err != nil {
			return o, err
		}
	}
	return o, nil
}

// maxModulesFile is far more than any network needs.
const maxModulesFile = 16 << 20

func readModules(path string) (*partition.File, error) {
	hint := "mqatc partition MODEL -o FILE writes a modules file to start from"
	f, err := os.Open(path)
	if err != nil {
		return nil, withHint(fmt.Errorf("modules file: %w", err), "%s", hint)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxModulesFile+1))
	if err == nil && len(raw) > maxModulesFile {
		err = fmt.Errorf("more than %d bytes", maxModulesFile)
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("modules file: %w", err), "%s", hint)
	}
	m, err := partition.ParseFile(raw)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), "%s", hint)
	}
	return m, nil
}

// loadFront brings the model at path in and tells on stderr what the passes noted. The caller closes it.
func loadFront(c *cli.Context, path string, o frontend.Options) (*frontend.Front, error) {
	f, err := frontend.Load(c.Context, path, o)
	if err != nil {
		return nil, frontError(o, err)
	}
	for _, n := range f.Notes() {
		fmt.Fprintf(c.App.ErrWriter, "note: %s\n", n)
	}
	if f.Stopped {
		tellStopped(c)
	}
	return f, nil
}

func tellStopped(c *cli.Context) {
	fmt.Fprintf(c.App.ErrWriter, "stopped after pass %s\n", c.String("stop-after"))
}

// frontError tells errors of usage from others.
func frontError(o frontend.Options, err error) error {
	var unknown *frontend.UnknownPassError
	switch {
	case errors.As(err, &unknown):
		return usageError(err)
	case err != nil && o.Modules != nil && strings.Contains(err.Error(), "modules file:"):
		return withHint(err, "mqatc partition MODEL -o FILE writes a modules file that fits")
	}
	return err
}

// parseBits reads 2,4,8.
func parseBits(list []string) ([]int, error) {
	var out []int
	for _, s := range list {
		b, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || b < 1 || b > 8 {
			return nil, usagef("--bits %q: widths are 1 to 8, as 2,4,8", s)
		}
		out = append(out, b)
	}
	return out, nil
}

// writeFile writes a whole file under a temporary name and renames it.
func writeFile(path string, raw []byte) error {
	if err := renameio.WriteFile(path, raw, 0o644); err != nil {
		return withHint(fmt.Errorf("%s: %w", path, hint.Cause(err)), "name a file in a folder that exists and can be written")
	}
	return nil
}
