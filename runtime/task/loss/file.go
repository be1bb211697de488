package loss

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mqatc/onnx/format"
	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
)

const (
	lowestOpset = 17
	formHint    = "a loss file is an ONNX graph of model outputs by name, OUTPUT.teacher and targets, and returns the float scalar loss; docs/formats.md tells more"
)

// IsFile reports a name of --loss that means a file.
func IsFile(name string) bool { return strings.EqualFold(filepath.Ext(name), ".onnx") }

// inputTypes are the element types that inputs of a loss file may have.
var inputTypes = []ir.DType{ir.Float32, ir.Float64, ir.Int32, ir.Int64, ir.Int8, ir.Uint8, ir.Bool}

// Read reads a loss from an ONNX file and brings it to opset 17 at least. Its output `loss` must be a float of shape [] or [1]; its
// inputs must be tensors with a rank of 1 at least. What the inputs are is not looked at. All errors have a hint.
func Read(path string) (*Loss, error) {
	m, err := format.Load(path)
	if err != nil {
		return nil, hint.Errorf(formHint, "loss: %w", err)
	}
	l := &Loss{Name: filepath.Base(path), Model: m}
	if err := l.prepare(); err != nil {
		return nil, hint.Errorf(formHint, "loss %s: %w", path, err)
	}
	return l, nil
}

func (l *Loss) prepare() error {
	m := l.Model
	if len(m.Functions) > 0 {
		return fmt.Errorf("it has functions of its own; inline them first")
	}
	if m.Opset("") == 0 {
		return fmt.Errorf("it names no version of the standard operators")
	}
	if m.Opset("") < lowestOpset {
		if err := format.Upgrade(m, lowestOpset); err != nil {
			return err
		}
	}
	if err := op.InferModel(m, nil); err != nil {
		return err
	}
	for _, v := range m.Graph.Inputs() {
		switch {
		case v.IsInitializer():
		case v.Type.Kind != ir.KindTensor || !slices.Contains(inputTypes, v.DType()):
			return fmt.Errorf("input %q is %v; float, double, int32, int64, int8, uint8 and bool tensors are fed", v.Name(), v.Type)
		case !v.Shape().HasRank() || len(v.Shape()) == 0:
			return fmt.Errorf("input %q is %v; it needs dimensions, the first of them the batch", v.Name(), v.Type)
		}
	}
	return l.CheckOutput()
}

// CheckOutput sees that the graph returns the float scalar `loss`, as far as its shapes are known.
func (l *Loss) CheckOutput() error {
	var names []string
	for _, v := range l.Model.Graph.Outputs() {
		names = append(names, fmt.Sprintf("%q", v.Name()))
		if v.Name() != Output {
			continue
		}
		one := len(v.Shape()) <= 1
		for _, d := range v.Shape() {
			one = one && (!d.Known() || d.Size == 1)
		}
		if v.DType() != ir.Float32 || !one {
			return fmt.Errorf("its output %q is %v; it must be float[] or float[1]", Output, v.Type)
		}
		return nil
	}
	return fmt.Errorf("it has no output %q, but %s", Output, strings.Join(names, ", "))
}
