package problem

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"mqatc/onnx/hint"
	"mqatc/onnx/ir"
	"mqatc/runtime/data/npy"
	"mqatc/runtime/task/loss"
	"mqatc/runtime/train"
)

// TargetsDir is the folder beside the images that holds a folder of arrays for each target.
const TargetsDir = "targets"

const targetsHint = "the target T of image NAME.jpg is the array DATA/" + TargetsDir + "/T/NAME.npy; docs/formats.md tells more"

// array is a target that is read from files.
type array struct {
	name   string
	folder string // below the data folder's targets
	dtype  ir.DType
	dims   []int64 // of one image, without the batch
	bounds *loss.Bounds
}

// arrays are the targets of one data folder.
type arrays struct {
	dir  string // DATA/targets
	list []array
}

// targetFolder is the folder of a target: its name with what separates folders made _.
func targetFolder(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
}

func (a *arrays) path(t array, image string) string {
	name := filepath.FromSlash(image)
	return filepath.Join(a.dir, t.folder, strings.TrimSuffix(name, filepath.Ext(name))+".npy")
}

// in is the same targets in another data folder.
func (a *arrays) in(data string) *arrays {
	return &arrays{filepath.Join(data, TargetsDir), a.list}
}

// check sees that all images have their targets.
func (a *arrays) check(images []string) error {
	for _, t := range a.list {
		missing, first := 0, ""
		for _, image := range images {
			info, err := os.Stat(a.path(t, image))
			switch {
			case err == nil && info.Mode().IsRegular():
				continue
			case err == nil || errors.Is(err, fs.ErrNotExist):
			default:
				return hint.Errorf(targetsHint, "target %q: %w", t.name, err)
			}
			if missing++; missing == 1 {
				first = image
			}
		}
		if missing > 0 {
			more := ""
			if missing > 1 {
				more = fmt.Sprintf("; %d of %d images lack it", missing, len(images))
			}
			return hint.Errorf(targetsHint, "target %q: image %s has no file %s%s", t.name, first, a.path(t, first), more)
		}
	}
	return nil
}

// read are the targets of an image, each with a leading dimension of 1.
func (a *arrays) read(image string) (train.Feeds, error) {
	out := train.Feeds{}
	for _, t := range a.list {
		path := a.path(t, image)
		x, err := npy.ReadFile(path)
		if err == nil {
			out[t.name], err = t.tensor(x)
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
		if err != nil {
			return nil, hint.Errorf(targetsHint, "target %q of image %s: %w", t.name, image, err)
		}
	}
	return out, nil
}

// inner is the shape of one image's array without a leading 1; rank is that of the loss's input.
func inner(shape []int, rank int) ([]int64, error) {
	if len(shape) == rank && shape[0] == 1 {
		shape = shape[1:]
	} else if len(shape) != rank-1 {
		return nil, fmt.Errorf("an array of shape %v; one image's target has %d dimensions, or a leading 1 and these", shape, rank-1)
	}
	out := make([]int64, len(shape))
	for i, d := range shape {
		out[i] = int64(d)
	}
	return out, nil
}

// tensor is an array in the form of the loss's input.
func (t array) tensor(x *npy.Array) (*ir.Tensor, error) {
	dims, err := inner(x.Shape, len(t.dims)+1)
	if err != nil {
		return nil, err
	}
	for i, d := range dims {
		if d != t.dims[i] {
			return nil, fmt.Errorf("an array of shape %v; the loss takes %v for an image", dims, t.dims)
		}
	}
	lo, hi, whole := limits(t.dtype)
	if t.bounds != nil {
		lo, hi = max(lo, t.bounds.Min), min(hi, t.bounds.Max)
	}
	for _, v := range x.Data {
		if !(v >= lo && v <= hi) || whole && v != math.Trunc(v) {
			kind := ""
			if whole {
				kind = " whole"
			}
			return nil, fmt.Errorf("the value %v; the loss takes%s numbers from %g to %g", v, kind, lo, hi)
		}
	}
	dims = append([]int64{1}, dims...)
	switch t.dtype {
	case ir.Float32:
		v := make([]float32, len(x.Data))
		for i, f := range x.Data {
			v[i] = float32(f)
		}
		return ir.FromFloat32s(v, dims...)
	case ir.Float64:
		return ir.FromFloat64s(x.Data, dims...)
	case ir.Bool:
		v := make([]bool, len(x.Data))
		for i, f := range x.Data {
			v[i] = f != 0
		}
		return ir.FromBools(v, dims...)
	}
	v := make([]int64, len(x.Data))
	for i, f := range x.Data {
		v[i] = int64(f)
	}
	return ir.PackInts(t.dtype, v, dims...)
}

// limits are the values of a type that an array of float64 holds exactly.
func limits(d ir.DType) (lo, hi float64, whole bool) {
	switch d {
	case ir.Float32:
		return -math.MaxFloat32, math.MaxFloat32, false
	case ir.Float64:
		return -math.MaxFloat64, math.MaxFloat64, false
	case ir.Bool:
		return 0, 1, true
	case ir.Int8:
		return math.MinInt8, math.MaxInt8, true
	case ir.Uint8:
		return 0, math.MaxUint8, true
	case ir.Int32:
		return math.MinInt32, math.MaxInt32, true
	}
	return -(1 << 53), 1 << 53, true
}
