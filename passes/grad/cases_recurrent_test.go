package grad

import "mqatc/onnx/ir"

func recurrentCases() []ruleCase {
	const T, N, I, H = 4, 2, 3, 2
	gates := map[string]int64{"RNN": 1, "GRU": 3, "LSTM": 4}
	both := ir.AString("direction", "bidirectional")
	acts := func(names ...string) ir.Attr {
		a := ir.Attr{Name: "activations", Kind: ir.AttrStrings}
		for _, s := range names {
			a.Strings = append(a.Strings, []byte(s))
		}
		return a
	}
	lens := input{dims: []int64{N}, vals: []float64{4, 2}, kind: "int32"}
	full := input{dims: []int64{N}, vals: []float64{4, 4}, kind: "int32"}
	// small keeps gates where their slopes are steep and, in the cases with kinks, away from those.
	small := func(d ...int64) input { return in(-0.9, 0.9, d...) }
	plain := func(op string, d int64) []input {
		g := gates[op]
		return []input{small(T, N, I), small(d, g*H, I), small(d, g*H, H), small(d, 2*g*H)}
	}
	nout := map[string]int{"RNN": 2, "GRU": 2, "LSTM": 3}
	c := func(op, name string, ins []input, a ...ir.Attr) ruleCase {
		return ruleCase{op: op, name: name, in: ins, attrs: append(a, ir.AInt("hidden_size", H)), nout: nout[op]}
	}
	var cs []ruleCase
	for _, op := range []string{"RNN", "GRU", "LSTM"} {
		states := func(d int64) []input {
			if op == "LSTM" {
				return []input{small(d, N, H), small(d, N, H)}
			}
			return []input{small(d, N, H)}
		}
		with := func(d int64, lens input, more ...input) []input { return append(append(plain(op, d), lens), more...) }
		batch := c(op, "batch first", with(2, absent, states(2)...), both, ir.AInt("layout", 1))
		batch.lacking = true
		batch.in[0].dims = []int64{N, T, I}
		for i := 5; i < len(batch.in); i++ {
			batch.in[i].dims = []int64{N, 2, H}
		}
		cs = append(cs,
			c(op, "", plain(op, 1)),
			c(op, "without bias", plain(op, 1)[:3]),
			c(op, "reverse", with(1, absent, states(1)...), ir.AString("direction", "reverse")),
			c(op, "bidirectional", with(2, full, states(2)...), both),
			c(op, "lengths", with(2, lens, states(2)...), both),
			c(op, "lengths from zero", with(1, lens)),
			c(op, "clip", with(1, absent, states(1)...), ir.AFloat("clip", 0.4)),
			batch,
		)
	}
	lengths := c("LSTM", "lengths first", append(plain("LSTM", 1), lens, small(1, N, H)))
	peep := append(plain("LSTM", 2), absent, small(2, N, H), small(2, N, H), small(2, 3*H))
	return append(cs, lengths,
		c("LSTM", "peepholes", peep, both),
		c("LSTM", "peepholes from zero", append(plain("LSTM", 1), absent, absent, absent, small(1, 3*H))),
		c("LSTM", "input forget", append(plain("LSTM", 1), absent, small(1, N, H), small(1, N, H)), ir.AInt("input_forget", 1)),
		c("LSTM", "activations", append(plain("LSTM", 1), absent, small(1, N, H), small(1, N, H)), acts("HardSigmoid", "ScaledTanh", "Affine"),
			ir.AFloats("activation_alpha", 0.3, 1.5, 0.7), ir.AFloats("activation_beta", 0.4, 0.8, 0.1)),
		c("LSTM", "both activations", append(plain("LSTM", 2), absent, small(2, N, H)), both, acts("Sigmoid", "Softsign", "Tanh", "Sigmoid", "Elu", "Softsign"),
			ir.AFloats("activation_alpha", 0.6)),
		c("GRU", "linear before reset", append(plain("GRU", 2), absent, small(2, N, H)), both, ir.AInt("linear_before_reset", 1)),
		c("GRU", "linear before reset from zero", plain("GRU", 1), ir.AInt("linear_before_reset", 1)),
		c("GRU", "linear before reset without bias", append(plain("GRU", 1)[:3], absent, lens), ir.AInt("linear_before_reset", 1)),
		c("GRU", "activations", append(plain("GRU", 1), absent, small(1, N, H)), acts("Softplus", "LeakyRelu"), ir.AFloats("activation_alpha", 0.2)),
		c("RNN", "Relu", append(plain("RNN", 1), absent, small(1, N, H)), acts("Relu")),
		c("RNN", "ThresholdedRelu", append(plain("RNN", 1), absent, small(1, N, H)), acts("ThresholdedRelu"), ir.AFloats("activation_alpha", 0.1)),
	)
}
