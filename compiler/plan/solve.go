package plan

import (
	"errors"
	"fmt"
	"math"
	"sort"

	"mqatc/compiler/allocate"
)

// frontierPoints bounds the frontier of a plan; layer-wise plans with many units get none beyond fewUnits.
const (
	frontierPoints = 64
	fewUnits       = 32
)

// Solve chooses widths of least total Omega within the request.
func (t *Table) Solve(r Request) (*Document, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	d := &Document{Status: "optimal", Sensitivity: t.sensitivity, Bits: map[string]int{}, Flow: []string{}, Frontier: []Point{}, Table: t}
	d.Compress.Requested = r.Compress
	if r.Budget > 0 {
		d.Compress.Requested = ratio(t.in.PayloadBefore, r.Budget)
	}
	d.Bytes.Before = t.in.PayloadBefore
	d.Smallest = t.Fixed
	for _, os := range t.Options {
		least := int64(math.MaxInt64)
		for _, o := range os {
			least = min(least, o.Bytes)
		}
		d.Smallest += least
	}
	if err := t.frontier(d, r); err != nil {
		return nil, err
	}
	limit, err := t.limit(r)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		sol, err := allocate.Solve(t.problem(r, limit))
		var inf *allocate.InfeasibleError
		if errors.As(err, &inf) {
			return d, t.infeasible(d, r, inf)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		if err := t.fill(d, sol); err != nil {
			return nil, err
		}
		if r.Basis != File || d.Compress.File >= r.Compress || r.Budget > 0 {
			return d, nil
		}
		if try == 16 {
			return nil, fmt.Errorf("plan: the files at the widths found are %v times smaller, not %v, and no limit on the payload mends it", d.Compress.File, r.Compress)
		}
		after := int64(math.Ceil(float64(t.in.FileBefore) / d.Compress.File))
		limit -= max(after-int64(float64(t.in.FileBefore)/r.Compress), 1)
	}
}

// limit is the bound on the first resource: payload bytes, or bits of the nominal figure.
func (t *Table) limit(r Request) (int64, error) {
	switch {
	case r.Budget > 0:
		return r.Budget - t.Fixed, nil
	case r.Basis == Nominal:
		return int64(math.Floor(float64(Float*t.elements)/r.Compress)) - t.outsideBits, nil
	case r.Basis == File:
		if t.in.FileAfter == nil || t.in.FileBefore <= 0 {
			return 0, fmt.Errorf("plan: the size of the files is not known, so they cannot be the basis")
		}
		return int64(math.Floor(float64(t.in.FileBefore)/r.Compress)) - t.Fixed, nil
	}
	return int64(math.Floor(float64(t.in.PayloadBefore)/r.Compress)) - t.Fixed, nil
}

func (t *Table) problem(r Request, limit int64) *allocate.Problem {
	name := "payload bytes"
	if r.nominal() {
		name = "nominal bits"
	}
	p := &allocate.Problem{Limits: []allocate.Limit{{Name: name, Max: limit}}}
	if r.MaxBOPs > 0 {
		p.Limits = append(p.Limits, allocate.Limit{Name: "bit operations", Max: r.MaxBOPs})
	}
	for i, u := range t.Units {
		it := allocate.Item{Name: u.Name}
		for _, o := range t.Options[i] {
			c := allocate.Choice{Bits: o.Bits, Cost: o.Omega, Use: []int64{o.Bytes}}
			if r.nominal() {
				c.Use[0] = o.nominal
			}
			if r.MaxBOPs > 0 {
				c.Use = append(c.Use, o.bops)
			}
			it.Choices = append(it.Choices, c)
		}
		p.Items = append(p.Items, it)
	}
	return p
}

func (r Request) nominal() bool { return r.Basis == Nominal && r.Budget == 0 }

// fill writes the assignment into d.
func (t *Table) fill(d *Document, sol *allocate.Solution) error {
	picks := sol.Pick
	d.Objective = sol.Cost
	d.Bits = t.bits(picks)
	d.Flow = t.Flow(d.Bits)
	d.Bytes.After = t.Fixed
	nominal := t.outsideBits
	for i, k := range picks {
		d.Bytes.After += t.Options[i][k].Bytes
		nominal += t.Options[i][k].nominal
	}
	d.Compress.Achieved = ratio(d.Bytes.Before, d.Bytes.After)
	d.Compress.Nominal = ratio(Float*t.elements, nominal)
	if t.in.FileAfter != nil {
		n, err := t.in.FileAfter(d.Bits)
		if err != nil {
			return fmt.Errorf("plan: size of the files: %w", err)
		}
		d.Compress.File = ratio(t.in.FileBefore, n)
	}
	return nil
}

func (t *Table) bits(picks []int) map[string]int {
	out := map[string]int{}
	for i, k := range picks {
		out[t.Units[i].Name] = t.Options[i][k].Bits
	}
	return out
}

// Flow lists the units that get less than 32 bits by ascending number of weights; equals stay in graph order.
func (t *Table) Flow(bits map[string]int) []string {
	idx := make([]int, 0, len(t.Units))
	for i, u := range t.Units {
		if b, ok := bits[u.Name]; ok && b < Float && len(u.Weights) > 0 {
			idx = append(idx, i)
		}
	}
	sort.SliceStable(idx, func(a, b int) bool { return t.Units[idx[a]].Elements < t.Units[idx[b]].Elements })
	out := make([]string, 0, len(idx))
	for _, i := range idx {
		out = append(out, t.Units[i].Name)
	}
	return out
}

// Option is the entry of a unit at a width; false when the table does not hold it.
func (t *Table) Option(unit string, bits int) (Option, bool) {
	for i, u := range t.Units {
		if u.Name != unit {
			continue
		}
		for _, o := range t.Options[i] {
			if o.Bits == bits {
				return o, true
			}
		}
	}
	return Option{}, false
}

// Uniform is the widest width that fits for all units that are not fixed: the baseline. An infeasible Document when even the
// narrowest does not.
func (t *Table) Uniform(r Request) (*Document, error) {
	widths, err := r.widths()
	if err != nil {
		return nil, err
	}
	fixed, err := r.assigned(t.Units)
	if err != nil {
		return nil, err
	}
	var last *Document
	for k := len(widths) - 1; k >= 0; k-- {
		one := &Table{Units: t.Units, Fixed: t.Fixed, in: t.in, sensitivity: t.sensitivity, elements: t.elements, outsideBits: t.outsideBits}
		for i, u := range t.Units {
			o := t.Options[i]
			if _, is := fixed[u.Name]; !is && len(o) > 1 {
				o = o[k : k+1]
			}
			one.Options = append(one.Options, o)
		}
		if last, err = one.Solve(r); err != nil {
			return nil, err
		}
		last.Table = t
		if !last.Infeasible() {
			return last, nil
		}
	}
	return last, nil
}

func (t *Table) frontier(d *Document, r Request) error {
	if len(t.Units) > fewUnits {
		return nil
	}
	q := r
	q.Basis = Achieved
	pts, err := allocate.Frontier(t.problem(q, 0), frontierPoints)
	if err != nil {
		return fmt.Errorf("plan: frontier: %w", err)
	}
	for _, p := range pts {
		n := p.Use + t.Fixed
		d.Frontier = append(d.Frontier, Point{Bytes: n, Achieved: ratio(t.in.PayloadBefore, n), Objective: p.Cost, Bits: t.bits(p.Pick)})
	}
	return nil
}

// infeasible writes what can be reached.
func (t *Table) infeasible(d *Document, r Request, e *allocate.InfeasibleError) error {
	requested := d.Compress.Requested
	*d = Document{Status: "infeasible", Sensitivity: d.Sensitivity, Bits: map[string]int{}, Flow: []string{}, Frontier: d.Frontier,
		Smallest: d.Smallest, Table: t}
	d.Compress.Requested, d.Bytes.Before = requested, t.in.PayloadBefore
	most, basis := ratio(t.in.PayloadBefore, d.Smallest), Achieved
	switch {
	case e.Limit.Name == "bit operations":
		d.Reason = fmt.Sprintf("no widths keep %d bit operations; the least is %d; the smallest reachable size is %d bytes", e.Limit.Max, e.Smallest, d.Smallest)
		return nil
	case r.nominal():
		most, basis = ratio(Float*t.elements, e.Smallest+t.outsideBits), Nominal
	case r.Basis == File && r.Budget == 0:
		bits := map[string]int{}
		for i, u := range t.Units {
			least := t.Options[i][0]
			for _, o := range t.Options[i] {
				if o.Bytes < least.Bytes {
					least = o
				}
			}
			bits[u.Name] = least.Bits
		}
		n, err := t.in.FileAfter(bits)
		if err != nil {
			return fmt.Errorf("plan: size of the files: %w", err)
		}
		most, basis = ratio(t.in.FileBefore, n), File
	}
	d.Reason = fmt.Sprintf("no plan is %.4g times smaller (%s); the smallest reachable size is %d bytes of weights, %.3f times smaller (%s)",
		requested, basis, d.Smallest, math.Floor(most*1000)/1000, basis)
	return nil
}

func ratio(before, after int64) float64 {
	if after <= 0 {
		return 0
	}
	return float64(before) / float64(after)
}
