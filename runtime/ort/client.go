package ort

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// client is a package manager of the machine that can bring the library.
type client struct {
	name  string
	files map[string][]pinnedFile
	// fetch downloads the package into dir, an empty folder, and returns the archive's path.
	fetch func(ctx context.Context, dir, platform string) (string, error)
}

// machineClients are the clients on PATH, in the order in which they are asked.
func machineClients() []client {
	var out []client
	if exe, err := exec.LookPath("npm"); err == nil {
		out = append(out, npmClient(exe))
	}
	for _, c := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}} {
		exe, err := exec.LookPath(c[0])
		if err != nil {
			continue
		}
		argv := append([]string{exe}, c[1:]...)
		if quietly(argv[0], append(argv[1:], "--version")...) != nil {
			out = append(out, pipClient(argv))
			break
		}
	}
	return out
}

func npmClient(exe string) client {
	return client{name: "npm", files: npmFiles, fetch: func(ctx context.Context, dir, _ string) (string, error) {
		err := runClient(ctx, dir, exe, "pack", "onnxruntime-node@"+Version, "--ignore-scripts", "--loglevel=error",
			"--no-update-notifier", "--no-fund", "--no-audit")
		if err != nil {
			return "", err
		}
		return onlyFile(dir, "*.tgz")
	}}
}

func pipClient(argv []string) client {
	return client{name: "pip", files: wheelPinned, fetch: func(ctx context.Context, dir, platform string) (string, error) {
		args := append(append([]string{}, argv[1:]...), "download", "--quiet", "--disable-pip-version-check", "--no-input",
			"--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", wheelPython, "--abi", "cp"+wheelPython,
			"--platform", wheelTags[platform], "--dest", dir, "onnxruntime=="+Version)
		if err := runClient(ctx, dir, argv[0], args...); err != nil {
			return "", err
		}
		return onlyFile(dir, "*.whl")
	}}
}

// runClient runs a client in dir; its error carries the last lines of what the client printed.
func runClient(ctx context.Context, dir, exe string, args ...string) error {
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
	if tail := lastLines(string(out), 3, 300); tail != "" {
		return fmt.Errorf("%w: %s", err, tail)
	}
	return err
}

// lastLines joins the last n lines of s that hold anything, at most limit bytes of them.
func lastLines(s string, n, limit int) string {
	var keep []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			keep = append(keep, l)
		}
	}
	if len(keep) > n {
		keep = keep[len(keep)-n:]
	}
	t := strings.Join(keep, " | ")
	if len(t) > limit {
		t = "..." + strings.ToValidUTF8(t[len(t)-limit:], "")
	}
	return t
}

func onlyFile(dir, pattern string) (string, error) {
	m, err := filepath.Glob(filepath.Join(escapeGlob(dir), pattern))
	if err != nil {
		return "", err
	}
	if len(m) != 1 {
		return "", fmt.Errorf("the client left %d files %s, not one", len(m), pattern)
	}
	return m[0], nil
}

var errNoClient = errors.New("neither npm nor pip was found on PATH")

func unsupported(goos, goarch string) error {
	return fmt.Errorf("onnxruntime %s is not packaged for %s/%s: name a library by --ort-lib or %s", Version, goos, goarch, EnvLibrary)
}

func hostPlatform(pl *places) string {
	if pl == nil {
		return platform(runtime.GOOS, runtime.GOARCH)
	}
	return platform(pl.goos, pl.goarch)
}
