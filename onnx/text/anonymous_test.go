package text_test

import (
	"bytes"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/text"
)

// authored has names wherever a model can have them; each holds "secret".
const authored = `<
  ir_version: 10,
  opset_import: ["": 17, "own": 1],
  producer_name: "secret1",
  producer_version: "secret2",
  domain: "secret3",
  doc_string: "secret4",
  metadata_props: ["secret5": "secret6"]
>
secret_graph (float[secret_n,2,"2*secret_h + 1"] secret_x, bool secret_c) => (float[secret_n,2,?] secret_y)
<
  float[1] secret_w = {1},
  float[secret_n,2,secret_h] secret_t
>
{
  [secret_a] secret_t = Mul (secret_x, secret_w)
  [secret_b] secret_u = own.SecretTwice (secret_t)
  [secret_d] secret_k = Constant <value = float[1] secret_tensor {2}> ()
  [secret_e] secret_y = If (secret_c) <
    then_branch = secret_then () => (float[1,2,?] secret_p) { [secret_f] secret_p = Add (secret_u, secret_k) },
    else_branch = secret_else () => (float[1,2,?] secret_q) { [secret_g] secret_q = own.SecretTwice (secret_u) }
  >
}

<
  domain: "own",
  opset_import: ["": 17]
>
SecretTwice (secret_r) => (secret_s)
{
  [secret_h] secret_s = Add (secret_r, secret_r)
}
`

func TestAnonymizeLeavesNoName(t *testing.T) {
	m, err := text.Parse("authored", []byte(authored), nil)
	if err != nil {
		t.Fatal(err)
	}
	g := m.Graph
	g.Value("secret_u").Meta.Set("secret7", "secret8")
	g.Value("secret_u").Doc = "secret9"
	g.Value("secret_x").Type.Shape[1].Denote = "secret10"
	g.First().Meta.Set("secret11", "secret12")
	g.Value("secret_t").Quant.Set("SCALE_TENSOR", "secret_w")
	before, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.Anonymize()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	raw, err := format.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(bytes.ToLower(raw), []byte("secret")); at >= 0 {
		t.Errorf("a name is left: %q", raw[at:min(at+20, len(raw))])
	}
	if again, err := format.Marshal(m); err != nil || !bytes.Equal(again, before) {
		t.Error("the model that was cloned has changed")
	}
	seen := map[string]bool{}
	for _, was := range old {
		seen[was] = true
	}
	for _, name := range []string{"secret_x", "secret_c", "secret_y", "secret_w", "secret_t", "secret_u", "secret_k", "secret_p", "secret_q", "secret_r", "secret_s"} {
		if !seen[name] {
			t.Errorf("%s has no new name", name)
		}
	}
	x, y := c.Graph.Inputs()[0], c.Graph.Outputs()[0]
	if old[x.Name()] != "secret_x" || old[y.Name()] != "secret_y" {
		t.Errorf("%s was %s, %s was %s", x.Name(), old[x.Name()], y.Name(), old[y.Name()])
	}
	if got := x.Shape().String(); got != "[d1,2,2*d2 + 1]" {
		t.Errorf("sizes %s", got)
	}
	if got := y.Shape().String(); got != "[d1,2,?]" {
		t.Errorf("sizes %s", got)
	}
	f := c.Functions[0]
	calls := 0
	var count func(g *ir.Graph)
	count = func(g *ir.Graph) {
		for _, n := range g.Nodes() {
			if n.Domain == f.Domain && n.Op == f.Name {
				calls++
			}
			for _, s := range n.Subgraphs() {
				count(s)
			}
		}
	}
	if count(c.Graph); calls != 2 {
		t.Errorf("%d calls of the function, there were 2", calls)
	}
	var scale *ir.Value
	for _, n := range c.Graph.Nodes() {
		if q, ok := n.Output(0).Quant.Get("SCALE_TENSOR"); ok {
			scale = c.Graph.Value(q)
		}
	}
	if scale == nil || scale.Init() == nil {
		t.Error("the quantization annotation names no tensor")
	}
}
