package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// stringTable lists text.
var stringTable = []Schema{
	{Name: "StringConcat", Versions: []int64{20}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferBroadcast},
	{Name: "StringSplit", Versions: []int64{20}, MinIn: 1, MaxIn: 1, MinOut: 2, MaxOut: 2, Infer: inferStringSplit, Attrs: []AttrSpec{
		optional(ir.AttrString, "delimiter"), optional(ir.AttrInt, "maxsplit"),
	}},
	{Name: "RegexFullMatch", Versions: []int64{20}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSameBool, Attrs: []AttrSpec{
		optional(ir.AttrString, "pattern"),
	}},
	{Name: "StringNormalizer", Versions: []int64{10}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferStringNormalizer, Attrs: []AttrSpec{
		strAttr("case_change_action", "NONE"), intAttr("is_case_sensitive", 0), optional(ir.AttrString, "locale"),
		optional(ir.AttrStrings, "stopwords"),
	}},
	{Name: "TfIdfVectorizer", Versions: []int64{9}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferTfIdf, Attrs: []AttrSpec{
		required(ir.AttrInt, "max_gram_length"), required(ir.AttrInt, "max_skip_count"), required(ir.AttrInt, "min_gram_length"),
		required(ir.AttrString, "mode"), required(ir.AttrInts, "ngram_counts"), required(ir.AttrInts, "ngram_indexes"),
		optional(ir.AttrInts, "pool_int64s"), optional(ir.AttrStrings, "pool_strings"), optional(ir.AttrFloats, "weights"),
	}},
}

// inferStringSplit gives the parts [..., longest list] and their numbers [...].
func inferStringSplit(c *Ctx) error {
	x := c.Shape(0)
	if len(x) >= maxRank {
		return fmt.Errorf("the result has %d axes", len(x)+1)
	}
	c.Out(1, ir.Int64, x)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	c.Out(0, c.Elem(0), append(x.Clone(), ir.UnknownDim()))
	return nil
}

// inferStringNormalizer serves [C] and [1, C]. Stop words are dropped; of nothing one empty string is made.
func inferStringNormalizer(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		c.Out(0, c.Elem(0), nil)
		return nil
	}
	out := x.Clone()
	switch {
	case len(x) == 1:
	case len(x) == 2 && (!x[0].Known() || x[0].Size == 1):
		out[0] = ir.D(1)
	default:
		return fmt.Errorf("input has shape %v, [C] or [1, C] is needed", x)
	}
	last := len(out) - 1
	if words := c.Node.Attr("stopwords"); words != nil && len(words.Strings) > 0 || !x[last].Known() || x[last].Size == 0 {
		out[last] = ir.UnknownDim()
	}
	c.Out(0, c.Elem(0), out)
	return nil
}

// inferTfIdf gives [C] a vector, and [N, C] a row each, of one count per index of an n-gram.
func inferTfIdf(c *Ctx) error {
	x := c.Shape(0)
	if len(x) > 2 {
		return fmt.Errorf("input has shape %v, rank 1 or 2 is needed", x)
	}
	size := int64(0)
	for _, i := range c.Node.Ints("ngram_indexes") {
		if i < 0 || i > 1<<40 {
			return fmt.Errorf("index %d of an n-gram is out of range", i)
		}
		size = max(size, i+1)
	}
	if size == 0 {
		return fmt.Errorf("ngram_indexes is empty")
	}
	switch {
	case x == nil:
		c.Out(0, ir.Float32, nil)
	case len(x) == 2:
		c.Out(0, ir.Float32, ir.Shape{x[0], ir.D(size)})
	default:
		c.Out(0, ir.Float32, ir.Shape{ir.D(size)})
	}
	return nil
}
