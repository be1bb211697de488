package ort

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"
)

// places are the surroundings that Locate and Install look at.
type places struct {
	goos, goarch string
	getenv       func(string) string
	system       func() []string // candidate files in the system's folders
	python       func() []string // candidate files in wheels
	clients      func() []client
}

func machinePlaces() *places {
	return &places{
		goos: runtime.GOOS, goarch: runtime.GOARCH, getenv: os.Getenv,
		system:  func() []string { return systemFiles(runtime.GOOS, runtime.GOARCH, os.Getenv) },
		python:  func() []string { return wheelFiles(runtime.GOOS) },
		clients: machineClients,
	}
}

// libraryGlobs are the names under which the library is found in a folder.
func libraryGlobs(goos string) []string {
	switch goos {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.dylib", "libonnxruntime.*.dylib"}
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.*"}
}

func isFile(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular()
}

// expand lists the library files that path stands for: itself, or those in the folder path or in its lib.
func expand(path, goos string) []string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if isFile(path) {
		return []string{path}
	}
	var out []string
	for _, d := range []string{path, filepath.Join(path, "lib")} {
		out = append(out, filesIn(d, goos)...)
	}
	return out
}

// filesIn lists the library files in dir, the newest version in a file name first.
func filesIn(dir, goos string) []string {
	var out []string
	for _, g := range libraryGlobs(goos) {
		m, err := filepath.Glob(filepath.Join(escapeGlob(dir), g))
		if err != nil {
			continue
		}
		sort.Slice(m, func(i, j int) bool {
			if c := compareVersions(versionInName(m[i]), versionInName(m[j])); c != 0 {
				return c > 0
			}
			return m[i] < m[j]
		})
		for _, p := range m {
			if isFile(p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func escapeGlob(s string) string {
	if runtime.GOOS == "windows" {
		return s
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func systemFiles(goos, goarch string, getenv func(string) string) []string {
	var dirs []string
	switch goos {
	case "windows":
		for _, v := range []string{"ProgramFiles", "LOCALAPPDATA"} {
			if d := getenv(v); d != "" {
				dirs = append(dirs, filepath.Join(d, "onnxruntime"), filepath.Join(d, "onnxruntime", "lib"))
			}
		}
	case "darwin":
		dirs = append(filepath.SplitList(getenv("DYLD_LIBRARY_PATH")), "/opt/homebrew/lib", "/opt/homebrew/opt/onnxruntime/lib",
			"/usr/local/lib", "/usr/local/opt/onnxruntime/lib", "/opt/local/lib", "/usr/lib")
	default:
		dirs = append(dirs, filepath.SplitList(getenv("LD_LIBRARY_PATH"))...)
		dirs = append(dirs, "/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/lib", "/lib64")
		if t := multiarch(goarch); t != "" {
			dirs = append(dirs, "/usr/lib/"+t, "/usr/local/lib/"+t)
		}
		dirs = append(dirs, "/home/linuxbrew/.linuxbrew/lib", "/usr/local/onnxruntime/lib")
	}
	if goos != "windows" {
		dirs = append(dirs, "/opt/onnxruntime", "/opt/onnxruntime/lib")
		if m, err := filepath.Glob("/opt/onnxruntime-*/lib"); err == nil {
			dirs = append(dirs, m...)
		}
	}
	var out []string
	if goos == "linux" {
		out = ldconfigFiles()
	}
	for _, d := range dirs {
		if filepath.IsAbs(d) {
			out = append(out, filesIn(d, goos)...)
		}
	}
	return out
}

func multiarch(goarch string) string {
	return map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[goarch]
}

// quietly runs a command that only reads, for at most ten seconds, and returns its standard output.
func quietly(name string, args ...string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return out
}

func ldconfigFiles() []string {
	exe, err := exec.LookPath("ldconfig")
	if err != nil {
		exe = "/sbin/ldconfig"
	}
	return parseLdconfig(quietly(exe, "-p"))
}

// parseLdconfig reads lines of the form "libx.so.1 (libc6,x86-64) => /usr/lib/libx.so.1".
func parseLdconfig(out []byte) []string {
	var files []string
	sc := bufio.NewScanner(bytes.NewReader(out))
	for sc.Scan() {
		name, path, ok := strings.Cut(sc.Text(), " => ")
		if ok && strings.HasPrefix(strings.TrimSpace(name), "libonnxruntime.so") && isFile(path) {
			files = append(files, path)
		}
	}
	return files
}

// pythonSites prints the folders in which packages of this interpreter may lie.
const pythonSites = `import site, sys, sysconfig
s = [sysconfig.get_paths().get(k) for k in ("purelib", "platlib")] + list(getattr(site, "getsitepackages", list)())
s += [site.getusersitepackages()] + sys.path
print("\n".join(p for p in s if p))`

func wheelFiles(goos string) []string {
	exe, err := exec.LookPath("python3")
	if err != nil && goos == "windows" {
		exe, err = exec.LookPath("python")
	}
	if err != nil {
		return nil
	}
	// -I keeps the current folder and PYTHONPATH from putting code of their own in front.
	return wheelFilesIn(strings.Split(string(quietly(exe, "-I", "-c", pythonSites)), "\n"), goos)
}

func wheelFilesIn(sites []string, goos string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range sites {
		s = strings.TrimSpace(s)
		if s == "" || seen[s] || !filepath.IsAbs(s) {
			continue
		}
		seen[s] = true
		out = append(out, filesIn(filepath.Join(s, "onnxruntime", "capi"), goos)...)
	}
	return out
}
