package report

import (
	"bytes"
	"html/template"
	"image/color"
	"sort"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var palette = []color.Color{
	color.RGBA{0x1b, 0x6c, 0xa8, 0xff}, color.RGBA{0xd1, 0x49, 0x3f, 0xff}, color.RGBA{0x2e, 0x8b, 0x57, 0xff},
	color.RGBA{0x8a, 0x5a, 0xa8, 0xff}, color.RGBA{0xc7, 0x8a, 0x1e, 0xff}, color.RGBA{0x55, 0x55, 0x55, 0xff},
}

func svg(p *plot.Plot, w, h vg.Length) (template.HTML, error) {
	p.Legend.Padding = 2 * vg.Millimeter
	c := vgsvg.New(w, h)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	s := b.String()
	if i := strings.Index(s, "<svg"); i > 0 {
		s = s[i:]
	}
	return template.HTML(s), nil
}

// frontierPlot draws importance over bytes, with the chosen plan marked.
func (r *Report) frontierPlot() (template.HTML, error) {
	if len(r.Frontier) < 2 {
		return "", nil
	}
	var xy plotter.XYs
	for _, p := range r.Frontier {
		if p.Cost > 0 {
			xy = append(xy, plotter.XY{X: float64(p.Bytes) / 1000, Y: p.Cost})
		}
	}
	if len(xy) < 2 {
		return "", nil
	}
	p := plot.New()
	p.Title.Text = "Importance left against payload"
	p.X.Label.Text, p.Y.Label.Text = "payload, kB", "sum of Omega"
	line, pts, err := plotter.NewLinePoints(xy)
	if err != nil {
		return "", err
	}
	line.Color, pts.Color = palette[0], palette[0]
	p.Add(plotter.NewGrid(), line, pts)
	for _, f := range r.Frontier {
		if f.Bytes == r.Size.PayloadAfter && f.Cost > 0 {
			s, err := plotter.NewScatter(plotter.XYs{{X: float64(f.Bytes) / 1000, Y: f.Cost}})
			if err != nil {
				return "", err
			}
			s.Color, s.Radius, s.Shape = palette[1], vg.Points(6), draw.RingGlyph{}
			p.Add(s)
			p.Legend.Add("chosen", s)
			p.Legend.Top = true
		}
	}
	logarithmic(p)
	return svg(p, 17*vg.Centimeter, 9*vg.Centimeter)
}

// logarithmic makes the vertical axis of a plot of positive values logarithmic, with room around them: gonum/plot panics on an
// axis that reaches zero.
func logarithmic(p *plot.Plot) {
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = p.Y.Min/2, p.Y.Max*2
}

// curvePlot draws the training loss of every stage.
func (r *Report) curvePlot() (template.HTML, error) {
	var names []string
	for n, c := range r.Curves {
		if len(c) > 1 {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	sort.Strings(names)
	p := plot.New()
	p.Title.Text = "Training loss"
	p.X.Label.Text, p.Y.Label.Text = "part of the training, %", "loss"
	p.Add(plotter.NewGrid())
	for i, n := range names {
		c := r.Curves[n]
		xy := make(plotter.XYs, 0, len(c))
		width := max(len(c)/200, 1)
		for k := 0; k+width <= len(c); k += width {
			sum := 0.0
			for _, v := range c[k : k+width] {
				sum += v
			}
			xy = append(xy, plotter.XY{X: 100 * (float64(k) + float64(width)/2) / float64(len(c)), Y: sum / float64(width)})
		}
		l, err := plotter.NewLine(xy)
		if err != nil {
			return "", err
		}
		l.Color = palette[i%len(palette)]
		p.Add(l)
		p.Legend.Add(n, l)
	}
	p.Legend.Top = true
	return svg(p, 17*vg.Centimeter, 9*vg.Centimeter)
}

// layerPlot draws the sensitivity per weight of every layer, coloured by module.
func (r *Report) layerPlot() (template.HTML, error) {
	any := false
	for _, l := range r.Layers {
		any = any || l.Lambda > 0
	}
	if !any {
		return "", nil
	}
	p := plot.New()
	p.Title.Text = "Sensitivity by layer (Hessian trace / number of weights)"
	p.X.Label.Text, p.Y.Label.Text = "layer in graph order", "lambda / N"
	p.Add(plotter.NewGrid())
	for i, m := range r.Modules {
		var xy plotter.XYs
		for k, l := range r.Layers {
			if l.Module == m.Name && l.Lambda > 0 && l.N > 0 {
				xy = append(xy, plotter.XY{X: float64(k + 1), Y: l.Lambda / float64(l.N)})
			}
		}
		if len(xy) == 0 {
			continue
		}
		s, err := plotter.NewScatter(xy)
		if err != nil {
			return "", err
		}
		s.Color, s.Shape, s.Radius = palette[i%len(palette)], draw.CircleGlyph{}, vg.Points(3)
		p.Add(s)
		p.Legend.Add(m.Name, s)
	}
	p.Legend.Top = true
	logarithmic(p)
	return svg(p, 17*vg.Centimeter, 8*vg.Centimeter)
}
