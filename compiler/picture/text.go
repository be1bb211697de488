package picture

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// legend lists the modules above the picture.
func (d *drawing) legend(title string) {
	d.s.Text(12, 28, head(title, d.w/10), `font-size="18"`, `font-weight="bold"`)
	y := 52
	d.s.Text(34, y, "module", `fill="#777777"`)
	for _, c := range legendColumns {
		d.s.Text(c.x, y, c.name, `fill="#777777"`, c.anchor)
	}
	macs, known := int64(0), true
	layers := 0
	for i, m := range d.p.Modules {
		y += legendLine
		d.s.Roundrect(12, y-11, 14, 14, 3, 3, fmt.Sprintf(`fill="%s"`, pale(i)), fmt.Sprintf(`stroke="%s"`, strong(i)))
		d.s.Text(34, y, tail(clean(m.Name), 30), `font-weight="bold"`)
		mac := short(m.MACs)
		if m.MACs == 0 && m.Layers > 0 {
			mac, known = "-", false
		}
		for j, s := range []string{tail(clean(m.Role), 12), short(m.Params), fmt.Sprint(m.Layers), mac} {
			d.s.Text(legendColumns[j].x, y, s, legendColumns[j].anchor)
		}
		macs, layers = macs+m.MACs, layers+m.Layers
	}
	y += legendLine
	all := "-"
	if known {
		all = short(macs)
	}
	d.s.Text(34, y, "all", `fill="#777777"`)
	for j, s := range []string{"", short(d.p.Params), fmt.Sprint(layers), all} {
		d.s.Text(legendColumns[j].x, y, s, `fill="#777777"`, legendColumns[j].anchor)
	}
}

var legendColumns = []struct {
	name, anchor string
	x            int
}{
	{"role", `text-anchor="start"`, 250}, {"parameters", `text-anchor="end"`, 420}, {"layers", `text-anchor="end"`, 490},
	{"MACs per image", `text-anchor="end"`, 610},
}

func (d *drawing) foot() {
	for i, s := range []string{
		"From left to right: modules as data flows. From top to bottom: resolution; stride 8 is one value for 8 x 8 pixels of the input.",
		"A box is a chain of operators of one module at one resolution: channels that its layers give, operators, parameters (shared ones in each box that reads them).",
		"Coloured lines are the values that pass from one module to another, by name. Sizes and axes computed from shapes are not drawn.",
	} {
		d.s.Text(12, d.bottom+20+16*i, s, `fill="#666666"`)
	}
}

// hues of modules; further ones go on around the circle.
var hues = []float64{212, 28, 140, 350, 275, 185, 60, 320, 100, 240}

// strong is the color of a module's lines and names; module -1 is none.
func strong(module int) string { return hsl(module, 0.62, 0.36) }

// pale is the color behind a module.
func pale(module int) string { return hsl(module, 0.75, 0.94) }

func hsl(module int, s, l float64) string {
	h := 0.0
	if module < 0 {
		s = 0
	} else {
		h = hues[module%len(hues)] + 17*float64(module/len(hues))
	}
	f := func(n float64) int {
		k := math.Mod(n+h/30, 12)
		return int(math.Round(255 * (l - s*math.Min(l, 1-l)*math.Max(-1, math.Min(k-3, math.Min(9-k, 1))))))
	}
	return fmt.Sprintf("#%02x%02x%02x", f(0), f(8), f(4))
}

// short writes a count with three digits and k, M, G or T.
func short(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	x := float64(n)
	for _, u := range []string{"k", "M", "G", "T"} {
		if x /= 1000; x < 999.5 || u == "T" {
			digits := 2
			if x >= 99.95 {
				digits = 0
			} else if x >= 9.995 {
				digits = 1
			}
			return fmt.Sprintf("%.*f %s", digits, x, u)
		}
	}
	return ""
}

// tail keeps the last n characters of a name, whose ends tell more than their beginnings.
func tail(s string, n int) string {
	r := []rune(clean(s))
	if len(r) <= n || n < 2 {
		return string(r)
	}
	return "…" + string(r[len(r)-n+1:])
}

// head keeps the first n characters.
func head(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 2 {
		return s
	}
	return string(r[:n-1]) + "…"
}

// clean leaves what XML can hold: no control characters but line ends.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || r == 0xfffe || r == 0xffff) {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}
