package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": func(n int64) string {
		switch {
		case n >= 10_000_000:
			return fmt.Sprintf("%.1f MB", float64(n)/1e6)
		case n >= 10_000:
			return fmt.Sprintf("%.1f kB", float64(n)/1e3)
		}
		return fmt.Sprintf("%d B", n)
	},
	"percent": func(v float64) float64 { return 100 * v },
	"f4":      func(v float64) string { return fmt.Sprintf("%.4f", v) },
	"g3":      func(v float64) string { return fmt.Sprintf("%.3g", v) },
	"x":       func(v float64) string { return fmt.Sprintf("%.2f×", v) },
	"flow":    func(v []string) string { return strings.Join(v, " → ") },
	"bits":    Method.WidthText,
}).Parse(pageText))

// WidthText tells the widths of a row by module.
func (m Method) WidthText() string {
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(m.Bits)) {
		w := m.Widths[n]
		if w == "" {
			w = strconv.Itoa(m.Bits[n])
		}
		parts = append(parts, n+" "+w)
	}
	return strings.Join(parts, ", ")
}

// HTML writes the page.
func (r *Report) HTML(w io.Writer) error {
	var plots []template.HTML
	for _, f := range []func() (template.HTML, error){r.frontierPlot, r.layerPlot, r.curvePlot} {
		s, err := f()
		if err != nil {
			return err
		}
		if s != "" {
			plots = append(plots, s)
		}
	}
	return page.Execute(w, struct {
		*Report
		Plots []template.HTML
	}{r, plots})
}
