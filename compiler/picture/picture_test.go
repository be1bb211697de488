package picture

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/partition"
)

// pyramid is a network of three modules by its structure; every name ends in tail.
func pyramid(t *testing.T, tail string) *ir.Model {
	t.Helper()
	m := ir.NewModel("net", 17)
	x, err := m.Graph.AddInput("image"+tail, ir.TensorType(ir.Float32, ir.StaticShape(1, 3, 128, 96)))
	if err != nil {
		t.Fatal(err)
	}
	b := ir.NewBuilder(m.Graph, "", op.InferNode)
	n := 0
	conv := func(x *ir.Value, out, k, stride int64) *ir.Value {
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		in := x.Shape()[1].Size
		w, err := ir.FromFloat32s(make([]float32, out*in*k*k), out, in, k, k)
		if err != nil {
			t.Fatal(err)
		}
		n++
		v, err := m.Graph.AddInitializer(fmt.Sprintf("w%d%s", n, tail), w)
		if err != nil {
			t.Fatal(err)
		}
		p := k / 2
		y := b.Node(ir.NodeSpec{Op: "Conv", Inputs: []*ir.Value{x, v}, Outputs: []string{fmt.Sprintf("c%d%s", n, tail)},
			Attrs: []ir.Attr{ir.AInts("strides", stride, stride), ir.AInts("pads", p, p, p, p)}}, 1)[0]
		return b.Node(ir.NodeSpec{Op: "Relu", Inputs: []*ir.Value{y}, Outputs: []string{fmt.Sprintf("r%d%s", n, tail)}}, 1)[0]
	}
	up := func(x *ir.Value) *ir.Value {
		return b.Op("Resize", []*ir.Value{x, nil, b.Floats([]float32{1, 1, 2, 2}, 4)})
	}
	c3 := conv(conv(conv(x, 8, 3, 2), 16, 3, 2), 32, 3, 2)
	c4 := conv(c3, 48, 3, 2)
	c5 := conv(c4, 64, 3, 2)
	p5 := conv(c5, 24, 1, 1)
	p4 := b.Op("Add", []*ir.Value{conv(c4, 24, 1, 1), up(p5)})
	p3 := b.Op("Add", []*ir.Value{conv(c3, 24, 1, 1), up(p4)})
	for _, p := range []*ir.Value{p3, p4, p5} {
		s := conv(p, 24, 3, 1)
		for _, k := range []int64{5, 4} {
			y := conv(conv(s, 24, 3, 1), k, 3, 1)
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			if err := m.Graph.AddOutput(y); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func find(t *testing.T, m *ir.Model, o partition.Options) *partition.Partition {
	t.Helper()
	p, err := partition.Find(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// texts reads an SVG document and returns what text and title elements hold.
func texts(t *testing.T, doc []byte) (text, title []string) {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(doc))
	in := ""
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return text, title
		}
		if err != nil {
			t.Fatalf("not well formed: %v", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			in = tok.Name.Local
			for _, a := range tok.Attr {
				if a.Name.Local == "href" || strings.Contains(a.Value, "url(") || strings.Contains(a.Value, "://") && a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					t.Errorf("%s refers to %q", in, a.Value)
				}
			}
			switch in {
			case "svg", "g", "rect", "text", "title", "path", "polygon", "line":
			default:
				t.Errorf("element %s", in)
			}
		case xml.EndElement:
			in = ""
		case xml.CharData:
			switch in {
			case "text":
				text = append(text, string(tok))
			case "title":
				title = append(title, string(tok))
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.Contains(x, s) {
			return true
		}
	}
	return false
}

func TestPictureNamesModulesRowsAndCuts(t *testing.T) {
	tail := "<a&\"'>\x01\xff]]>"
	m := pyramid(t, tail)
	p := find(t, m, partition.Options{})
	if len(p.Modules) != 3 {
		t.Fatalf("%d modules", len(p.Modules))
	}
	doc, err := Draw("a<b>&c.onnx", p, m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	text, title := texts(t, doc)
	for _, want := range []string{"a<b>&c.onnx", "backbone", "fpn", "head", "stride 8", "12 × 16", "stride 32", "24, 5, 4 channels", "32 channels", "5 Conv"} {
		if !contains(text, want) {
			t.Errorf("no text %q", want)
		}
	}
	for _, mod := range p.Modules[:2] {
		for _, v := range mod.Outputs {
			if name := clean(v.Name()); !contains(title, name) || !contains(text, name) {
				t.Errorf("cut value %q is not named", name)
			}
		}
	}
	again, err := Draw("a<b>&c.onnx", p, m.Graph)
	if err != nil || !bytes.Equal(doc, again) {
		t.Error("two pictures of one network differ")
	}
}

// TestNothingOverlaps looks at divisions of several kinds: boxes lie apart, within their bands and the document, and every line ends at
// the edges of its boxes.
func TestNothingOverlaps(t *testing.T) {
	m := pyramid(t, "")
	var alternate partition.File
	alternate.Modules = []partition.FileModule{{Name: "even"}, {Name: "odd"}}
	for i := 1; i <= 23; i++ {
		a := &alternate.Modules[i/2%2]
		a.Initializers = append(a.Initializers, fmt.Sprintf("w%d", i))
	}
	for name, o := range map[string]partition.Options{
		"found": {}, "split heads": {Split: true}, "one": {Count: 1}, "many": {Count: 9}, "interleaved": {File: &alternate},
	} {
		t.Run(name, func(t *testing.T) {
			p := find(t, m, o)
			l, err := newLayout(p, m.Graph)
			if err != nil {
				t.Fatal(err)
			}
			d := &drawing{layout: l}
			tracks, lanes := l.route()
			d.measure(tracks, lanes)
			nodes := 0
			for i, b := range l.boxes {
				if b.block != nil {
					nodes += len(b.block.Nodes)
				}
				x, y := d.colX[b.col], d.rowY[b.row]+b.y
				if x < marginLeft || x+b.w > d.w || y < d.top || y+b.h > d.bottom {
					t.Errorf("box %d leaves the picture", i)
				}
				if k := d.bands[b.band]; b.col < k.first || b.col > k.last {
					t.Errorf("box %d is not in its band", i)
				}
				for j, c := range l.boxes[:i] {
					x2, y2 := d.colX[c.col], d.rowY[c.row]+c.y
					if x < x2+c.w && x2 < x+b.w && y < y2+c.h && y2 < y+b.h {
						t.Errorf("boxes %d and %d overlap", i, j)
					}
				}
			}
			if want := m.Graph.NumNodes(); nodes != want {
				t.Errorf("%d nodes are drawn of %d", nodes, want)
			}
			for _, n := range l.nets {
				for _, g := range n.legs {
					pts := d.points(g)
					first, last := pts[0], pts[len(pts)-1]
					if first[0] != d.colX[n.from.col]+n.from.w || last[0] != d.colX[g.to.col] {
						t.Errorf("a line does not begin or end at its box")
					}
					for i, a := range pts[1:] {
						b := pts[i]
						if a[0] != b[0] && a[1] != b[1] {
							t.Errorf("a line is neither level nor upright: %v", pts)
						}
						if a[1] == b[1] {
							for _, c := range l.boxes {
								x, y := d.colX[c.col], d.rowY[c.row]+c.y
								if c != n.from && c != g.to && a[1] > y && a[1] < y+c.h && min(a[0], b[0]) < x+c.w && max(a[0], b[0]) > x {
									t.Errorf("a line crosses a box")
								}
							}
						}
					}
				}
			}
		})
	}
}

func TestShortCounts(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1.00 k", 12345: "12.3 k", 99_949: "99.9 k", 99_951: "100 k", 999_600: "1.00 M", 50_528_246: "50.5 M", 66_895_794_176: "66.9 G"} {
		if got := short(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
