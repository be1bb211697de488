package rebatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/onnx/text"
	"mqatc/passes/pass"
	"mqatc/passes/rebatch"
)

func parse(t *testing.T, opset int, graph string) *ir.Model {
	t.Helper()
	m, err := text.Parse("case", []byte(fmt.Sprintf("<ir_version: 8, opset_import: [\"\": %d]>\n%s", opset, graph)), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, graph)
	}
	return m
}

// freed are graphs that only run at batch 1, or mean it, and what must become of them; every one is run at batches 1, 2, 3 and 7.
var freed = []struct {
	name      string
	opset     int
	graph     string
	rewritten int // nodes
}{
	{"Reshape with a 1 becomes 0", 17, `g (float[1,6,4] x) => (float[1,3,8] y) <int64[3] s = {1, 3, 8}> { y = Reshape (x, s) }`, 1},
	{"Reshape with 1 and -1", 17, `g (float[1,6,4] x) => (float[1,24] y) <int64[2] s = {1, -1}> { y = Reshape (x, s) }`, 1},
	{"Reshape that keeps 0", 17, `g (float[1,6,4] x) => (float[1,4,6] y) <int64[3] s = {0, 4, 6}> { y = Reshape (x, s) }`, 0},
	{"Reshape that shares a constant with one that means 1", 17,
		`g (float[1,6] x) => (float[1,2,3] y, float[1,2,3] k) <int64[3] s = {1, 2, 3}, float[6] w = {1, 2, 3, 4, 5, 6}>
		{ y = Reshape (x, s) c = Reshape (w, s) k = Add (c, y) }`, 1},
	{"Reshape whose batch moves and -1 stays", 17,
		`g (float[1,4,H] x) => (float[1,H,2,2] y) <int64[4] s = {-1, 1, 2, 2}>
		{ t = Transpose <perm = [2, 0, 1]> (x) r = Reshape (t, s) y = Transpose <perm = [1, 0, 2, 3]> (r) }`, 1},
	{"images in rows, then apart again", 17,
		`g (float[1,4,6] x) => (float[1,4,2] y) <int64[2] s = {4, 6}, int64[3] u = {1, 4, 2}, float[6,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
		{ r = Reshape (x, s) p = MatMul (r, w) y = Reshape (p, u) }`, 2},
	{"time-major rows, then apart again", 17,
		`g (float[1,4,6] x) => (float[1,4,2] y) <int64[2] s = {4, 6}, int64[3] u = {4, 1, 2}, float[6,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
		{ t = Transpose <perm = [1, 0, 2]> (x) r = Reshape (t, s) p = MatMul (r, w) q = Reshape (p, u) y = Transpose <perm = [1, 0, 2]> (q) }`, 2},
	{"windows", 17,
		`g (float[1,4,4,3] x) => (float[1,4,4,3] y) <int64[6] s = {1, 2, 2, 2, 2, 3}, int64[3] u = {-1, 4, 3}, int64[6] v = {1, 2, 2, 2, 2, 3}, int64[4] z = {1, 4, 4, 3}, float[1,4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
		{ a = Reshape (x, s) b = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a) c = Reshape (b, u) d = Mul (c, w) e = Reshape (d, v)
		  f = Transpose <perm = [0, 1, 3, 2, 4, 5]> (e) y = Reshape (f, z) }`, 3},
	{"a constant for the windows of every image", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <int64[2] s = {4, 3}, int64[3] z = {1, 4, 3}, float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
		{ a = Reshape (x, s) b = Mul (a, w) y = Reshape (b, z) }`, 3},
	{"Squeeze and Unsqueeze", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <int64[1] k = {0}> { a = Squeeze (x, k) b = Relu (a) y = Unsqueeze (b, k) }`, 2},
	{"Squeeze of all ones", 17,
		`g (float[1,4,1,3] x) => (float[1,4,3] y) <int64[1] k = {0}> { a = Squeeze (x) b = Relu (a) y = Unsqueeze (b, k) }`, 2},
	{"Squeeze of other ones", 11, `g (float[1,4,1,3] x) => (float[1,4,3] y) { y = Squeeze <axes = [2]> (x) }`, 0},
	{"Squeeze and Unsqueeze of opset 11", 11,
		`g (float[1,4,3] x) => (float[1,4,3] y) { a = Squeeze <axes = [0]> (x) b = Relu (a) y = Unsqueeze <axes = [0]> (b) }`, 2},
	{"Flatten", 17, `g (float[1,4,3] x) => (float[1,12] y) { y = Flatten (x) }`, 0},
	{"Flatten from the front", 17, `g (float[1,4,3] x) => (float[1,12] y) { y = Flatten <axis = 0> (x) }`, 1},
	{"the only image chosen", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <int64 k = {0}, int64[1] u = {0}> { a = Gather (x, k) b = Relu (a) y = Unsqueeze (b, u) }`, 2},
	{"the only image chosen as a list", 17, `g (float[1,4,3] x) => (float[1,4,3] y) <int64[1] k = {0}> { y = Gather (x, k) }`, 1},
	{"Gather of channels", 17, `g (float[1,4,3] x) => (float[1,2,3] y) <int64[2] k = {0, 2}> { y = Gather <axis = 1> (x, k) }`, 0},
	{"embedding", 17, `g (int64[1,5] x) => (float[1,5,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = Gather (w, x) }`, 0},
	{"Slice of the only image", 17,
		`g (float[1,4,3] x) => (float[1,2,3] y) <int64[2] a = {0, 1}, int64[2] b = {1, 3}> { y = Slice (x, a, b) }`, 1},
	{"Slice of the only image with axes, backwards", 17,
		`g (float[1,4,3] x) => (float[1,4,2] y) <int32[2] a = {-1, 0}, int32[2] b = {-2, 2}, int32[2] k = {0, 2}, int32[2] s = {-1, 1}> { y = Slice (x, a, b, k, s) }`, 1},
	{"Slice of opset 9", 9, `g (float[1,4,3] x) => (float[1,2,3] y) { y = Slice <starts = [0, 1], ends = [1, 3], axes = [0, 1]> (x) }`, 1},
	{"Expand", 17, `g (float[1,4,1] x) => (float[1,4,3] y) <int64[3] s = {1, 4, 3}> { y = Expand (x, s) }`, 0},
	{"Expand of rows", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <int64[2] r = {4, 3}, int64[2] s = {4, 3}, int64[3] z = {1, 4, 3}>
		{ a = Reshape (x, r) b = Expand (a, s) y = Reshape (b, z) }`, 3},
	{"Expand to a computed size", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <float[1,4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
		{ s = Shape (x) b = Expand (w, s) c = Concat <axis = 1> (b) y = Mul (c, x) }`, 0},
	{"Tile", 17, `g (float[1,4] x) => (float[1,8] y) <int64[2] r = {1, 2}> { y = Tile (x, r) }`, 0},
	{"Tile of the batch, taken apart", 17,
		`g (float[1,4] x) => (float[1,4] y) <int64[2] r = {2, 1}> { t = Tile (x, r) a, b = Split <axis = 0> (t) y = Mul (a, b) }`, 0},
	{"ConstantOfShape joined", 17,
		`g (float[1,4,3] x) => (float[1,6,3] y) <int64[3] s = {1, 2, 3}> { c = ConstantOfShape <value = float[1] {2}> (s) y = Concat <axis = 1> (c, x) }`, 1},
	{"ConstantOfShape of a computed size", 17,
		`g (float[1,4,3] x) => (float[1,8,3] y) { s = Shape (x) c = ConstantOfShape <value = float[1] {2}> (s) y = Concat <axis = 1> (c, x) }`, 0},
	{"a token before the others", 17,
		`g (float[1,4,3] x) => (float[1,5,3] y) <float[1,1,3] w = {1, 2, 3}> { y = Concat <axis = 1> (w, x) }`, 1},
	{"Resize to sizes", 17,
		`g (float[1,2,3,3] x) => (float[1,2,5,7] y) <int64[4] s = {1, 2, 5, 7}> { y = Resize <mode = "linear"> (x, "", "", s) }`, 1},
	{"Resize to sizes that are exact scales", 17,
		`g (float[1,2,3,3] x) => (float[1,2,6,9] y) <int64[4] s = {1, 2, 6, 9}> { y = Resize <mode = "linear"> (x, "", "", s) }`, 1},
	{"Resize to sizes of some axes", 18,
		`g (float[1,2,3,3] x) => (float[1,2,5,7] y) <int64[3] s = {1, 5, 7}> { y = Resize <mode = "nearest", axes = [0, 2, 3]> (x, "", "", s) }`, 1},
	{"Resize by scales", 17,
		`g (float[1,2,3,3] x) => (float[1,2,6,6] y) <float[4] s = {1, 1, 2, 2}> { y = Resize <mode = "linear"> (x, "", s) }`, 0},
	{"two images side by side", 17,
		`g (float[1,3] l, float[1,3] r) => (float[1,2] a, float[1,2] b) <float[3,2] w = {1, 2, 3, 4, 5, 6}>
		{ x = Concat <axis = 0> (l, r) y = MatMul (x, w) a, b = Split <axis = 0> (y) }`, 0},
	{"two images side by side, sizes fixed", 17,
		`g (float[1,3] l, float[1,3] r) => (float[1,3] a, float[1,3] b) <int64[2] s = {1, 1}> { x = Concat <axis = 0> (l, r) y = Relu (x) a, b = Split <axis = 0> (y, s) }`, 1},
	{"reductions and normalizations of single images", 17,
		`g (float[1,4,3] x) => (float[1,4] y, float[1,4,3] z) <float[3] w = {1, 2, 3}>
		{ y = ReduceMean <axes = [2], keepdims = 0> (x) s = Softmax (x) z = LayerNormalization (s, w) }`, 0},
	{"attention", 17,
		`g (float[1,4,6] x) => (float[1,4,6] y) <int64[4] s = {1, 4, 2, 3}, int64[3] u = {1, 4, 6}>
		{ a = Reshape (x, s) b = Transpose <perm = [0, 2, 1, 3]> (a) c = Transpose <perm = [0, 2, 3, 1]> (a) d = MatMul (b, c) e = Softmax (d)
		  f = MatMul (e, b) h = Transpose <perm = [0, 2, 1, 3]> (f) y = Reshape (h, u) }`, 2},
	{"GRU with a start state", 14,
		`g (float[1,4,2] x) => (float[1,4,1] y) <float[1,3,2] w = {1, 2, 3, 4, 5, 6}, float[1,3,1] r = {1, 2, 3}, float[1,1,1] h = {0.5}, int64[1] k = {1}>
		{ t = Transpose <perm = [1, 0, 2]> (x) a, l = GRU <hidden_size = 1> (t, w, r, "", "", h) b = Squeeze (a, k) y = Transpose <perm = [1, 0, 2]> (b) }`, 1},
	{"Gemm with a row", 17,
		`g (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[1,2] b = {1, 2}> { y = Gemm (x, w, b) }`, 0},
	{"Einsum", 17,
		`g (float[1,2,3] x) => (float[1,3,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = Einsum <equation = "bij,ik->bjk"> (x, w) }`, 0},
	{"a size of the picture in the arithmetic", 17,
		`g (float[1,4,3] x) => (float[1,4,3] y) <int64 k = {1}> { s = Shape (x) h = Gather (s, k) f = Cast <to = 1> (h) y = Div (x, f) }`, 0},
	{"a parameter that is no batch", 17, `g (float[1,3] x, float[1] limit) => (float[1,3] y) { y = Mul (x, limit) }`, 0},
	{"a free batch with a fixed Reshape", 17, `g (float[B,6] x) => (float[B,3,2] y) <int64[3] s = {1, 3, 2}> { y = Reshape (x, s) }`, 1},
}

func TestFreed(t *testing.T) {
	e := ortEnv(t)
	for _, c := range freed {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, c.opset, c.graph)
			original := parse(t, c.opset, c.graph)
			changed, rep, notes := run(t, e, m, rebatch.Options{})
			if !rep.Free || !changed {
				t.Fatalf("free %v, changed %v: %s", rep.Free, changed, rep.Reason)
			}
			if len(rep.Rewritten) != c.rewritten {
				t.Errorf("rewrote %v, want %d nodes", rep.Rewritten, c.rewritten)
			}
			if len(notes) > 0 {
				t.Errorf("notes %q", notes)
			}
			for _, name := range rep.Inputs {
				if d := m.Graph.Value(name).Shape()[0]; d.Symbol != rep.Symbol {
					t.Errorf("input %q has a first dimension of %v, want %s", name, d, rep.Symbol)
				}
			}
			for _, v := range m.Graph.Outputs() {
				if d := v.Shape()[0]; d.Symbol != rep.Symbol {
					t.Errorf("output %q has a first dimension of %v, want %s", v.Name(), d, rep.Symbol)
				}
			}
			for _, n := range []int{1, 2, 3, 7} {
				sameAtBatch(t, original, m, rep, n, map[string][]int64{})
			}
		})
	}
}

// mixing are graphs that no batch can be put into, with words of the reason.
var mixing = []struct{ name, graph, reason string }{
	{"channels", `g (float[1,3,4,4] x) => (float[1,1,4,4] y) <int64[4] s = {3, 1, 4, 4}, float[1,1,1,1] w = {2}, int64[1] k = {0}>
		{ a = Transpose <perm = [1, 0, 2, 3]> (x) c = Conv (a, w) d = ReduceSum (c, k) y = Identity (d) }`, "dimension 1"},
	{"rows that do not fit", `g (float[1,4,6] x) => (float[1,24] y) <int64[2] s = {3, 8}, int64[2] z = {1, 24}>
		{ t = Transpose <perm = [1, 0, 2]> (x) r = Reshape (t, s) y = Reshape (r, z) }`, "mixes the batch"},
	{"softmax over the batch", `g (float[1,3] x) => (float[1,3] y) { y = Softmax <axis = 0> (x) }`, "works across the batch"},
	{"mean over the batch", `g (float[1,3] x) => (float[1,3] y) { m = ReduceMean <axes = [0], keepdims = 1> (x) y = Sub (x, m) }`, "reduces over the batch"},
	{"mean over everything", `g (float[1,3] x) => (float[1,3] y) { m = ReduceMean (x) y = Sub (x, m) }`, "reduces over the batch"},
	{"training BatchNormalization", `g (float[1,3,2,2] x) => (float[1,3,2,2] y) <float[3] a = {1, 2, 3}, float[3] b = {1, 2, 3}>
		{ y, m, v = BatchNormalization <training_mode = 1> (x, a, b, a, b) }`, "training mode"},
	{"normalization over the batch", `g (float[1,3,2,2] x) => (float[1,3,2,2] y) { y = MeanVarianceNormalization (x) }`, "over the batch"},
	{"images times images", `g (float[1,3] x) => (float[1,1] y) { t = Transpose (x) y = MatMul (x, t) }`, "one another"},
	{"dynamic quantization", `g (float[1,3] x) => (uint8[1,3] y) { y, s, z = DynamicQuantizeLinear (x) }`, "one for all images"},
	{"detections", `g (float[1,5,4] b, float[1,1,5] s) => (int64[n,3] y) <int64 k = {3}> { y = NonMaxSuppression (b, s, k) }`, "the number of its results"},
	{"part of the batch", `g (float[1,3] x) => (float[0,3] y) <int64[1] a = {0}, int64[1] b = {0}> { y = Slice (x, a, b) }`, "part of the batch"},
	{"weights from an image", `g (float[1,3,4,4] x, float[1,3,1,1] w) => (float[1,1,4,4] y) { y = Conv (x, w) }`, "operand 1 depends on the images"},
	{"the batch's size in the arithmetic", `g (float[1,3] x) => (float[1,3] y) <int64 k = {0}> { s = Shape (x) n = Gather (s, k) f = Cast <to = 1> (n) y = Div (x, f) }`, "batch's size"},
	{"the batch's size as a result", `g (float[1,3] x) => (int64[2] y) { y = Shape (x) }`, "batch's size"},
	{"no batch left", `g (float[1,3] x) => (float[3] y) <int64[1] k = {0}> { y = Squeeze (x, k) }`, "3 rows per image"},
	{"batch in the second dimension", `g (float[1,3] x) => (float[3,1] y) { y = Transpose (x) }`, "dimension 1, not in its first"},
	{"another batch", `g (float[4,3] x) => (float[4,3] y) { y = Relu (x) }`, "no input has a batch of 1"},
	{"a branch", `g (float[1,3] x) => (float[1,3] y) <bool c = {1}>
		{ y = If <then_branch = a () => (float[1,3] p) { p = Relu (x) }, else_branch = b () => (float[1,3] q) { q = Neg (x) }> (c) }`, "subgraph"},
	{"an input that is not seen", `g (float[1,3] x) => (float[1,3] y) <float z = {0}> { y = Mul (x, z) }`, "proves nothing"},
	{"an operator without a rule that mixes", `g (float[1,3] x) => (float[1,3] y) { y = Trilu (x) }`, "differs"},
	{"two places", `g (float[1,1] x) => (float[1,1] y) { t = Transpose (x) y = Add (x, t) }`, "other places"},
}

func TestMixingIsRefused(t *testing.T) {
	e := ortEnv(t)
	for _, c := range mixing {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, 17, c.graph)
			before := marshal(t, m)
			changed, rep, notes := run(t, e, m, rebatch.Options{})
			if rep.Free || changed {
				t.Fatalf("free %v, changed %v, rewrote %v", rep.Free, changed, rep.Rewritten)
			}
			if !strings.Contains(rep.Reason, c.reason) {
				t.Errorf("reason %q does not say %q", rep.Reason, c.reason)
			}
			if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, rep.Reason) }) {
				t.Errorf("notes %q lack the reason", notes)
			}
			if !bytes.Equal(before, marshal(t, m)) {
				t.Error("the model was changed")
			}
		})
	}
}

func TestEveryRuleIsOfAKnownOperator(t *testing.T) {
	names := rebatch.RuleNames()
	if len(names) < 80 {
		t.Errorf("%d rules", len(names))
	}
	for _, name := range names {
		if op.Lookup("", name) == nil {
			t.Errorf("there is a rule for %s, which is no operator", name)
		}
	}
}

func TestCheckLeavesTheModelAlone(t *testing.T) {
	e := ortEnv(t)
	graph := `g (float[1,6] x) => (float[1,2,3] y) <int64[3] s = {1, 2, 3}> { y = Reshape (x, s) }`
	m := parse(t, 17, graph)
	before := marshal(t, m)
	free, rep, err := rebatch.Check(context.Background(), m, e, rebatch.Options{})
	if err != nil || !rep.Free || free == nil || free == m {
		t.Fatalf("free %v, %+v, %v", free != nil, rep, err)
	}
	if !bytes.Equal(before, marshal(t, m)) {
		t.Error("Check changed the model")
	}
	if again, rep, err := rebatch.Check(context.Background(), free, e, rebatch.Options{}); err != nil || again != free || !rep.Free {
		t.Errorf("a freed model is not returned as it is: %+v, %v", rep, err)
	}
	free, rep, err = rebatch.Check(context.Background(), m, pass.Env{}, rebatch.Options{})
	if err != nil || free != nil || rep.Free || !strings.Contains(rep.Reason, "no evaluator") {
		t.Errorf("without an evaluator: %+v, %v", rep, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := rebatch.Check(ctx, m, e, rebatch.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRandomChains builds graphs of random regroupings, permutations and products. Whatever the pass calls free must be so at a
// batch that its proof does not run.
func TestRandomChains(t *testing.T) {
	e := ortEnv(t)
	free := 0
	for seed := range uint64(150) {
		m := chain(t, seed)
		original, err := m.Clone()
		if err != nil {
			t.Fatal(err)
		}
		_, rep, _ := run(t, e, m, rebatch.Options{})
		if !rep.Free {
			continue
		}
		free++
		sameAtBatch(t, original, m, rep, 5, map[string][]int64{})
		if t.Failed() {
			s, _ := text.Format(original)
			t.Fatalf("seed %d\n%s", seed, s)
		}
	}
	if free < 30 {
		t.Errorf("only %d of 150 random graphs could be freed", free)
	}
	t.Logf("%d of 150 graphs are free", free)
}

func chain(t *testing.T, seed uint64) *ir.Model {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	m := ir.NewModel("chain", 17)
	x, err := m.Graph.AddInput("x", ir.TensorType(ir.Float32, ir.StaticShape(1, 4, 6, 2)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	v := x
	regroup := func(keepFirst bool) {
		rest := int64(48)
		var dims []int64
		if keepFirst {
			dims = append(dims, 1)
		}
		for _, d := range []int64{2, 3, 4, 1, 2} {
			if rest%d == 0 && rng.IntN(2) == 0 {
				dims, rest = append(dims, d), rest/d
			}
		}
		dims = append(dims, rest)
		if rng.IntN(3) == 0 {
			dims[rng.IntN(len(dims))] = -1
		}
		v = b.Op("Reshape", []*ir.Value{v, b.Int64s(dims...)})
	}
	for range 1 + rng.IntN(4) {
		dims, _ := v.StaticDims()
		switch rng.IntN(6) {
		case 0, 1:
			regroup(rng.IntN(4) > 0)
		case 2:
			perm := make([]int64, len(dims))
			for i, p := range rng.Perm(len(dims)) {
				perm[i] = int64(p)
			}
			v = b.Op("Transpose", []*ir.Value{v}, ir.AInts("perm", perm...))
		case 3:
			w := make([]float32, dims[len(dims)-1])
			for i := range w {
				w[i] = rng.Float32()
			}
			v = b.Op("Mul", []*ir.Value{v, b.Floats(w, int64(len(w)))})
		case 4:
			v = b.Op("Softmax", []*ir.Value{v}, ir.AInt("axis", -1))
		case 5:
			v = b.Op("CumSum", []*ir.Value{v, b.Const(ir.ScalarInt64(rng.Int64N(int64(len(dims)))))})
		}
	}
	regroup(true)
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Graph.AddOutput(v); err != nil {
		t.Fatal(err)
	}
	return m
}
