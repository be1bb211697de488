package op

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mqatc/onnx/ir"
)

// ConflictError reports a value whose type in the file cannot be what follows from the graph. Files with outdated shapes exist, and
// run; InferAnew takes them.
type ConflictError struct {
	Value, Inferred, File string
	// OfShape says that only sizes or ranks differ.
	OfShape bool
	Reason  error
}

// shapeError is the reason of a conflict between shapes.
type shapeError struct{ error }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("inferred %s, the file says %s: %v", e.Inferred, e.File, e.Reason)
}

func (e *ConflictError) Unwrap() error { return e.Reason }

// InferModel infers the types of every value of m, those of subgraphs included, and joins them with the types in the file; a
// contradiction is a *ConflictError that names both. Operators of other domains without a row keep the file's types. A function of the
// model is inferred anew for each node that calls it; its own body stays as it is.
//
// inputShapes gives graph inputs other sizes, one per dimension; -1 keeps the file's. A symbol that a size replaces is replaced
// in all types of the file. Where a size contradicts a fixed size of the file, the file's types of computed values are forgotten.
// An unknown name or another rank is an error.
func InferModel(m *ir.Model, inputShapes map[string][]int64) error {
	if m == nil || m.Graph == nil {
		return fmt.Errorf("shape inference: the model has no graph")
	}
	if err := overrideInputs(m.Graph, inputShapes); err != nil {
		return err
	}
	r := newRun(m.Opset(""))
	r.merge = true
	r.parts = map[*ir.Value]*part{}
	r.local = map[funcKey]*ir.Function{}
	for _, f := range m.Functions {
		r.local[funcKey{f.Domain, f.Name, f.Overload}] = f
	}
	if err := inferGraph(r, m.Graph); err != nil {
		return fmt.Errorf("shape inference: %w", err)
	}
	return nil
}

func overrideInputs(g *ir.Graph, shapes map[string][]int64) error {
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	bound := map[string]int64{}
	forget := false
	for _, name := range names {
		v := g.Value(name)
		if v == nil || !v.IsInput() || v.IsInitializer() {
			return fmt.Errorf("input shape: the model has no input %q; it has %s", name, inputNames(g))
		}
		changed, err := overrideInput(v, shapes[name], bound)
		if err != nil {
			return fmt.Errorf("input shape: %w", err)
		}
		forget = forget || changed
	}
	if forget {
		ClearTypes(g)
		return nil
	}
	if len(bound) > 0 {
		bindSymbols(g, bound)
	}
	return nil
}

func inputNames(g *ir.Graph) string {
	var names []string
	for _, v := range g.Inputs() {
		if !v.IsInitializer() {
			names = append(names, fmt.Sprintf("%q", v.Name()))
		}
	}
	return strings.Join(names, ", ")
}

// overrideInput sets the sizes of v, records what they say of its symbols, and reports whether a fixed size changed.
func overrideInput(v *ir.Value, dims []int64, bound map[string]int64) (bool, error) {
	old := v.Type.Shape
	if old != nil && len(old) != len(dims) {
		return false, fmt.Errorf("input %q has shape %v, %v has another number of dimensions", v.Name(), old, dims)
	}
	shape := make(ir.Shape, len(dims))
	changed := false
	for i, d := range dims {
		shape[i] = ir.UnknownDim()
		if old != nil {
			shape[i] = old[i]
		}
		if d < -1 {
			return false, fmt.Errorf("input %q: size %d of %v is negative", v.Name(), d, dims)
		}
		if d < 0 {
			continue
		}
		if shape[i].Known() && shape[i].Size != d {
			changed = true
		}
		if s := shape[i].Symbol; s != "" {
			if b, ok := bound[s]; ok && b != d {
				return false, fmt.Errorf("input %q: dimension %q is %d here and %d elsewhere", v.Name(), s, d, b)
			}
			bound[s] = d
		}
		shape[i] = ir.Dim{Size: d, Denote: shape[i].Denote}
	}
	if _, err := checked(ir.TensorType(v.Type.Elem, shape)); err != nil {
		return false, fmt.Errorf("input %q: %w", v.Name(), err)
	}
	v.Type.Kind = ir.KindTensor
	v.Type.Shape = shape
	return changed, nil
}

// bindSymbols replaces bound symbols in the types of all values; an expression in which one of them may stand becomes unknown.
func bindSymbols(g *ir.Graph, bound map[string]int64) {
	for _, v := range g.Inputs() {
		bindShape(v.Type.Shape, bound)
	}
	for n := g.First(); n != nil; n = n.Next() {
		for _, o := range n.Outputs() {
			bindShape(o.Type.Shape, bound)
		}
		for _, s := range n.Subgraphs() {
			bindSymbols(s, bound)
		}
	}
}

func bindShape(s ir.Shape, bound map[string]int64) {
	for i := range s {
		if s[i].Symbol == "" {
			continue
		}
		if d, ok := bound[s[i].Symbol]; ok {
			s[i] = ir.Dim{Size: d, Denote: s[i].Denote}
			continue
		}
		for b := range bound {
			if strings.Contains(s[i].Symbol, b) {
				s[i] = ir.Dim{Size: -1, Denote: s[i].Denote}
				break
			}
		}
	}
}

// mergeTypes joins an inferred type with the file's.
func mergeTypes(t, file ir.Type) (ir.Type, error) {
	if t.Kind != file.Kind {
		return t, fmt.Errorf("they are of different kinds")
	}
	if t.Inner != nil && file.Inner != nil {
		in, err := mergeTypes(*t.Inner, *file.Inner)
		if err != nil {
			return t, err
		}
		t.Inner = &in
	} else if t.Inner == nil {
		t.Inner = file.Inner
	}
	if t.Key == ir.Undefined {
		t.Key = file.Key
	}
	if t.Elem == ir.Undefined {
		t.Elem = file.Elem
	} else if file.Elem != ir.Undefined && t.Elem != file.Elem {
		return t, fmt.Errorf("element types differ")
	}
	if t.Denote == "" {
		t.Denote = file.Denote
	}
	if t.Shape == nil {
		t.Shape = file.Shape.Clone()
		return t, nil
	}
	if file.Shape == nil {
		return t, nil
	}
	if len(t.Shape) != len(file.Shape) {
		return t, shapeError{errors.New("ranks differ")}
	}
	for i := range t.Shape {
		d, err := meet(t.Shape[i], file.Shape[i])
		if err != nil {
			return t, shapeError{err}
		}
		d.Denote = file.Shape[i].Denote
		t.Shape[i] = d
	}
	return t, nil
}

// keepSymbols leaves graph outputs the names of their dimensions.
func keepSymbols(s, file ir.Shape) {
	if len(s) != len(file) {
		return
	}
	for i := range s {
		if !s[i].Known() && file[i].Symbol != "" {
			s[i] = file[i]
		}
	}
}
