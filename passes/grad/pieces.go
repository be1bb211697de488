package grad

import "mqatc/onnx/ir"

// Bounds of what frugal gradients hold beside their inputs and outputs, in bytes: columns and parts of weight gradients, indices of a scatter.
const (
	frugalColumns = 4 << 20
	frugalPart    = 2 << 20
	frugalIndices = 1 << 20
)

// FrugalWeights are the bytes of a convolution's weights that a frugal lowering brings into another layout at a time.
const FrugalWeights = 3 << 20

// exactRows is what numbers of rows of matrices are multiples of that are multiplied one after the other, each product added to the last one:
// onnxruntime's kernels add products of 128 to 1024 rows to what is there, so that the sum keeps its bits.
const exactRows = 1024

// Together is how many of n images a frugal weight gradient gathers at a time: as few as leave the sum's bits alone and as many as
// fit the bound on columns; n where none do. An image has so many positions, and columns of so many bytes.
func Together(n, positions, bytes int64) int64 {
	best := n
	if n*bytes <= frugalColumns {
		return n
	}
	for m := n - 1; m > 0; m-- {
		if n%m == 0 && m*positions%exactRows == 0 {
			if best = m; m*bytes <= frugalColumns {
				break
			}
		}
	}
	return best
}

// Parts is in how many parts of equal numbers of output channels a frugal weight gradient [k, columns] is brought into the weights'
// layout: 1 where it is small, or where its bits would depend on it.
func Parts(k, columns int64) int64 {
	p := int64(1)
	for 4*k*columns > frugalPart*p && k%(2*p) == 0 && columns > k {
		p *= 2
	}
	return p
}

// weightGradFrugal is weightGradGather for one group, in pieces: of images, or of output channels, whichever takes more memory.
// d is [K, N*positions], rows [N, elements, C].
func (c *call) weightGradFrugal(d, rows, idx *ir.Value, wd []int64, w window) *ir.Value {
	n, ch, k := c.dims(rows)[0], wd[1], wd[0]
	positions, taps := product(w.out), product(w.kernel)
	cols := func(rows *ir.Value, n int64) *ir.Value {
		return c.reshape(c.Op("Gather", []*ir.Value{rows, idx}, ir.AInt("axis", 1)), n*positions, taps*ch)
	}
	if m := Together(n, positions, 4*positions*taps*ch); m < n {
		var g *ir.Value
		for i := int64(0); i < n; i += m {
			a := c.slice(d, []int64{i * positions}, []int64{(i + m) * positions}, []int64{1}, []int64{1})
			b := cols(c.slice(rows, []int64{i}, []int64{i + m}, []int64{0}, []int64{1}), m)
			if g == nil {
				g = c.op("MatMul", a, b)
			} else {
				g = c.op("Gemm", a, b, g)
			}
		}
		return c.tapsLast(c.reshape(g, k, taps, ch), wd)
	}
	all := cols(rows, n)
	p := Parts(k, taps*ch)
	var parts []*ir.Value
	for i := int64(0); i < k; i += k / p {
		a := d
		if p > 1 {
			a = c.slice(d, []int64{i}, []int64{i + k/p}, []int64{0}, []int64{1})
		}
		part := c.transpose(c.reshape(c.op("MatMul", a, all), k/p, taps, ch), 0, 2, 1)
		parts = append(parts, c.reshape(part, -1)) // flat, onnxruntime does not transpose behind the Concat
	}
	g := parts[0]
	if p > 1 {
		g = c.Op("Concat", parts, ir.AInt("axis", 0))
	}
	return c.reshape(g, wd...)
}
