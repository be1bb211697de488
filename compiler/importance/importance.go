// Package importance measures how much a network's loss curves in the directions of its weights: the sensitivity lambda and the
// importance Omega of the paper's equation 1.
package importance

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/runtime/ort"
)

// Options of Trace.
type Options struct {
	MaxProbes int     // upper bound on Rademacher probes; 64 when 0
	MinProbes int     // at least so many; 8 when 0
	Tolerance float64 // stop when the standard error of the summed trace is below so much of |mean|; 0.05 when 0
	Seed      uint64
	Threads   int
	// MACs is what a batch costs forward, in multiply-accumulates, where known.
	MACs int64
	// Progress is told after each probe: probes done, at most, and the relative standard error of the sum.
	Progress func(done, most int, rel float64)
}

// Layer is the estimate for one weight tensor.
type Layer struct {
	Name     string
	Elements int64
	Trace    float64 // mean over probes of v . (Hv), restricted to the layer
	StdErr   float64 // standard error of that mean
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

// Trace estimates the trace of the Hessian block of each layer of m by Hutchinson's method with exact Hessian-vector products.
//
// loss names a one-element output of m; layers name float initializers of m; every batch feeds all inputs of m. The gradient
// graph is made of differentiable operators, so it is differentiated again: one product H v serves all layers, since the mean
// over Rademacher probes of v_i . (Hv)_i is the trace of block i. Probe p uses batch p modulo the number of batches.
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
	h, err := Graph(m, loss, layers)
	if err != nil {
		return nil, err
	}
	raw, err := format.Marshal(h)
	if err != nil {
		return nil, err
	}
	s, err := ort.NewSession(raw, ort.SessionOptions{OptLevel: ort.LevelFor(len(h.Graph.Nodes()), hessianWork*float64(o.MACs)*float64(maxProbes)), Threads: o.Threads, DisableQDQ: true})
	if err != nil {
		return nil, fmt.Errorf("hessian: %w", err)
	}
	defer s.Close()
	outs := make([]string, len(layers))
	probes := make([]*ir.Tensor, len(layers))
	res := &Result{Layers: make([]Layer, len(layers))}
	samples := make([][]float64, len(layers))
	for i, l := range layers {
		outs[i] = l + curveSuffix
		t := m.Graph.Value(l).Init()
		v := make([]float32, t.Len())
		if probes[i], err = ir.FromFloat32s(v, t.Dims()...); err != nil {
			return nil, err
		}
		res.Layers[i] = Layer{Name: l, Elements: t.Len()}
	}
	var sums []float64
	for p := 0; p < maxProbes; p++ {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(p)))
		feeds := map[string]*ir.Tensor{}
		for k, v := range batches[p%len(batches)] {
			feeds[k] = v
		}
		for i, l := range layers {
			v, err := rademacher(rng, probes[i])
			if err != nil {
				return nil, err
			}
			feeds[l+probeSuffix] = v
		}
		got, err := s.Run(feeds, outs)
		if err != nil {
			return nil, fmt.Errorf("hessian: probe %d: %w", p, err)
		}
		sum := 0.0
		for i := range layers {
			f, err := got[outs[i]].Floats()
			if err != nil {
				return nil, err
			}
			if len(f) != 1 || math.IsNaN(f[0]) || math.IsInf(f[0], 0) {
				return nil, fmt.Errorf("hessian: layer %s: probe %d gave %v", layers[i], p, f)
			}
			samples[i] = append(samples[i], f[0])
			sum += f[0]
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
		if p+1 >= minProbes && rel <= tol {
			break
		}
	}
	for i := range layers {
		mean, sd := stat.MeanStdDev(samples[i], nil)
		res.Layers[i].Trace = mean
		if len(samples[i]) > 1 {
			res.Layers[i].StdErr = stat.StdErr(sd, float64(len(samples[i])))
		}
		if mean < 0 {
			res.Negative++
		}
	}
	return res, nil
}

func rademacher(rng *rand.Rand, like *ir.Tensor) (*ir.Tensor, error) {
	v := make([]float32, like.Len())
	for i := 0; i < len(v); i += 64 {
		bits := rng.Uint64()
		for j := i; j < min(i+64, len(v)); j++ {
			v[j] = 1 - 2*float32(bits&1)
			bits >>= 1
		}
	}
	return ir.FromFloat32s(v, like.Dims()...)
}

// hessianWork is about how many training steps a Hessian product costs.
const hessianWork = 2

const (
	probeSuffix = ".probe"
	curveSuffix = ".curvature"
)

// Graph appends to a copy of m what computes, for each layer W, the scalar output W.curvature = v . (Hv) restricted to W, where
// the inputs W.probe hold v and H is the Hessian of the output loss by all layers together.
func Graph(m *ir.Model, loss string, layers []string) (*ir.Model, error) {
	c, err := m.Clone()
	if err != nil {
		return nil, err
	}
	g := c.Graph
	l := g.Value(loss)
	if l == nil {
		return nil, fmt.Errorf("hessian: the model has no value %q", loss)
	}
	wrt := make([]*ir.Value, len(layers))
	for i, name := range layers {
		if wrt[i] = g.Value(name); wrt[i] == nil || wrt[i].Init() == nil || wrt[i].DType() != ir.Float32 {
			return nil, fmt.Errorf("hessian: %q is not a float weight of the model", name)
		}
	}
	first, err := grad.Gradients(g, []grad.Seed{{Value: l}}, wrt, grad.Options{Pass: "hessian"})
	if err != nil {
		return nil, err
	}
	b := ir.NewBuilder(g, "hessian", op.InferNode)
	probes := make([]*ir.Value, len(layers))
	var seeds []grad.Seed
	for i, w := range wrt {
		if probes[i], err = g.AddInput(layers[i]+probeSuffix, w.Type.Clone()); err != nil {
			return nil, err
		}
		if first[i] != nil {
			seeds = append(seeds, grad.Seed{Value: first[i], Cotangent: probes[i]})
		}
	}
	if b.Err() != nil {
		return nil, b.Err()
	}
	second, err := grad.Gradients(g, seeds, wrt, grad.Options{Pass: "hessian"})
	if err != nil {
		return nil, err
	}
	outputs := make([]*ir.Value, 0, len(layers))
	for i, hv := range second {
		if hv == nil {
			hv = b.Op("Sub", []*ir.Value{probes[i], probes[i]})
		}
		b.Site = layers[i]
		curve := b.Op("ReduceSum", []*ir.Value{b.Op("Mul", []*ir.Value{probes[i], hv})}, ir.AInt("keepdims", 0))
		if b.Err() != nil {
			return nil, b.Err()
		}
		if err := g.Rename(curve, layers[i]+curveSuffix); err != nil {
			return nil, err
		}
		outputs = append(outputs, curve)
	}
	// Names derived from values could meet names of the file's nodes, and onnxruntime wants node names to differ.
	for n := g.First(); n != nil; n = n.Next() {
		if n.Pass == "hessian" {
			n.Name = ""
		}
	}
	if err := g.SetOutputs(outputs...); err != nil {
		return nil, err
	}
	return c, nil
}
