package text_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mqatc/onnx/text"
)

func TestDiffTellsEverySite(t *testing.T) {
	a := `<ir_version: 8, opset_import: ["": 13], metadata_props: ["k": "v"]>
g (float[1,2] x) => (float[1,2] y)
<
  float[2] w = {1, 2},
  float[10] big = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
  float[1] gone = {1},
  float[1,2] a, float[1,2] b, float[1,2] c
>
{
  a = Mul (x, w)
  b = Identity (a)
  [n1] c = LeakyRelu <alpha = 0.5> (b)
  y = If <then_branch = t () => (float[1,2] o) { o = Neg (c) }> (x)
}`
	b := `<ir_version: 9, opset_import: ["": 13], metadata_props: ["k": "w"]>
g (float[N,2] x) => (float[1,2] y)
<
  float[2] w = {1, 3},
  float[10] big = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10.5},
  float[N,2] a, float[1,2] c2, float[1,2] d
>
{
  a = Mul (x, w)
  [n1] c2 = LeakyRelu <alpha = 0.25> (a)
  #@pass "fold"
  d = Add <beta = 1> (c2, big)
  y = If <then_branch = t () => (float[1,2] o) { o = Abs (d) }> (x)
}`
	ma, err := text.Parse("a", []byte(a), nil)
	if err != nil {
		t.Fatal(err)
	}
	mb, err := text.Parse("b", []byte(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `~ ir_version: 8 -> 9
~ metadata "k": "v" -> "w"
~ input "x": float[1,2] -> float[N,2]
- initializer "gone" float[1]
~ initializer "w": {1, 2} -> {1, 3}
~ initializer "big": 1 of 10 values changed, by 0.5 at most
~ Mul a: a: float[1,2] -> float[N,2]
- b = Identity (a)
~ LeakyRelu c2: input 0 b -> a; output 0 c -> c2; alpha = 0.5 -> 0.25
+ d = Add (c2, big)  # fold
~ y.then_branch: Abs o: operator Neg -> Abs; input 0 c -> d
= graph "g": 4 -> 4 nodes, 3 -> 2 initializers
`
	if d := cmp.Diff(want, text.Diff(ma, mb)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s := text.Diff(ma, ma); s != "" {
		t.Errorf("a model differs from itself:\n%s", s)
	}
	// Every line but the summary turns round when the models change places.
	if f, r := text.Diff(ma, mb), text.Diff(mb, ma); strings.Count(f, "\n") != strings.Count(r, "\n") {
		t.Errorf("the way back has another length:\n%s", r)
	}
}
