package train

import (
	"fmt"
	"sort"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/runtime/ort"
)

func (e *Engine) allocate() error {
	for i := range 2 {
		e.bufs[i], e.sums[i] = map[string]*ort.Buffer{}, map[string]*ort.Buffer{}
	}
	types := map[string]ir.Type{}
	for _, s := range []*ort.Session{e.step, e.apply} {
		if s == nil {
			continue
		}
		for _, v := range s.Inputs() {
			types[v.Name] = v.Type
		}
	}
	inPlace := map[string]bool{}
	for _, name := range e.layout.InPlace {
		inPlace[name] = true
	}
	own := func(sets *[2]map[string]*ort.Buffer, outputs []ort.ValueInfo, want func(string) bool) error {
		for _, v := range outputs {
			name, ok := strings.CutSuffix(v.Name, newSuffix)
			t, isInput := types[name]
			if !ok || !isInput || !want(name) {
				continue
			}
			for i := range sets {
				if i > 0 && inPlace[name] {
					sets[i][name] = sets[0][name]
					continue
				}
				b, err := newBuffer(name, t)
				if err != nil {
					return err
				}
				sets[i][name] = b
			}
			delete(types, name)
		}
		return nil
	}
	if e.apply != nil {
		made := map[string]bool{}
		for _, v := range e.apply.Outputs() {
			made[v.Name] = true
		}
		if err := own(&e.sums, e.step.Outputs(), func(n string) bool { return !made[n+newSuffix] }); err != nil {
			return err
		}
		for name := range e.sums[0] {
			if !strings.HasSuffix(name, sumSuffix) {
				e.carried = append(e.carried, name)
			}
		}
	}
	if err := own(&e.bufs, e.updating().Outputs(), func(string) bool { return true }); err != nil {
		return err
	}
	for name := range e.bufs[0] {
		e.states = append(e.states, name)
	}
	e.states = append(e.states, e.carried...)
	sort.Strings(e.states)
	for name, t := range types {
		b, err := newBuffer(name, t)
		if err != nil {
			return err
		}
		if e.team.isBetween(name) {
			e.team.between[name] = b
		} else {
			e.feeds[name] = b
		}
	}
	for _, v := range e.step.Outputs() {
		base := strings.TrimSuffix(v.Name, newSuffix)
		if e.bufs[0][base] != nil || e.sums[0][base] != nil {
			continue
		}
		if state, ok := e.layout.In[v.Name]; ok {
			b := e.bufs[0][state]
			if b == nil {
				b = e.sums[0][state]
			}
			if b == nil || !inPlace[state] {
				return fmt.Errorf("%q is to stand in %q, which is no state to write over", v.Name, state)
			}
			e.views[v.Name] = b
			continue
		}
		if at, ok := e.layout.At[v.Name]; ok {
			view, err := viewOf(&e.block, e.layout.Bytes, v, at)
			if err != nil {
				return err
			}
			e.views[v.Name] = view
			continue
		}
		b, err := newBuffer(v.Name, v.Type)
		if err != nil {
			return err
		}
		e.outs[v.Name] = b
	}
	if len(e.states) == 0 || e.outs[lossName] == nil || e.outs[lossName].DType() != ir.Float32 {
		return fmt.Errorf("the graph is no step graph: it needs a float output %q and outputs *%s for some inputs", lossName, newSuffix)
	}
	return nil
}

// viewOf is the place of an output in a block of so many bytes, which is made where it is nil.
func viewOf(block **ort.Buffer, bytes int64, v ort.ValueInfo, at int64) (_ *ort.Buffer, err error) {
	if *block == nil {
		if *block, err = ort.NewBuffer(ir.Uint8, bytes); err != nil {
			return nil, err
		}
	}
	dims, ok := v.Type.Shape.Static()
	if !ok {
		return nil, fmt.Errorf("%q has shape %v, and no place can be had for it", v.Name, v.Type.Shape)
	}
	view, err := (*block).View(at, v.Type.Elem, dims...)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", v.Name, err)
	}
	return view, nil
}

func newBuffer(name string, t ir.Type) (*ort.Buffer, error) {
	dims, ok := t.Shape.Static()
	if !ok {
		return nil, fmt.Errorf("%q has shape %v; a step graph has sizes only", name, t.Shape)
	}
	b, err := ort.NewBuffer(t.Elem, dims...)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return b, nil
}

func (e *Engine) bind() error {
	for p := range 2 {
		for s := range 2 {
			if s == 1 && e.apply == nil {
				continue
			}
			var err error
			if e.stepRuns[p][s], err = e.binding(e.step, p, s); err != nil {
				return err
			}
			if e.apply == nil {
				continue
			}
			if e.applyRuns[p][s], err = e.binding(e.apply, p, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) binding(s *ort.Session, p, sum int) (*ort.Binding, error) {
	in, out := map[string]*ort.Buffer{}, map[string]*ort.Buffer{}
	for _, v := range s.Inputs() {
		sets := []map[string]*ort.Buffer{e.bufs[p], e.sums[sum], e.feeds}
		if e.team != nil {
			sets = append(sets, e.team.between)
		}
		for _, set := range sets {
			if b := set[v.Name]; b != nil {
				in[v.Name] = b
			}
		}
	}
	for _, v := range s.Outputs() {
		base := strings.TrimSuffix(v.Name, newSuffix)
		for _, b := range []*ort.Buffer{e.bufs[1-p][base], e.sums[1-sum][base], e.outs[v.Name], e.views[v.Name]} {
			if b != nil {
				out[v.Name] = b
				break
			}
		}
	}
	var over []string
	for _, name := range e.layout.InPlace {
		over = append(over, name+newSuffix)
	}
	for name := range e.layout.In {
		over = append(over, name)
	}
	return s.Bind(in, out, over...)
}
