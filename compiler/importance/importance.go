// Package importance measures how much a network's loss curves in the directions of its weights: the sensitivity lambda and the
// importance Omega of the paper's equation 1.
package importance

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat"

	"mqatc/compiler/fit"
	"mqatc/onnx/ir"
)

// Options of Trace.
type Options struct {
	MaxProbes int     // upper bound on Rademacher probes; 64 when 0
	MinProbes int     // at least so many; 8 when 0
	Tolerance float64 // stop when the standard error of the summed trace is below so much of |mean|; 0.05 when 0
	Seed      uint64
	Threads   int // of all probes together; one for each processor when 0
	// MACs is what a batch costs forward, in multiply-accumulates, where known.
	MACs int64
	// Progress is told after each probe: probes done, at most, and the relative standard error of the sum. Calls come one after the other,
	// from other goroutines than the caller's.
	Progress func(done, most int, rel float64)

	// Profile, if set, is the prefix of the path of onnxruntime's profile of the probes: of all, or of those of the first lane where lanes have several threads.
	Profile string
}

// Layer is the estimate for one weight tensor.
type Layer struct {
	Name     string
	Elements int64
	Trace    float64 // mean over probes of v . (Hv), restricted to the layer
	StdErr   float64 // standard error of that mean
	// Samples are what it is the mean of, by probe; they are not stored with it.
	Samples []float64 `json:"-"`
}

// Result of Trace.
type Result struct {
	Layers []Layer
	Probes int
	// Negative counts layers whose estimated trace is below zero; their lambda counts as zero.
	Negative int
}

// Lambda is the sensitivity of layer i: max(trace, 0).
func (r *Result) Lambda(i int) float64 { return math.Max(r.Layers[i].Trace, 0) }

// Trace estimates the trace of the Hessian block of each layer of m by Hutchinson's method, exact in each block.
//
// loss names a one-element output of m; layers name float initializers of m; every batch feeds all inputs of m. The gradient
// graph is made of differentiable operators, so it is differentiated again: one product H v serves all layers, since the mean
// over Rademacher probes of v_i . (Hv)_i is the trace of block i. Blocks between two layers add nothing to the mean and are left
// out of H where that saves work. Probe p uses batch p modulo the number of batches; of what the batches alone decide, up to 1 GiB
// is kept between probes. Convolutions take the forms that this machine runs fastest: on another one the last digits differ.
//
// Probes run side by side in up to four lanes, fewer where they are foreseen to take more than 1 GiB together. They are taken in by
// number and those after the stop are dropped, so values and their count depend on the seed alone. The bits too are those of one probe
// after the other where onnxruntime's kernels give the same bits with any number of threads, as they did wherever it was compared.
func Trace(m *ir.Model, loss string, layers []string, batches []map[string]*ir.Tensor, o Options) (*Result, error) {
	if len(batches) == 0 {
		return nil, fmt.Errorf("hessian: no batch to measure on")
	}
	maxProbes, minProbes, tol := o.MaxProbes, o.MinProbes, o.Tolerance
	if maxProbes <= 0 {
		maxProbes = 64
	}
	if minProbes <= 0 {
		minProbes = 8
	}
	minProbes = min(max(minProbes, len(batches)), maxProbes)
	if tol <= 0 {
		tol = 0.05
	}
	o.MaxProbes = maxProbes
	mach, err := fit.Machine("")
	if err != nil {
		return nil, fmt.Errorf("hessian: %w", err)
	}
	prod, err := newProducts(m, loss, layers, mach, len(batches), o)
	if err != nil {
		return nil, err
	}
	defer prod.close()
	res := &Result{Layers: make([]Layer, len(layers))}
	probes := make([]map[string]*ir.Tensor, len(prod.lanes))
	for i, l := range layers {
		t := m.Graph.Value(l).Init()
		res.Layers[i] = Layer{Name: l, Elements: t.Len()}
		for k := range probes {
			if probes[k] == nil {
				probes[k] = map[string]*ir.Tensor{}
			}
			if probes[k][l+probeSuffix], err = ir.NewTensor(ir.Float32, t.Dims(), make([]byte, 4*t.Len())); err != nil {
				return nil, err
			}
		}
	}
	run := func(lane, p int) ([]float64, error) {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(p)))
		for _, l := range layers {
			rademacher(rng, probes[lane][l+probeSuffix].Raw())
		}
		got, err := prod.run(lane, p%len(batches), batches[p%len(batches)], probes[lane])
		if err != nil {
			return nil, fmt.Errorf("hessian: probe %d: %w", p, err)
		}
		return got, nil
	}
	var sums []float64
	take := func(p int, got []float64) (done bool, err error) {
		sum := 0.0
		for i, f := range got {
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return false, fmt.Errorf("hessian: layer %s: probe %d gave %v", layers[i], p, f)
			}
			res.Layers[i].Samples = append(res.Layers[i].Samples, f)
			sum += f
		}
		sums = append(sums, sum)
		mean, sd := stat.MeanStdDev(sums, nil)
		rel := math.Inf(1)
		if len(sums) > 1 && mean != 0 {
			rel = stat.StdErr(sd, float64(len(sums))) / math.Abs(mean)
		}
		if o.Progress != nil {
			o.Progress(p+1, maxProbes, rel)
		}
		res.Probes = p + 1
		return p+1 >= minProbes && rel <= tol, nil
	}
	if err := sideBySide(len(prod.lanes), maxProbes, run, take); err != nil {
		return nil, err
	}
	for i := range layers {
		l := &res.Layers[i]
		mean, sd := stat.MeanStdDev(l.Samples, nil)
		l.Trace = mean
		if len(l.Samples) > 1 {
			l.StdErr = stat.StdErr(sd, float64(len(l.Samples)))
		}
		if mean < 0 {
			res.Negative++
		}
	}
	return res, nil
}

// signs are the eight numbers 1 or -1, as bytes of floats, that the bits of a byte stand for: 0 is 1, lowest first.
var signs = func() (out [256][32]byte) {
	for b := range out {
		for i := range 8 {
			binary.LittleEndian.PutUint32(out[b][4*i:], math.Float32bits(1-2*float32(b>>i&1)))
		}
	}
	return out
}()

// rademacher fills the raw bytes of floats with random signs.
func rademacher(rng *rand.Rand, raw []byte) {
	for len(raw) > 0 {
		bits := rng.Uint64()
		for range 8 {
			raw = raw[copy(raw, signs[bits&255][:]):]
			bits >>= 8
		}
	}
}
