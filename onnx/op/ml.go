package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

const mlDomain = "ai.onnx.ml"

// mlTable lists classical machine learning. Rows name the attributes on which types and sizes depend; nodes have more.
var mlTable = []Schema{
	{Domain: mlDomain, Name: "ArrayFeatureExtractor", Versions: []int64{1}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferFeatureExtractor},
	{Domain: mlDomain, Name: "Binarizer", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Domain: mlDomain, Name: "CastMap", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferCastMap, Attrs: []AttrSpec{
		strAttr("cast_to", "TO_FLOAT")}},
	{Domain: mlDomain, Name: "CategoryMapper", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferCategoryMapper},
	{Domain: mlDomain, Name: "DictVectorizer", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferDictVectorizer, Attrs: []AttrSpec{
		optional(ir.AttrInts, "int64_vocabulary"), optional(ir.AttrStrings, "string_vocabulary")}},
	{Domain: mlDomain, Name: "FeatureVectorizer", Versions: []int64{1}, MinIn: 1, MaxIn: Many, MinOut: 1, MaxOut: 1, Infer: inferFeatureVectorizer, Attrs: []AttrSpec{
		optional(ir.AttrInts, "inputdimensions")}},
	{Domain: mlDomain, Name: "Imputer", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame},
	{Domain: mlDomain, Name: "LabelEncoder", Versions: []int64{1, 2, 4}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferLabelEncoder, Attrs: []AttrSpec{
		optional(ir.AttrStrings, "classes_strings"), optional(ir.AttrFloats, "values_floats"), optional(ir.AttrInts, "values_int64s"),
		optional(ir.AttrStrings, "values_strings"), optional(ir.AttrTensor, "values_tensor")}},
	{Domain: mlDomain, Name: "LinearClassifier", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 2, MaxOut: 2, Infer: inferClassifier, Attrs: classAttrs(
		"classlabels_ints")},
	{Domain: mlDomain, Name: "LinearRegressor", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferRegressor("targets", 1), Attrs: []AttrSpec{
		intAttr("targets", 1)}},
	{Domain: mlDomain, Name: "Normalizer", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameFloat},
	{Domain: mlDomain, Name: "OneHotEncoder", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferOneHotEncoder, Attrs: []AttrSpec{
		optional(ir.AttrInts, "cats_int64s"), optional(ir.AttrStrings, "cats_strings")}},
	{Domain: mlDomain, Name: "SVMClassifier", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 2, MaxOut: 2, Infer: inferClassifier, Attrs: classAttrs(
		"classlabels_ints")},
	{Domain: mlDomain, Name: "SVMRegressor", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferRegressor("", 0)},
	{Domain: mlDomain, Name: "Scaler", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameFloat},
	{Domain: mlDomain, Name: "TreeEnsemble", Versions: []int64{5}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferTreeEnsemble, Attrs: []AttrSpec{
		required(ir.AttrInt, "n_targets")}},
	{Domain: mlDomain, Name: "TreeEnsembleClassifier", Versions: []int64{1, 3}, Deprecated: 5, MinIn: 1, MaxIn: 1, MinOut: 2, MaxOut: 2, Infer: inferClassifier, Attrs: classAttrs(
		"classlabels_int64s")},
	{Domain: mlDomain, Name: "TreeEnsembleRegressor", Versions: []int64{1, 3}, Deprecated: 5, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferRegressor("n_targets", 0), Attrs: []AttrSpec{
		optional(ir.AttrInt, "n_targets")}},
	{Domain: mlDomain, Name: "ZipMap", Versions: []int64{1}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferZipMap, Attrs: classAttrs(
		"classlabels_int64s")},
}

func classAttrs(ints string) []AttrSpec {
	return []AttrSpec{optional(ir.AttrInts, ints), optional(ir.AttrStrings, "classlabels_strings")}
}

// rows are the number of samples in [N, C]; one for [C].
func (c *Ctx) rows() ir.Dim {
	switch x := c.Shape(0); len(x) {
	case 0:
		return ir.UnknownDim()
	case 1:
		return ir.D(1)
	default:
		return x[0]
	}
}

func (c *Ctx) strings(name string) int {
	if a := c.Node.Attr(name); a != nil {
		return len(a.Strings)
	}
	return 0
}

func inferSameFloat(c *Ctx) error {
	c.Out(0, ir.Float32, c.Shape(0))
	return nil
}

// inferFeatureExtractor takes the columns that input 1 lists.
func inferFeatureExtractor(c *Ctx) error {
	x, at := c.Shape(0), c.Shape(1)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	if len(x) == 0 {
		return fmt.Errorf("a scalar has no features")
	}
	columns := unknown
	if at != nil {
		columns = product(nums(at))
	}
	out := ir.Shape{ir.D(1)}
	if len(x) > 1 {
		out = x[:len(x)-1].Clone()
	}
	c.Out(0, c.Elem(0), append(out, columns.dim()))
	return nil
}

func inferCastMap(c *Ctx) error {
	elem, ok := map[string]ir.DType{"TO_FLOAT": ir.Float32, "TO_INT64": ir.Int64, "TO_STRING": ir.String}[c.Node.Str("cast_to", "TO_FLOAT")]
	if !ok {
		return fmt.Errorf("cast_to %q is none of TO_FLOAT, TO_INT64, TO_STRING", c.Node.Str("cast_to", ""))
	}
	c.Out(0, elem, ir.Shape{ir.D(1), ir.UnknownDim()})
	return nil
}

// inferCategoryMapper gives numbers for strings and strings for numbers.
func inferCategoryMapper(c *Ctx) error {
	switch c.Elem(0) {
	case ir.String:
		c.Out(0, ir.Int64, c.Shape(0))
	case ir.Int64:
		c.Out(0, ir.String, c.Shape(0))
	default:
		c.Out(0, ir.Undefined, c.Shape(0))
	}
	return nil
}

func inferDictVectorizer(c *Ctx) error {
	t := c.In(0)
	if t.Kind != ir.KindUnknown && (t.Kind != ir.KindMap || t.Inner == nil) {
		return fmt.Errorf("input 0 is %v, must be a map", t)
	}
	elem := ir.Undefined
	if t.Inner != nil {
		elem = t.Inner.Elem
	}
	size := len(c.Node.Ints("int64_vocabulary")) + c.strings("string_vocabulary")
	c.Out(0, elem, ir.StaticShape(1, int64(size)))
	return nil
}

func inferFeatureVectorizer(c *Ctx) error {
	sum := known(0)
	for _, n := range c.Node.Ints("inputdimensions") {
		if n < 0 {
			return fmt.Errorf("inputdimensions %v are negative", c.Node.Ints("inputdimensions"))
		}
		sum = add(sum, known(n))
	}
	if c.Node.Attr("inputdimensions") == nil {
		sum = unknown
	}
	c.Out(0, ir.Float32, ir.Shape{c.rows(), sum.dim()})
	return nil
}

// inferLabelEncoder takes the element type from the list of values; version 1 turns strings to numbers and back.
func inferLabelEncoder(c *Ctx) error {
	elem := ir.Undefined
	switch a := c.Node.Attr("values_tensor"); {
	case a != nil && a.T != nil:
		elem = a.T.DType()
	case c.Node.Attr("values_floats") != nil:
		elem = ir.Float32
	case c.Node.Attr("values_int64s") != nil:
		elem = ir.Int64
	case c.Node.Attr("values_strings") != nil:
		elem = ir.String
	default:
		return inferCategoryMapper(c)
	}
	c.Out(0, elem, c.Shape(0))
	return nil
}

// inferClassifier gives one label per sample; how many scores stand beside it depends on how binary classes are written.
func inferClassifier(c *Ctx) error {
	elem := ir.Int64
	if c.strings("classlabels_strings") > 0 {
		elem = ir.String
	}
	c.Out(0, elem, ir.Shape{c.rows()})
	c.Out(1, ir.Float32, ir.Shape{c.rows(), ir.UnknownDim()})
	return nil
}

// inferRegressor gives [N, targets] with the number of targets in an attribute; that of absent ones is open where def is 0.
func inferRegressor(targets string, def int64) func(*Ctx) error {
	return func(c *Ctx) error {
		size := ir.UnknownDim()
		if n := c.Node.Int(targets, def); n > 0 {
			size = ir.D(n)
		}
		c.Out(0, ir.Float32, ir.Shape{c.rows(), size})
		return nil
	}
}

func inferTreeEnsemble(c *Ctx) error {
	n := c.Node.Int("n_targets", 0)
	if n <= 0 {
		return fmt.Errorf("n_targets %d is not positive", n)
	}
	c.Out(0, c.Elem(0), ir.Shape{c.rows(), ir.D(n)})
	return nil
}

func inferOneHotEncoder(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, ir.Float32, nil)
		return nil
	}
	if len(x) >= maxRank {
		return fmt.Errorf("the result has %d axes", len(x)+1)
	}
	size := len(c.Node.Ints("cats_int64s")) + c.strings("cats_strings")
	c.Out(0, ir.Float32, append(x.Clone(), ir.D(int64(size))))
	return nil
}

func inferZipMap(c *Ctx) error {
	key := ir.Int64
	if c.strings("classlabels_strings") > 0 {
		key = ir.String
	}
	value := ir.TensorType(ir.Float32, nil)
	c.OutType(0, sequenceOf(ir.Type{Kind: ir.KindMap, Key: key, Inner: &value}))
	return nil
}
