package text_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mqatc/onnx/text"
)

// everything holds one of each thing the printer writes.
const everything = `#@extra 0a0b
<
  ir_version: 10,
  opset_import: ["": 17, "com.microsoft": 1],
  producer_name: "a \"b\" \\ c",
  producer_version: "1",
  domain: "d",
  model_version: 3,
  doc_string: "two
lines",
  metadata_props: ["k": "v", "": "x"]
>
#@doc "graph\ndoc"
#@meta "m" "n"
#@extra ff
"main graph" (
  #@doc "an input"
  #@quant "SCALE_TENSOR" "w"
  float[N,3,"(s53 - 1)//8",?] x,
  #@type float[N:"DATA_BATCH",3]
  y,
  float[] "onnx::z",
  float "float",
  seq(map(int64,float[2])) s,
  optional(sparse_tensor(double[2,2])) o,
  #@type denote("IMAGE",opaque("dom","nam"))
  q) => (
  #@doc "an output"
  float[N,3] out,
  float[1] w)
<
  #@tensor.name "other"
  #@tensor.external "location" "a.bin"
  float[1] w = {1.5},
  float[8] odd = {nan, inf, -inf, -0, 1e-45, 3.4028235e+38, 0.1, 1e+06},
  #@tensor.raw 0100c07f
  float[1] payload = {nan},
  float16[2] h = {15360, 65535},
  int4[3] i4 = {-8, 7, 1},
  #@type uint2[N]
  uint2[5] u2 = {0, 1, 2, 3, 1},
  bool[2] b = {1, 0},
  string[2] "strs/1" = {"a\"b", "new
line"},
  uint64 big = {18446744073709551615},
  double[1] dbl = {0.1},
  complex64[1] c = {1, 2},
  int64[0] empty = {},
  #@sparse [3,4] float[2] = {1, 2} int64[2] = {0, 5}
  #@type sparse_tensor(float[3,4])
  sp,
  float[N,3] mid,
  #@doc "odd value"
  "no type"
>
{
  #@pass "fold"
  #@doc "d"
  #@meta "namespace" "a.b"
  [conv1] mid, "" = Conv <kernel_shape = [3, 3], alpha = 1.0, mode = "a\\b", fs = [0.5, inf], none: ints = []> (x, "", w)
  [n2] "no type" = com.microsoft.nchwc.Foo <
      #@bits 7fc00001
      f = nan,
      #@doc "about t"
      t = float[2] {1, 2},
      #@tensor.name "a/b"
      u = int64[1] {4},
      #@name "weird name"
      attr = 3,
      ty = float[2,N],
      #@type opaque("","")
      ty2 = 0,
      #@sparse [4] float[1] = {1} int64[1] = {2}
      sp = 0,
      #@kind 77
      odd = 0,
      ts = [
        #@tensor.doc "first"
        float[1] {1},
        int8[2] {-1, 2}
      ],
      then_branch = 
      #@doc "sub"
      #@name "g/1"
      g () => (float[1] inner)
      <
        float[1] k = {2}
      >
      {
        inner = Add (k, w)
      },
      bodies = [
        g1 (float a) => (float a)
        {
        },
        g2 () => ()
        {
        }
      ]
    > ()
  #@op "my-domain" "1Op" ""
  out = Op (mid, "no type")
}

<
  domain: "f",
  opset_import: ["": 17],
  doc_string: "fn"
>
#@meta "a" "b"
Fn <
  p,
  eps = 0.5
> (X) => (Y)
{
  Y = Relu <alpha: float = @p> (X)
}
`

func roundTrip(t *testing.T, src string) string {
	t.Helper()
	m, err := text.Parse("in", []byte(src), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	out, err := text.Format(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPrintedTextIsStable(t *testing.T) {
	got := roundTrip(t, everything)
	if d := cmp.Diff(everything, got); d != "" {
		t.Errorf("print(parse(text)) differs (-want +got):\n%s", d)
	}
}

func TestWithoutNotesItStillParses(t *testing.T) {
	var lines []string
	for _, l := range strings.Split(everything, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(l), "#@") {
			lines = append(lines, l)
		}
	}
	src := strings.Replace(strings.Join(lines, "\n"), "  sp,\n", "", 1)
	again := roundTrip(t, src)
	if d := cmp.Diff(again, roundTrip(t, again)); d != "" {
		t.Error(d)
	}
}

func TestErrorsTellThePlace(t *testing.T) {
	head := "<ir_version: 8, opset_import: [\"\": 17]>\n"
	for _, c := range []struct{ src, want string }{
		{"", "in:1:1: expected the graph's name, found the end of the text"},
		{"g (float[1] x) => (float[1] y)\n{\n  y = Relu (z)\n}", `in:3:13: Relu reads "z", which nothing before it makes`},
		{head + "g () => (float y) { }", `in:2:10: output "y" is made nowhere in graph "g"`},
		{"g () => ()\n<float[3] w = {1, 2}> {}", "in:2:16: a float[3] has 3 elements, 2 are given"},
		{"g () => ()\n<float[4611686018427387904] w = {1}> {}", "elements, 1 are given"},
		{"g () => ()\n<float[4611686018427387904,4] w = {1}> {}", "overflows"},
		{"g () => () <float[2] w = [\"location\": \"../x\"]> {}", "without its folder"},
		{"g () => () {\n#@doc \"x\"\n}", "in:2:1: #@doc stands before nothing it could belong to"},
		{"#@quant \"a\" \"b\"\ng () => () {}", "in:1:1: #@quant does not belong to what follows"},
		{"g () => () { y = Op <a = [1, \"s\"]> () }", "declared int and given string"},
		{"g () => () { y = Op <a = []> () }", "needs a type"},
		{"g (float x, float x) => () { }", `two values are called "x"`},
		{"g () => () { \"", "does not end"},
		{"g () => () { y = If <a = " + strings.Repeat("g () => () { y = If <a = ", 200), "nested more than 100 deep"},
		{"g (" + strings.Repeat("seq(", 500), "nested more than 100 deep"},
		{"g () => () <int4[1] w = {9}> {}", "does not fit int4"},
		{"g () => () <float[1] w = {1}, float[1] w = {1}> {}", `two initializers are called "w"`},
	} {
		_, err := text.Parse("in", []byte(c.src), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: error %v, want %q", c.src, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(everything)
	f.Add("g () => () {}")
	f.Add("g (float[1] x) => (float[1] y)\n{\n  y = Relu (x)\n}")
	f.Fuzz(func(t *testing.T, src string) {
		m, err := text.Parse("in", []byte(src), nil)
		if err != nil {
			if _, ok := err.(*text.Error); !ok && !strings.HasPrefix(err.Error(), "in: ") {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		once, err := text.Format(m)
		if err != nil {
			t.Fatalf("cannot print what was parsed: %v", err)
		}
		if again := roundTrip(t, once); again != once {
			t.Fatalf("not stable:\n%s", cmp.Diff(once, again))
		}
	})
}
