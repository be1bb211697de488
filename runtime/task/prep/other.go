package prep

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Other is what an input beside the image is fed, the same for all images.
type Other struct {
	// Values are one number for all elements, or one for each.
	Values []float64 `yaml:"values,omitempty,flow"`
	// Coordinates, for an input [N,2,H,W], are the places of its pixels' centres in the image: x, then y, both 0..1.
	Coordinates bool `yaml:"coordinates,omitempty"`
}

// mostValues bounds the elements of an input beside the image.
const mostValues = 1 << 24

// tensor makes v's content for one image.
func (o Other) tensor(v *ir.Value) (*ir.Tensor, error) {
	if v.DType() != ir.Float32 {
		return nil, fmt.Errorf("type %v: only float inputs can be fed", v.DType())
	}
	dims, total := make([]int64, len(v.Shape())), int64(1)
	for i, d := range v.Shape() {
		switch {
		case i == 0 && !d.Known():
			dims[i] = 1
		case !d.Known() || d.Size < 1 || d.Size > mostValues:
			return nil, fmt.Errorf("dimension %d has no usable size: give one with --input-shape", i)
		default:
			dims[i] = d.Size
		}
		if total *= dims[i]; total > mostValues {
			return nil, fmt.Errorf("more than %d elements", mostValues)
		}
	}
	out := make([]float32, total)
	switch {
	case o.Coordinates:
		if len(dims) != 4 || dims[0] != 1 || dims[1] != 2 {
			return nil, fmt.Errorf("coordinates take an input [N,2,H,W]")
		}
		h, w := int(dims[2]), int(dims[3])
		for y := range h {
			for x := range w {
				out[y*w+x] = (float32(x) + 0.5) / float32(w)
				out[h*w+y*w+x] = (float32(y) + 0.5) / float32(h)
			}
		}
	case len(o.Values) == 1:
		for i := range out {
			out[i] = float32(o.Values[0])
		}
	case len(o.Values) == len(out):
		for i, x := range o.Values {
			out[i] = float32(x)
		}
	default:
		return nil, fmt.Errorf("%d values for %d elements", len(o.Values), len(out))
	}
	return ir.FromFloat32s(out, dims...)
}
