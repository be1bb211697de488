package grad

import (
	"math"
	"strings"

	"mqatc/onnx/ir"
)

// evalRecurrent computes RNN, GRU and LSTM by the standard's equations, image by image and element by element.
func evalRecurrent(_ *evaluator, n *ir.Node, in []*arr) ([]*arr, error) {
	dirs := []string{n.Str("direction", "forward")}
	if dirs[0] == "bidirectional" {
		dirs = []string{"forward", "reverse"}
	}
	x, layout := in[0], n.Int("layout", 0)
	if layout == 1 {
		x = transposed(x, []int64{1, 0, 2})
	}
	steps, batch, hidden, nd := x.shape[0], x.shape[1], in[2].shape[2], int64(len(dirs))
	y, yh, yc := newArr(steps, nd, batch, hidden), newArr(nd, batch, hidden), newArr(nd, batch, hidden)
	fs := gateFunctions(n, nd)
	for d, way := range dirs {
		for b := range batch {
			c := &oneCell{n: n, in: in, d: int64(d), hidden: hidden, act: fs[d*len(fs)/int(nd):]}
			c.h, c.c = c.initial(5, b, layout, nd), make([]float64, hidden)
			if n.Op == "LSTM" {
				c.c = c.initial(6, b, layout, nd)
			}
			long := steps
			if in[4] != nil {
				long = int64(in[4].v[b])
			}
			for k := range long {
				t := k
				if way == "reverse" {
					t = long - 1 - k
				}
				c.step(x.v[(t*batch+b)*x.shape[2]:][:x.shape[2]])
				copy(y.v[((t*nd+int64(d))*batch+b)*hidden:], c.h)
			}
			copy(yh.v[(int64(d)*batch+b)*hidden:], c.h)
			copy(yc.v[(int64(d)*batch+b)*hidden:], c.c)
		}
	}
	if layout == 1 {
		y, yh, yc = transposed(y, []int64{2, 0, 1, 3}), transposed(yh, []int64{1, 0, 2}), transposed(yc, []int64{1, 0, 2})
	}
	return []*arr{y, yh, yc}[:map[string]int{"RNN": 2, "GRU": 2, "LSTM": 3}[n.Op]], nil
}

// gateFunctions are the activations of all directions in order, after clip.
func gateFunctions(n *ir.Node, dirs int64) []func(float64) float64 {
	own := map[string][]string{"RNN": {"Tanh"}, "GRU": {"Sigmoid", "Tanh"}, "LSTM": {"Sigmoid", "Tanh", "Tanh"}}[n.Op]
	var names []string
	for range dirs {
		names = append(names, own...)
	}
	if a := n.Attr("activations"); a != nil {
		for i := range names {
			names[i] = string(a.Strings[i])
		}
	}
	var alphas, betas []float32
	if a := n.Attr("activation_alpha"); a != nil {
		alphas = a.Floats
	}
	if a := n.Attr("activation_beta"); a != nil {
		betas = a.Floats
	}
	take := func(from *[]float32) float64 {
		v := (*from)[0]
		*from = (*from)[1:]
		return float64(v)
	}
	var fs []func(float64) float64
	for _, name := range names {
		var f func(float64) float64
		switch strings.ToLower(name) {
		case "tanh":
			f = math.Tanh
		case "sigmoid":
			f = func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
		case "relu":
			f = func(x float64) float64 { return math.Max(x, 0) }
		case "softsign":
			f = func(x float64) float64 { return x / (1 + math.Abs(x)) }
		case "softplus":
			f = func(x float64) float64 { return math.Log1p(math.Exp(x)) }
		case "leakyrelu":
			a := take(&alphas)
			f = func(x float64) float64 { return math.Max(x, 0) + a*math.Min(x, 0) }
		case "elu":
			a := take(&alphas)
			f = func(x float64) float64 { return math.Max(x, 0) + a*(math.Exp(math.Min(x, 0))-1) }
		case "hardsigmoid":
			a, b := take(&alphas), take(&betas)
			f = func(x float64) float64 { return math.Max(0, math.Min(1, a*x+b)) }
		case "affine":
			a, b := take(&alphas), take(&betas)
			f = func(x float64) float64 { return a*x + b }
		case "scaledtanh":
			a, b := take(&alphas), take(&betas)
			f = func(x float64) float64 { return a * math.Tanh(b*x) }
		case "thresholdedrelu":
			a := take(&alphas)
			f = func(x float64) float64 {
				if x > a {
					return x
				}
				return 0
			}
		}
		fs = append(fs, f)
	}
	return fs
}

// oneCell is the state of one sequence in one direction.
type oneCell struct {
	n         *ir.Node
	in        []*arr
	d, hidden int64
	h, c      []float64
	act       []func(float64) float64
}

func (c *oneCell) initial(i int, b, layout, nd int64) []float64 {
	s := make([]float64, c.hidden)
	if a := c.in[i]; a != nil {
		at := []int64{c.d, b, 0}
		if layout == 1 {
			at = []int64{b, c.d, 0}
		}
		for k := range s {
			at[2] = int64(k)
			s[k] = a.at(at)
		}
	}
	return s
}

// row is row k of the weights of input i times v.
func (c *oneCell) row(i int, k int64, v []float64) float64 {
	s := 0.0
	for j, x := range v {
		s += c.in[i].at([]int64{c.d, k, int64(j)}) * x
	}
	return s
}

func (c *oneCell) bias(k int64) float64 {
	if c.in[3] == nil {
		return 0
	}
	return c.in[3].at([]int64{c.d, k})
}

func (c *oneCell) f(i int, x float64) float64 {
	if clip := float64(c.n.Float("clip", 0)); clip > 0 {
		x = math.Max(-clip, math.Min(clip, x))
	}
	return c.act[i](x)
}

func (c *oneCell) step(x []float64) {
	H := c.hidden
	gates := c.in[2].shape[1]
	input := func(g, k int64) float64 { return c.row(1, g*H+k, x) + c.bias(g*H+k) }
	state := func(g, k int64) float64 { return c.row(2, g*H+k, c.h) + c.bias(gates+g*H+k) }
	peep := func(g, k int64, s float64) float64 {
		if c.in[7] == nil {
			return 0
		}
		return c.in[7].at([]int64{c.d, g*H + k}) * s
	}
	next, cell := make([]float64, H), make([]float64, H)
	switch c.n.Op {
	case "RNN":
		for k := range H {
			next[k] = c.f(0, input(0, k)+state(0, k))
		}
	case "LSTM":
		for k := range H {
			i := c.f(0, input(0, k)+state(0, k)+peep(0, k, c.c[k]))
			f := 1 - i
			if c.n.Int("input_forget", 0) == 0 {
				f = c.f(0, input(2, k)+state(2, k)+peep(2, k, c.c[k]))
			}
			cell[k] = f*c.c[k] + i*c.f(1, input(3, k)+state(3, k))
			next[k] = c.f(0, input(1, k)+state(1, k)+peep(1, k, cell[k])) * c.act[2](cell[k])
		}
	case "GRU":
		r, gated := make([]float64, H), make([]float64, H)
		for k := range H {
			r[k] = c.f(0, input(1, k)+state(1, k))
			gated[k] = r[k] * c.h[k]
		}
		for k := range H {
			z := c.f(0, input(0, k)+state(0, k))
			past := c.row(2, 2*H+k, gated) + c.bias(gates+2*H+k)
			if c.n.Int("linear_before_reset", 0) != 0 {
				past = r[k] * state(2, k)
			}
			next[k] = (1-z)*c.f(1, input(2, k)+past) + z*c.h[k]
		}
	}
	c.h, c.c = next, cell
}
