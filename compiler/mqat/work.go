package mqat

import (
	"math"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// valueWork is how many multiply-accumulates of a convolution take as long as one computed value takes everything else: fake
// quantization, activation functions and their gradients go through memory. Steps of five networks of 0.1e9 to 0.6e9
// multiply-accumulates and 8e6 to 31e6 values on one core agree with it within a third.
const valueWork = 100

// work is what one image costs in training, in multiply-accumulates forward. What has no static shape behind its batch counts nothing.
func work(m *ir.Model) int64 {
	total := 0.0
	for _, n := range m.Graph.Nodes() {
		k, _ := partition.MACs(n)
		total += float64(k)
		for _, v := range n.Outputs() {
			if v != nil && v.DType().IsFloat() {
				k, _ := partition.PerImage(v.Shape())
				total += valueWork * float64(k)
			}
		}
	}
	return int64(math.Min(total, 1<<62))
}

// usualWork is how much all training of a run may take by default: some ten minutes on two cores.
const (
	usualWork  = 5.2e12
	mostEpochs = 16
)

// usualEpochs is the default length of a stage for a network of so much work an image.
func usualEpochs(work, images int64, stages int) float64 {
	all := float64(work) * float64(images) * float64(max(stages, 1))
	if all <= 0 {
		return mostEpochs
	}
	e := min(usualWork/all, mostEpochs)
	if e >= 1 {
		return math.Floor(e)
	}
	return e
}

// Hessian probes by default, and how much work of one image they may add up to.
const (
	leastProbes = 8
	mostProbes  = 32
	probeWork   = 1.2e11
)

// usualProbes is the default number of Hessian probes for a network of so much work an image. What they rank is measured afterwards.
func usualProbes(work int64) int {
	return max(leastProbes, int(min(mostProbes, probeWork/float64(max(work, 1)))))
}

// affordable is how many of most images a measurement may run the network over: so many that they take budget multiply-accumulates,
// but least at the least.
func (b *Bench) affordable(most, least int, budget float64) int {
	macs := int64(0)
	for _, m := range b.net.Partition.Modules {
		macs += m.MACs
	}
	return max(least, int(min(float64(most), budget/float64(max(macs, 1)))))
}
