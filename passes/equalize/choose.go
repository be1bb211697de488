package equalize

import (
	"fmt"
	"math"

	"mqatc/onnx/ir"
)

// Channel is what was seen of one channel of a value.
type Channel struct {
	Min, Max float64
	Square   float64 // sum of squares
	Count    int64
}

// Stats are channels by value name.
type Stats map[string][]Channel

// Add counts a batch: x has channels along axis 1.
func (s Stats) Add(name string, x *ir.Tensor) error {
	d := x.Dims()
	f, err := x.Float32s()
	if err != nil || len(d) < 2 {
		return fmt.Errorf("%q: not a float32 value with channels", name)
	}
	inner := 1
	for _, n := range d[2:] {
		inner *= int(n)
	}
	c := int(d[1])
	if s[name] == nil {
		s[name] = make([]Channel, c)
	}
	if len(s[name]) != c {
		return fmt.Errorf("%q has %d channels in one batch and %d in another", name, c, len(s[name]))
	}
	for i := 0; inner > 0 && i < len(f); i += inner {
		k := &s[name][i/inner%c]
		for _, v := range f[i : i+inner] {
			x := float64(v)
			k.Min, k.Max = min(k.Min, x), max(k.Max, x)
			k.Square += x * x
		}
		k.Count += int64(inner)
	}
	return nil
}

// Point is a value that is quantized; Through, if not nil, is what squeezes it before it is used.
type Point struct {
	Value   string
	Through func(float64) float64
}

// strengths are the parts, as exponents, of the difference between channels that may be taken out.
var strengths = []float64{0, 0.25, 0.5, 0.75, 1}

// most is how far a channel may be raised over the widest one.
const most = 16

// ByChannel chooses factors per channel for every region that takes them and holds a point: channel c is raised by
// (widest range / its range)^a with the exponent a of 0, 1/4 ... 1 that makes the noise at the outputs of the layers that read it
// least. With the step D of the activation and those d_o of a layer's weights w at bits, both noises being uniform, it is
//
//	sum_o sum_c ( w[o,c]^2 D^2/12 + x[c]^2 d_o^2/12 ),
//
// as in Nagel et al., section 4.1, but weighed instead of meeting in the middle. A depthwise layer has one channel per d_o, which
// takes a factor whole. The geometric mean of the factors is 1. With depthwise, only regions that such layers alone read are scaled.
func ByChannel(regions []*Region, points []Point, stats Stats, bits float64, depthwise bool) (Factors, error) {
	at := map[string]Point{}
	for _, p := range points {
		at[p.Value] = p
	}
	out := Factors{}
	for _, r := range regions {
		if r.Channels < 2 || depthwise && !r.onlyDepthwise() {
			continue
		}
		rel := make([]float64, r.Channels) // range over the widest, largest over points
		seen := false
		for _, v := range r.Values {
			p, ok := at[v.Name()]
			if !ok || len(stats[v.Name()]) != r.Channels {
				continue
			}
			seen = true
			lo, hi := ends(stats[v.Name()], p)
			for c := range rel {
				rel[c] = max(rel[c], part(hi[c], hi), part(lo[c], lo))
			}
		}
		if !seen {
			continue
		}
		best, least := []float64(nil), math.Inf(1)
		for _, a := range strengths {
			s := make([]float64, len(rel))
			for c, x := range rel {
				s[c] = math.Pow(max(x, 1.0/most), -a)
			}
			e, err := r.noise(at, stats, s, bits)
			if err != nil {
				return nil, err
			}
			if e < least*(1-1e-9) {
				best, least = s, e
			}
		}
		mean, flat := 0.0, true
		for _, x := range best {
			mean += math.Log(x) / float64(len(best))
			flat = flat && x == best[0]
		}
		if best == nil || flat {
			continue
		}
		f := make([]float32, len(best))
		for c, x := range best {
			f[c] = float32(x / math.Exp(mean))
		}
		out[r.Name()] = f
	}
	return out, nil
}

func (r *Region) onlyDepthwise() bool {
	for _, n := range r.readers {
		if !n.Is("Conv") || n.Int("group", 1) != int64(r.Channels) {
			return false
		}
	}
	return true
}

// ends are the sizes of the channels' ends below and above zero, as far as they are used.
func ends(ch []Channel, p Point) (lo, hi []float64) {
	lo, hi = make([]float64, len(ch)), make([]float64, len(ch))
	for c, k := range ch {
		a, b := min(k.Min, 0), max(k.Max, 0)
		if p.Through != nil {
			a, b = min(p.Through(a), 0), max(p.Through(b), 0)
		}
		lo[c], hi[c] = -a, b
	}
	return lo, hi
}

// part is x as a part of the largest of all.
func part(x float64, all []float64) float64 {
	top := 0.0
	for _, y := range all {
		top = max(top, y)
	}
	if top == 0 {
		return 0
	}
	return x / top
}

// noise is the noise power at the outputs of the layers that read r when its channels are multiplied by s, relative to the power
// of their outputs.
func (r *Region) noise(points map[string]Point, stats Stats, s []float64, bits float64) (float64, error) {
	total := 0.0
	for _, n := range r.readers {
		x, w := n.Input(0), n.Input(1)
		ch := stats[x.Name()]
		if len(ch) != len(s) {
			continue
		}
		step := 0.0
		if p, ok := points[x.Name()]; ok {
			lo, hi := ends(ch, p)
			a, b := 0.0, 0.0
			for c := range s {
				a, b = max(a, lo[c]*s[c]), max(b, hi[c]*s[c])
			}
			step = (a + b) / 255
		}
		l, err := layoutOf(n)
		if err != nil {
			return 0, err
		}
		f, err := w.Init().Float32s()
		if err != nil {
			return 0, err
		}
		outputs := 0
		for i := range f {
			outputs = max(outputs, l.out(i)+1)
		}
		top, power := make([]float64, outputs), make([]float64, outputs)
		from, signal := 0.0, 0.0
		for i, v := range f {
			c, o := l.in(i), l.out(i)
			if c >= len(s) {
				return 0, fmt.Errorf("%v reads channel %d of %d", n, c, len(s))
			}
			y := math.Abs(float64(v)) / s[c]
			square := ch[c].Square / float64(max(ch[c].Count, 1))
			top[o] = max(top[o], y)
			power[o] += square * s[c] * s[c]
			from += y * y * step * step / 12
			signal += float64(v) * float64(v) * square
		}
		for o := range top {
			d := 2 * top[o] / (math.Exp2(bits) - 1)
			from += power[o] * d * d / 12
		}
		if signal > 0 {
			total += from / signal
		}
	}
	return total, nil
}
