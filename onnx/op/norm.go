package op

import (
	"fmt"

	"mqatc/onnx/ir"
)

// normTable lists normalizations.
var normTable = []Schema{
	{Name: "BatchNormalization", Versions: []int64{1, 6, 7, 9, 14, 15}, MinIn: 5, MaxIn: 5, MinOut: 1, MaxOut: 5, Infer: inferBatchNorm, Attrs: []AttrSpec{
		floatAttr("epsilon", 1e-05), floatAttr("momentum", 0.9), intAttr("spatial", 1), intAttr("training_mode", 0),
	}},
	{Name: "InstanceNormalization", Versions: []int64{1, 6, 22}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferChannelNorm, Attrs: []AttrSpec{
		floatAttr("epsilon", 1e-05),
	}},
	{Name: "GroupNormalization", Versions: []int64{18, 21}, MinIn: 3, MaxIn: 3, MinOut: 1, MaxOut: 1, Infer: inferGroupNorm, Attrs: []AttrSpec{
		floatAttr("epsilon", 1e-05), required(ir.AttrInt, "num_groups"), intAttr("stash_type", 1),
	}},
	{Name: "LayerNormalization", Versions: []int64{17}, MinIn: 2, MaxIn: 3, MinOut: 1, MaxOut: 3, Infer: inferLayerNorm, Attrs: []AttrSpec{
		intAttr("axis", -1), floatAttr("epsilon", 1e-05), intAttr("stash_type", 1),
	}},
	// Not of the standard: onnxruntime's optimizer writes it into the default domain.
	{Name: "SimplifiedLayerNormalization", Versions: []int64{1}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 2, Infer: inferSimplifiedNorm, Attrs: []AttrSpec{
		intAttr("axis", -1), floatAttr("epsilon", 1e-5), intAttr("stash_type", 1),
	}},
	{Name: "RMSNormalization", Versions: []int64{23}, MinIn: 2, MaxIn: 2, MinOut: 1, MaxOut: 1, Infer: inferLayerNorm, Attrs: []AttrSpec{
		intAttr("axis", -1), floatAttr("epsilon", 1e-05), intAttr("stash_type", 1),
	}},
	{Name: "LRN", Versions: []int64{1, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		floatAttr("alpha", 1e-04), floatAttr("beta", 0.75), floatAttr("bias", 1.0), required(ir.AttrInt, "size"),
	}},
	{Name: "LpNormalization", Versions: []int64{1, 22}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		intAttr("axis", -1), intAttr("p", 2),
	}},
	{Name: "MeanVarianceNormalization", Versions: []int64{9, 13}, MinIn: 1, MaxIn: 1, MinOut: 1, MaxOut: 1, Infer: inferSame, Attrs: []AttrSpec{
		intsAttr("axes", 0, 2, 3),
	}},
}

func inferBatchNorm(c *Ctx) error {
	x := c.Shape(0)
	channels := ir.UnknownDim()
	if len(x) > 1 {
		channels = x[1]
	} else if len(x) == 1 {
		channels = ir.D(1)
	}
	for i := 1; i < 5; i++ {
		if c.Node.Int("spatial", 1) == 0 {
			break
		}
		if err := c.biasLen(i, channels); err != nil {
			return err
		}
		if s := c.Shape(i); len(s) == 1 && !channels.Known() {
			channels = s[0]
		}
	}
	c.OutType(0, c.In(0))
	for i := 1; i < c.NumOut(); i++ {
		c.Out(i, c.Elem(3), ir.Shape{channels})
	}
	return nil
}

// inferChannelNorm serves normalizations whose scale and bias have one entry per channel.
func inferChannelNorm(c *Ctx) error {
	if err := c.needRank(0, 3, maxRank); err != nil {
		return err
	}
	for i := 1; i < 3; i++ {
		if x := c.Shape(0); x != nil {
			if err := c.biasLen(i, x[1]); err != nil {
				return err
			}
		}
	}
	return inferSame(c)
}

func inferGroupNorm(c *Ctx) error {
	if err := c.needRank(0, 2, maxRank); err != nil {
		return err
	}
	groups := c.Node.Int("num_groups", 1)
	if groups <= 0 {
		return fmt.Errorf("num_groups %d is not positive", groups)
	}
	if x := c.Shape(0); x != nil && x[1].Known() {
		if x[1].Size%groups != 0 {
			return fmt.Errorf("%v channels do not divide into %d groups", x[1], groups)
		}
		for i := 1; i < 3; i++ {
			if s := c.Shape(i); s != nil && (len(s) != 1 || s[0].Known() && s[0].Size != x[1].Size && s[0].Size != groups) {
				return fmt.Errorf("input %d has shape %v, a vector of %v channels or %d groups is needed", i, s, x[1], groups)
			}
		}
	}
	return inferSame(c)
}

// inferLayerNorm also gives the mean and the inverse deviation, of size 1 along the normalized axes.
func inferLayerNorm(c *Ctx) error {
	x := c.Shape(0)
	if x == nil {
		return inferSame(c)
	}
	a, err := axis(c.Node.Int("axis", -1), len(x))
	if err != nil {
		return err
	}
	for i := 1; i < c.NumIn(); i++ {
		s, err := broadcast(x[a:], c.Shape(i))
		if err != nil {
			return err
		}
		if len(s) > len(x)-a {
			return fmt.Errorf("input %d has shape %v, wider than the normalized %v", i, c.Shape(i), x[a:])
		}
	}
	c.OutType(0, c.In(0))
	elem := ir.DType(c.Node.Int("stash_type", 1))
	stats := x.Clone()
	for i := a; i < len(stats); i++ {
		stats[i] = ir.D(1)
	}
	for i := 1; i < c.NumOut(); i++ {
		c.Out(i, elem, stats)
	}
	return nil
}

func inferDropout(c *Ctx) error {
	c.OutType(0, c.In(0))
	c.Out(1, ir.Bool, c.Shape(0))
	return nil
}

// inferSimplifiedNorm is inferLayerNorm with a result of the scale's element type.
func inferSimplifiedNorm(c *Ctx) error {
	if err := inferLayerNorm(c); err != nil {
		return err
	}
	c.Out(0, c.Elem(1), c.Shape(0))
	return nil
}
