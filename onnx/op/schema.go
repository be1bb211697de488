package op

import (
	"fmt"
	"math"
	"sync"

	"mqatc/onnx/ir"
)

// Many is the MaxIn or MaxOut of an operator that takes any number of them.
const Many = math.MaxInt32

// AttrSpec describes an attribute of an operator.
type AttrSpec struct {
	Name     string
	Kind     ir.AttrKind
	Required bool
	Default  ir.Attr // Kind is AttrUndefined where the standard gives no default
}

// Schema is what is known of one operator, over all of its versions that models of opset 7 and later can contain.
type Schema struct {
	Domain, Name string
	// Versions are the opset versions that introduced or changed the operator, ascending.
	Versions []int64
	// Deprecated is the opset version from which the operator may no longer be used; 0 when it still may.
	Deprecated   int64
	MinIn, MaxIn int
	// Gaps: any of the first MinIn inputs may be left out by an empty name.
	Gaps           bool
	MinOut, MaxOut int
	Attrs          []AttrSpec
	// Random operators give other results at each run and must not be folded.
	Random bool
	// Infer sets the types of the outputs. It reports a node that no input can make valid.
	Infer func(*Ctx) error

	eval func(*evalCtx) []*part
}

// Since is the first opset version that has the operator.
func (s *Schema) Since() int64 {
	if len(s.Versions) == 0 {
		return 1
	}
	return s.Versions[0]
}

// VersionAt is the version of the operator that a model of the given opset uses; 0 when that opset does not have it.
func (s *Schema) VersionAt(opset int64) int64 {
	if s.Deprecated > 0 && opset >= s.Deprecated {
		return 0
	}
	v := int64(0)
	for _, x := range s.Versions {
		if x <= opset {
			v = x
		}
	}
	return v
}

// Attr finds the description of an attribute; nil when the operator has none of that name.
func (s *Schema) Attr(name string) *AttrSpec {
	for i := range s.Attrs {
		if s.Attrs[i].Name == name {
			return &s.Attrs[i]
		}
	}
	return nil
}

// Foldable reports whether equal constant inputs always give equal outputs, computed from them alone.
func (s *Schema) Foldable() bool {
	for _, a := range s.Attrs {
		if a.Kind == ir.AttrGraph {
			return false
		}
	}
	return !s.Random
}

type schemaKey struct{ domain, name string }

var schemaIndex = sync.OnceValue(func() map[schemaKey]*Schema {
	m := map[schemaKey]*Schema{}
	for _, t := range families() {
		for i := range t {
			m[schemaKey{t[i].Domain, t[i].Name}] = &t[i]
		}
	}
	return m
})

// Lookup finds the row of an operator; nil when there is none. The default domain is "".
func Lookup(domain, name string) *Schema { return schemaIndex()[schemaKey{domain, name}] }

// Find is Lookup with an error that names the operator and its domain.
func Find(domain, name string) (*Schema, error) {
	if s := Lookup(domain, name); s != nil {
		return s, nil
	}
	if domain == "" {
		domain = "ai.onnx"
	}
	return nil, fmt.Errorf("operator %s of domain %s is not known", name, domain)
}

// All lists every row, family by family.
func All() []*Schema {
	var out []*Schema
	for _, t := range families() {
		for i := range t {
			out = append(out, &t[i])
		}
	}
	return out
}

func families() [][]Schema {
	return [][]Schema{
		unaryTable, binaryTable, linearTable, convTable, poolTable, normTable, reduceTable, shapeTable, sliceTable, resizeTable,
		indexTable, generateTable, quantTable, detectTable, sequenceTable, controlTable, recurrentTable, attentionTable, lossTable,
		signalTable, stringTable, trainingTable, microsoftTable,
		microsoftAttentionTable, microsoftQuantTable, mlTable,
	}
}

func intAttr(name string, def int64) AttrSpec {
	return AttrSpec{Name: name, Kind: ir.AttrInt, Default: ir.AInt(name, def)}
}

func floatAttr(name string, def float32) AttrSpec {
	return AttrSpec{Name: name, Kind: ir.AttrFloat, Default: ir.AFloat(name, def)}
}

func strAttr(name, def string) AttrSpec {
	return AttrSpec{Name: name, Kind: ir.AttrString, Default: ir.AString(name, def)}
}

func intsAttr(name string, def ...int64) AttrSpec {
	return AttrSpec{Name: name, Kind: ir.AttrInts, Default: ir.AInts(name, def...)}
}

// optional is an attribute without a default.
func optional(kind ir.AttrKind, name string) AttrSpec { return AttrSpec{Name: name, Kind: kind} }

// required is an attribute that every node must have.
func required(kind ir.AttrKind, name string) AttrSpec {
	return AttrSpec{Name: name, Kind: kind, Required: true}
}
