package ort

// #include "capi.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unsafe"

	binding "github.com/yalue/onnxruntime_go"
)

// OptLevel is onnxruntime's graph optimization level.
type OptLevel int

// Optimization levels. All, onnxruntime's default, is the zero value.
const (
	All OptLevel = iota
	Extended
	Basic
	DisableAll
)

// OptLevels lists every level, the least first.
func OptLevels() []OptLevel { return []OptLevel{DisableAll, Basic, Extended, All} }

func (l OptLevel) String() string {
	switch l {
	case All:
		return "all"
	case Extended:
		return "extended"
	case Basic:
		return "basic"
	case DisableAll:
		return "disable_all"
	}
	return fmt.Sprintf("level(%d)", int(l))
}

func (l OptLevel) native() (binding.GraphOptimizationLevel, error) {
	switch l {
	case All:
		return binding.GraphOptimizationLevelEnableAll, nil
	case Extended:
		return binding.GraphOptimizationLevelEnableExtended, nil
	case Basic:
		return binding.GraphOptimizationLevelEnableBasic, nil
	case DisableAll:
		return binding.GraphOptimizationLevelDisableAll, nil
	}
	return 0, fmt.Errorf("no optimization %v", l)
}

// Where optimizing a graph costs more than it saves: see LevelFor.
const (
	manyNodes   = 4000
	macsPerNode = 5e6
)

// LevelFor is the level at which a training graph of so many nodes is loaded that is to run for so many multiply-accumulates in all,
// those of the forward direction; 0 where they are not known. onnxruntime takes milliseconds a node to optimize graphs of many thousand
// nodes, which a short training of a small network does not earn back: DisableAll then, else All.
func LevelFor(nodes int, macs float64) OptLevel {
	if macs > 0 && nodes > manyNodes && macs < macsPerNode*float64(nodes) {
		return DisableAll
	}
	return All
}

// SessionOptions set up a session; the zero value is onnxruntime's default on the CPU.
type SessionOptions struct {
	OptLevel     OptLevel
	Threads      int // threads inside an operator; 0 leaves it to onnxruntime (one per physical core)
	InterThreads int // above 1, independent operators run side by side on so many threads
	// DisableQDQ keeps QuantizeLinear and DequantizeLinear as they stand instead of fusing them into integer operators.
	DisableQDQ bool
	// Deterministic asks for kernels whose result does not depend on the schedule.
	Deterministic bool
	// NoSpin makes idle threads sleep: slower alone, kinder to other work on the same cores.
	NoSpin bool
	// NoArena frees memory at once instead of keeping it for the next run.
	NoArena bool
	// NoMemoryPattern leaves out the second buffer that onnxruntime sets aside from the second run on for all values together: without
	// it a run takes what its values take, with it up to twice as much.
	NoMemoryPattern bool
	// OptimizedModelPath, if set, receives the model as optimized by onnxruntime.
	OptimizedModelPath string
	// Profile, if set, is the prefix of the profile's path, which EndProfile returns.
	Profile string
	// Device is "cpu" (or empty), "cuda", "tensorrt", "directml" (each with ":N" for device N) or "coreml".
	Device string
	// Config are session configuration entries by key.
	Config map[string]string
	// ExternalDir is the folder in which external data of a model given as bytes is looked up.
	ExternalDir string
	// ExternalFiles are the contents of external data files by the name (location) the model gives; they are copied.
	ExternalFiles map[string][]byte
}

// build makes the binding's options; release must run once the session has been created.
func (o SessionOptions) build() (b *binding.SessionOptions, release func(), err error) {
	b, err = binding.NewSessionOptions()
	if err != nil {
		return nil, nil, errors.New(oneLine(err.Error()))
	}
	var pins runtime.Pinner
	release = func() {
		pins.Unpin()
		b.Destroy()
	}
	level, err := o.OptLevel.native()
	var native unsafe.Pointer
	if err == nil {
		native, err = handle(b, "o")
	}
	steps := []func() error{
		func() error { return b.SetGraphOptimizationLevel(level) },
		func() error { return b.SetIntraOpNumThreads(o.Threads) },
		func() error { return o.parallel(b) },
		func() error { return o.entries(b) },
		func() error { return o.outputs(b) },
		func() error { return o.device(b) },
		func() error { return o.deterministic(native) },
		func() error { return o.external(native, &pins) },
	}
	for _, step := range steps {
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("session options: %s", oneLine(err.Error()))
		}
		err = step()
	}
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("session options: %s", oneLine(err.Error()))
	}
	return b, release, nil
}

func (o SessionOptions) parallel(b *binding.SessionOptions) error {
	if o.InterThreads <= 1 {
		return nil
	}
	if err := b.SetExecutionMode(binding.ExecutionModeParallel); err != nil {
		return err
	}
	return b.SetInterOpNumThreads(o.InterThreads)
}

func (o SessionOptions) entries(b *binding.SessionOptions) error {
	all := map[string]string{}
	for k, v := range o.Config {
		all[k] = v
	}
	if o.DisableQDQ {
		all["session.disable_quant_qdq"] = "1"
	}
	if o.NoSpin {
		all["session.intra_op.allow_spinning"] = "0"
		all["session.inter_op.allow_spinning"] = "0"
	}
	if o.ExternalDir != "" {
		all["session.model_external_initializers_file_folder_path"] = o.ExternalDir
	}
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if err := b.AddSessionConfigEntry(k, all[k]); err != nil {
			return fmt.Errorf("%s=%s: %w", k, all[k], err)
		}
	}
	if o.NoMemoryPattern {
		if err := b.SetMemPattern(false); err != nil {
			return err
		}
	}
	if o.NoArena {
		return b.SetCpuMemArena(false)
	}
	return nil
}

func (o SessionOptions) outputs(b *binding.SessionOptions) error {
	if o.OptimizedModelPath != "" {
		if err := b.SetOptimizedModelFilePath(o.OptimizedModelPath); err != nil {
			return err
		}
	}
	if o.Profile != "" {
		return b.EnableProfiling(o.Profile)
	}
	return nil
}

func (o SessionOptions) deterministic(native unsafe.Pointer) error {
	if !o.Deterministic {
		return nil
	}
	return check(C.ort_set_deterministic(native))
}

// deviceProviders are the devices and the execution provider behind each.
var deviceProviders = []struct{ device, provider string }{
	{"cpu", "CPUExecutionProvider"},
	{"cuda", "CUDAExecutionProvider"},
	{"tensorrt", "TensorrtExecutionProvider"},
	{"directml", "DmlExecutionProvider"},
	{"coreml", "CoreMLExecutionProvider"},
}

// usableDevices lists the devices among the providers compiled in for which session options can be made.
func usableDevices(providers []string) []string {
	var out []string
	for _, d := range deviceProviders {
		if !slices.Contains(providers, d.provider) {
			continue
		}
		if _, release, err := (SessionOptions{Device: d.device}).build(); err == nil {
			release()
			out = append(out, d.device)
		}
	}
	return out
}

// CheckDevice reports whether sessions can run on a device, as SessionOptions.Device has it, with the library that is loaded.
func CheckDevice(device string) error {
	_, release, err := (SessionOptions{Device: device}).build()
	if err != nil {
		return err
	}
	release()
	return nil
}

func (o SessionOptions) device(b *binding.SessionOptions) error {
	name, id, _ := strings.Cut(strings.ToLower(o.Device), ":")
	n := 0
	if id != "" {
		var err error
		if n, err = strconv.Atoi(id); err != nil || n < 0 {
			return fmt.Errorf("device %q: %q is no device number", o.Device, id)
		}
	}
	var err error
	switch name {
	case "", "cpu":
		return nil
	case "cuda":
		var c *binding.CUDAProviderOptions
		if c, err = binding.NewCUDAProviderOptions(); err == nil {
			if err = c.Update(map[string]string{"device_id": strconv.Itoa(n)}); err == nil {
				err = b.AppendExecutionProviderCUDA(c)
			}
			c.Destroy()
		}
	case "tensorrt":
		var c *binding.TensorRTProviderOptions
		if c, err = binding.NewTensorRTProviderOptions(); err == nil {
			if err = c.Update(map[string]string{"device_id": strconv.Itoa(n)}); err == nil {
				err = b.AppendExecutionProviderTensorRT(c)
			}
			c.Destroy()
		}
	case "directml":
		err = b.AppendExecutionProviderDirectML(n)
	case "coreml":
		err = b.AppendExecutionProviderCoreMLV2(nil)
	default:
		return fmt.Errorf("unknown device %q: cpu, cuda, tensorrt, directml or coreml", o.Device)
	}
	if err != nil {
		return fmt.Errorf("device %s: %s", o.Device, oneLine(err.Error()))
	}
	return nil
}

// external hands the contents of external files over. onnxruntime keeps the pointers until the session has been created.
func (o SessionOptions) external(native unsafe.Pointer, pins *runtime.Pinner) error {
	if len(o.ExternalFiles) == 0 {
		return nil
	}
	keys := make([]string, 0, len(o.ExternalFiles))
	for k := range o.ExternalFiles {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	names := make([]unsafe.Pointer, len(keys))
	data := make([]*C.char, len(keys))
	sizes := make([]C.size_t, len(keys))
	for i, k := range keys {
		content := o.ExternalFiles[k]
		if len(content) == 0 {
			return fmt.Errorf("external file %s is empty", k)
		}
		name := pathBytes(k)
		pins.Pin(&name[0])
		pins.Pin(&content[0])
		names[i], data[i], sizes[i] = unsafe.Pointer(&name[0]), (*C.char)(unsafe.Pointer(&content[0])), C.size_t(len(content))
	}
	return check(C.ort_add_external_files(native, &names[0], &data[0], &sizes[0], C.size_t(len(keys))))
}
