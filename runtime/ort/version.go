package ort

import (
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	versionTag  = regexp.MustCompile(`^VERS_(\d+\.\d+\.\d+)`)
	versionName = regexp.MustCompile(`libonnxruntime\.(?:so\.)?(\d+(?:\.\d+){1,2})(?:\.dylib)?$`)
)

// compareVersions compares dotted decimal versions; missing parts count as 0 and an empty version as the lowest.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < max(len(as), len(bs)); i++ {
		x, y := 0, 0
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x - y
		}
	}
	return 0
}

func versionInName(path string) string {
	if m := versionName.FindStringSubmatch(filepath.Base(path)); m != nil {
		return m[1]
	}
	return ""
}

// inspectFile reads the version of the library at path without loading it, and refuses what cannot work here. Two releases
// in one process share C++ symbols, so a candidate must not be loaded only to be asked. The version is empty where the
// file does not tell; opening it is then the test.
func inspectFile(path, goos, goarch string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, plainPathError(err))
	}
	if fi, err := os.Stat(real); err != nil || !fi.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	var v string
	switch goos {
	case "windows":
		err = inspectPE(real, goarch)
	case "darwin":
		v, err = inspectMachO(real, goarch)
	default:
		v, err = inspectELF(real, goarch)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if v == "" {
		v = versionInName(real)
	}
	if v != "" && compareVersions(v, MinVersion) < 0 {
		return "", fmt.Errorf("%s: onnxruntime %s is too old, at least %s is needed", path, v, MinVersion)
	}
	return v, nil
}

func plainPathError(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func inspectELF(path, goarch string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", errors.New("not an ELF library")
	}
	defer f.Close()
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goarch]
	if f.Type != elf.ET_DYN || want != elf.EM_NONE && f.Machine != want {
		return "", fmt.Errorf("made for %v, not for %s", f.Machine, goarch)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return "", errors.New("no dynamic symbols")
	}
	for _, s := range syms {
		if s.Name == "OrtGetApiBase" && s.Section != elf.SHN_UNDEF {
			if m := versionTag.FindStringSubmatch(s.Version); m != nil {
				return m[1], nil
			}
			return "", nil
		}
	}
	return "", errors.New("not onnxruntime: no OrtGetApiBase")
}

func inspectMachO(path, goarch string) (string, error) {
	cpu := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[goarch]
	if fat, err := macho.OpenFat(path); err == nil {
		defer fat.Close()
		for _, a := range fat.Arches {
			if a.Cpu == cpu {
				return machOVersion(a.File), nil
			}
		}
		return "", fmt.Errorf("not made for %s", goarch)
	}
	f, err := macho.Open(path)
	if err != nil {
		return "", errors.New("not a Mach-O library")
	}
	defer f.Close()
	if f.Cpu != cpu {
		return "", fmt.Errorf("made for %v, not for %s", f.Cpu, goarch)
	}
	return machOVersion(f), nil
}

// machOVersion reads LC_ID_DYLIB (load command 0xd): current_version at byte 16, as 16.8.8 bits.
func machOVersion(f *macho.File) string {
	for _, l := range f.Loads {
		raw := l.Raw()
		if len(raw) >= 24 && f.ByteOrder.Uint32(raw) == 0xd {
			v := f.ByteOrder.Uint32(raw[16:])
			if v>>16 > 0 {
				return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
			}
		}
	}
	return ""
}

func inspectPE(path, goarch string) error {
	f, err := pe.Open(path)
	if err != nil {
		return errors.New("not a DLL")
	}
	defer f.Close()
	want := map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[goarch]
	if want != 0 && f.Machine != want {
		return fmt.Errorf("made for machine %#x, not for %s", f.Machine, goarch)
	}
	return nil
}
