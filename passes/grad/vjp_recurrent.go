package grad

import (
	"fmt"
	"strings"

	"mqatc/onnx/ir"
)

// longest is how many steps of a recurrent operator or trips of a loop are unrolled; more are an error.
const longest = 1024

// cell is what a recurrent operator computes in one step.
type cell struct {
	initial     []int // the inputs that hold the first states
	activations []string
	apart       bool // the recurrent bias is not added to the input's part
	// step makes the next states from x [1, N, gates*H], the input's part of all gates, and the states [1, N, H], nil where they are zero.
	step func(d *direction, x *ir.Value, s []*ir.Value) []*ir.Value
}

// direction is one direction of a recurrent operator.
type direction struct {
	*call
	w, r, bias *ir.Value                   // weights transposed: [I, gates*H] and [H, gates*H]; the recurrent bias [gates*H] where it is apart
	peep       []*ir.Value                 // weights [H] of the cell's state, in the order of the input; nil without
	act        []func(*ir.Value) *ir.Value // f, g, h of the standard
	hidden     int64
}

// recurrent makes the outputs of LSTM, GRU and RNN by unrolling: Y, and for each state the last one. Batches may be of any size;
// the number of steps must be static. Where sequence_lens says that a sequence has ended, in either direction, states stay as they are
// and Y is zero.
func (c *call) recurrent(k cell) []*ir.Value {
	x := c.in(0)
	batchFirst := c.n.Int("layout", 0) != 0
	if c.rank(x) != 3 {
		c.fail("input of shape %v", x.Shape())
		return nil
	}
	if batchFirst {
		x = c.transpose(x, 1, 0, 2)
	}
	steps := c.along(x, 0)
	if c.Err() == nil && (steps < 1 || steps > longest) {
		c.fail("%d steps: 1 to %d can be unrolled", steps, longest)
	}
	if c.Err() != nil {
		return nil
	}
	alive := c.alive(steps)
	ways := []bool{c.n.Str("direction", "forward") == "reverse"}
	if c.n.Str("direction", "forward") == "bidirectional" {
		ways = []bool{false, true}
	}
	var all []*ir.Value
	last := make([][]*ir.Value, len(k.initial))
	for i, backwards := range ways {
		d, bias := c.direction(k, int64(i), int64(len(ways)))
		if c.Err() != nil {
			return nil
		}
		in := c.op("MatMul", x, d.w)
		if bias != nil {
			in = c.add(in, bias)
		}
		y, s := d.run(k, c.split(in, 0, steps), c.first(k, int64(i), int64(len(ways)), batchFirst), alive, backwards)
		all = append(all, c.op("Unsqueeze", y, c.Int64s(1)))
		for j := range last {
			last[j] = append(last[j], s[j])
		}
	}
	outs := []*ir.Value{c.joined(all, 1)}
	if batchFirst {
		outs[0] = c.transpose(outs[0], 2, 0, 1, 3)
	}
	for _, s := range last {
		v := c.joined(s, 0)
		if batchFirst {
			v = c.transpose(v, 1, 0, 2)
		}
		outs = append(outs, v)
	}
	return outs
}

// run goes through the steps and gives the first state at each, [T, N, H], and the last states.
func (d *direction) run(k cell, in, s, alive []*ir.Value, backwards bool) (y *ir.Value, last []*ir.Value) {
	ys := make([]*ir.Value, len(in))
	for i := range in {
		t := i
		if backwards {
			t = len(in) - 1 - i
		}
		next := k.step(d, in[t], s)
		if alive == nil {
			ys[t], s = next[0], next
			continue
		}
		for j := range next {
			if s[j] == nil {
				next[j] = d.mul(alive[t], next[j])
			} else {
				next[j] = d.add(s[j], d.mul(alive[t], d.sub(next[j], s[j])))
			}
		}
		ys[t], s = d.mul(alive[t], next[0]), next
	}
	return d.joined(ys, 0), s
}

// alive are masks [1, N, 1] of the sequences that go on at each step; nil where all always do.
func (c *call) alive(steps int64) []*ir.Value {
	lens := c.in(4)
	if lens == nil {
		return nil
	}
	if v, ok := constInts(lens); ok {
		full := true
		for _, l := range v {
			full = full && l == steps
		}
		if full {
			return nil
		}
	}
	at := make([]int32, steps)
	for i := range at {
		at[i] = int32(i)
	}
	t, err := ir.FromInt32s(at, steps, 1)
	if err != nil {
		c.Fail(err)
		return nil
	}
	m := c.mask(c.op("Less", c.Const(t), c.Op("Cast", []*ir.Value{lens}, ir.AInt("to", int64(ir.Int32)))))
	return c.split(c.op("Unsqueeze", m, c.Int64s(2)), 0, steps)
}

// direction reads the weights of direction i of n, and gives the bias of the input's part.
func (c *call) direction(k cell, i, n int64) (d *direction, bias *ir.Value) {
	d = &direction{call: c, hidden: c.along(c.in(2), 2), act: c.activations(k.activations, i, n)}
	d.w, d.r = c.transpose(c.pick(c.in(1), i, n), 1, 0), c.transpose(c.pick(c.in(2), i, n), 1, 0)
	if b := c.in(3); b != nil {
		parts := c.split(c.pick(b, i, n), 0, 2)
		bias = parts[0]
		if k.apart {
			d.bias = parts[1]
		} else {
			bias = c.add(bias, parts[1])
		}
	}
	if p := c.in(7); p != nil {
		d.peep = c.split(c.pick(p, i, n), 0, 3)
	}
	return d, bias
}

// first are the states [1, N, H] before the first step, nil where they are zero.
func (c *call) first(k cell, i, n int64, batchFirst bool) []*ir.Value {
	s := make([]*ir.Value, len(k.initial))
	for j, at := range k.initial {
		if v := c.in(at); v != nil {
			if batchFirst {
				v = c.transpose(v, 1, 0, 2)
			}
			s[j] = c.only(v, i, n)
		}
	}
	return s
}

// only is element i of the n along the first axis, which becomes 1.
func (c *call) only(v *ir.Value, i, n int64) *ir.Value {
	if n == 1 {
		return v
	}
	return c.slice(v, []int64{i}, []int64{i + 1}, []int64{0}, []int64{1})
}

// pick is element i of the n along the first axis, without that.
func (c *call) pick(v *ir.Value, i, n int64) *ir.Value {
	return c.op("Squeeze", c.only(v, i, n), c.Int64s(0))
}

// split cuts v into n equal parts along an axis.
func (c *call) split(v *ir.Value, axis, n int64) []*ir.Value {
	if n == 1 || c.Err() != nil {
		return repeatValue(v, int(n))
	}
	size := c.along(v, axis)
	if size%n != 0 {
		c.fail("size %d of %q along axis %d does not divide into %d", size, v.Name(), axis, n)
		return repeatValue(v, int(n))
	}
	return c.Node(ir.NodeSpec{Op: "Split", Inputs: []*ir.Value{v, c.Int64s(repeat(size/n, int(n))...)}, Attrs: []ir.Attr{ir.AInt("axis", axis)}}, int(n))
}

func repeatValue(v *ir.Value, n int) []*ir.Value {
	out := make([]*ir.Value, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// joined puts values behind each other along an axis.
func (c *call) joined(v []*ir.Value, axis int64) *ir.Value {
	if len(v) == 1 {
		return v[0]
	}
	return c.Op("Concat", v, ir.AInt("axis", axis))
}

// bounded is what an activation reads: v within the attribute clip.
func (d *direction) bounded(v *ir.Value) *ir.Value {
	if clip := float64(d.n.Float("clip", 0)); clip > 0 {
		return d.op("Clip", v, d.num(-clip), d.num(clip))
	}
	return v
}

// activate applies activation i to what clip leaves of v.
func (d *direction) activate(i int, v *ir.Value) *ir.Value { return d.act[i](d.bounded(v)) }

// times is h r for a state h, nil where that is zero.
func (d *direction) times(h, r *ir.Value) *ir.Value {
	if h == nil {
		return nil
	}
	return d.op("MatMul", h, r)
}

// plus adds, where nil is zero.
func (d *direction) plus(a, b *ir.Value) *ir.Value {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return d.add(a, b)
}

func rnn(c *call) []*ir.Value {
	return c.recurrent(cell{initial: []int{5}, activations: []string{"Tanh"},
		step: func(d *direction, x *ir.Value, s []*ir.Value) []*ir.Value {
			return []*ir.Value{d.activate(0, d.plus(x, d.times(s[0], d.r)))}
		}})
}

// lstm has gates i, o, f, c.
func lstm(c *call) []*ir.Value {
	return c.recurrent(cell{initial: []int{5, 6}, activations: []string{"Sigmoid", "Tanh", "Tanh"},
		step: func(d *direction, x *ir.Value, s []*ir.Value) []*ir.Value {
			g := d.split(d.plus(x, d.times(s[0], d.r)), 2, 4)
			peep := func(v *ir.Value, k int, state *ir.Value) *ir.Value {
				if d.peep == nil || state == nil {
					return v
				}
				return d.add(v, d.mul(d.peep[k], state))
			}
			i := d.activate(0, peep(g[0], 0, s[1]))
			state := d.mul(i, d.activate(1, g[3]))
			if s[1] != nil {
				f := d.sub(d.num(1), i)
				if d.n.Int("input_forget", 0) == 0 {
					f = d.activate(0, peep(g[2], 2, s[1]))
				}
				state = d.add(d.mul(f, s[1]), state)
			}
			o := d.activate(0, peep(g[1], 1, state))
			return []*ir.Value{d.mul(o, d.act[2](state)), state}
		}})
}

// gru has gates z, r, h.
func gru(c *call) []*ir.Value {
	linear := c.n.Int("linear_before_reset", 0) != 0
	return c.recurrent(cell{initial: []int{5}, activations: []string{"Sigmoid", "Tanh"}, apart: linear,
		step: func(d *direction, x *ir.Value, s []*ir.Value) []*ir.Value {
			in, h := d.split(x, 2, 3), s[0]
			var rec []*ir.Value // the state's part of the gates
			switch {
			case linear && (h != nil || d.bias != nil):
				all := d.plus(d.times(h, d.r), d.bias)
				rec = d.split(all, int64(d.rank(all)-1), 3)
			case !linear && h != nil:
				rec = d.split(d.times(h, d.columns(d.r, 0, 2)), 2, 2)
			default:
				rec = []*ir.Value{nil, nil, nil}
			}
			z, r := d.activate(0, d.plus(in[0], rec[0])), d.activate(0, d.plus(in[1], rec[1]))
			var past *ir.Value
			switch {
			case linear && rec[2] != nil:
				past = d.mul(r, rec[2])
			case !linear && h != nil:
				past = d.times(d.mul(r, h), d.columns(d.r, 2, 3))
			}
			n := d.activate(1, d.plus(in[2], past))
			if h == nil {
				return []*ir.Value{d.mul(d.sub(d.num(1), z), n)}
			}
			return []*ir.Value{d.add(n, d.mul(z, d.sub(h, n)))}
		}})
}

// columns are those of the gates from, ..., to-1 in weights [H, gates*H].
func (d *direction) columns(r *ir.Value, from, to int64) *ir.Value {
	return d.once(fmt.Sprint("columns ", from, " of ", r.Name()), func() *ir.Value {
		return d.slice(r, []int64{from * d.hidden}, []int64{to * d.hidden}, []int64{1}, []int64{1})
	})
}

// activations are those of direction i of n, the attribute's or the operator's own. Of activation_alpha and activation_beta each
// function with such a parameter takes the next.
func (c *call) activations(own []string, i, n int64) []func(*ir.Value) *ir.Value {
	var names []string
	if a := c.n.Attr("activations"); a != nil && len(a.Strings) > 0 {
		for _, s := range a.Strings {
			names = append(names, string(s))
		}
	} else {
		for range n {
			names = append(names, own...)
		}
	}
	each := int64(len(own))
	if int64(len(names)) != n*each {
		c.fail("%d activations for %d directions of %d", len(names), n, each)
		return nil
	}
	parameters := func(name string) func(def float64) float64 {
		a := c.n.Attr(name)
		at := 0
		return func(def float64) float64 {
			if a == nil || at >= len(a.Floats) {
				return def
			}
			at++
			return float64(a.Floats[at-1])
		}
	}
	alpha, beta := parameters("activation_alpha"), parameters("activation_beta")
	var fs []func(*ir.Value) *ir.Value
	for _, name := range names {
		f := c.activation(name, alpha, beta)
		if f == nil {
			c.fail("activation %q", name)
			return nil
		}
		fs = append(fs, f)
	}
	return fs[i*each : (i+1)*each]
}

// activation is a function by the name that attributes of recurrent and fused operators have for it, in letters of any size; alpha and
// beta give the next parameter, or the default told. nil where there is no such function.
func (c *call) activation(name string, alpha, beta func(def float64) float64) func(*ir.Value) *ir.Value {
	plain := func(op string, at ...ir.Attr) func(*ir.Value) *ir.Value {
		return func(v *ir.Value) *ir.Value { return c.Op(op, []*ir.Value{v}, at...) }
	}
	sloped := func(op string, def float64) func(*ir.Value) *ir.Value {
		return plain(op, ir.AFloat("alpha", float32(alpha(def))))
	}
	switch strings.ToLower(name) {
	case "relu":
		return plain("Relu")
	case "tanh":
		return plain("Tanh")
	case "sigmoid":
		return plain("Sigmoid")
	case "softsign":
		return plain("Softsign")
	case "softplus":
		return plain("Softplus")
	case "leakyrelu":
		return sloped("LeakyRelu", 0.01)
	case "thresholdedrelu":
		return sloped("ThresholdedRelu", 1)
	case "elu":
		return sloped("Elu", 1)
	case "hardsigmoid":
		return plain("HardSigmoid", ir.AFloat("alpha", float32(alpha(0.2))), ir.AFloat("beta", float32(beta(0.5))))
	case "affine":
		a, b := alpha(1), beta(0)
		return func(v *ir.Value) *ir.Value { return c.add(c.scale(v, a), c.num(b)) }
	case "scaledtanh":
		a, b := alpha(1), beta(1)
		return func(v *ir.Value) *ir.Value { return c.scale(c.op("Tanh", c.scale(v, b)), a) }
	}
	return nil
}
