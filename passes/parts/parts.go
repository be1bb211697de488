// Package parts divides a training step by its images, so that several threads train on some images each, every operator on one thread:
// most operators of a step are too small for two threads to halve their time.
//
// The step graph is made twice, for all images and for those of one part, and read side by side. A value that depends on the images and
// whose sizes grow with their number belongs to them; one that depends on them and has the same sizes in both is a sum over images, as the
// gradients are. Nodes up to these sums, of the images of a part, make one graph; the sums of all parts go into another, which updates;
// what states alone decide, such as quantized weights, is computed once for all parts, and so is what labels alone decide of the whole batch.
// A step that mixes images in another way, as
// batch normalization by the batch's own statistics does, is refused with the node that does it.
package parts

import (
	"fmt"

	"mqatc/onnx/ir"
)

// Pass is the name recorded in the nodes made here.
const Pass = "parts"

// Stages are the graphs of a divided step, in the order in which they run.
type Stages struct {
	// Batch computes, of all images together, what follows from inputs alone and is asked of all of them, such as the number of positive
	// examples that a loss is divided by; nil where that is nothing.
	Batch *ir.Model
	// Weights computes from states what all parts read; nil where that is nothing.
	Weights *ir.Model
	// Images computes, of the images of a part, the sums over them.
	Images *ir.Model
	// Update has, for an output V of Images, an input Name(V, k) for each part k, and the outputs of the whole step.
	Update *ir.Model
	// Divided are the inputs of Images that hold a part of the images, in their first dimension.
	Divided []string
	Count   int
}

// Name is what part k gives for an output of Images, as an input of Update.
func Name(output string, k int) string { return fmt.Sprintf("%s.part%d", output, k) }

// Cut divides a step that trains the named tensors into count parts. whole and part are the step graphs for all images and for one part of them, otherwise made alike,
// with gradients of convolutions as operators of grad.Domain; a mean over images in part, other than of what inputs alone decide, is multiplied by
// 1/count by the node that alone reads it.
func Cut(whole, part *ir.Model, count int, trained []string) (*Stages, error) {
	c := &cutter{whole: whole.Graph, g: part.Graph, n: int64(count), kinds: map[*ir.Value]kind{}, axes: map[*ir.Value]int{}, at: map[*ir.Node]stage{},
		places: map[*ir.Value]bool{}, learned: map[*ir.Value]bool{}, lights: map[*ir.Node]bool{}}
	for _, name := range trained {
		if v := part.Graph.Value(name); v != nil {
			c.learned[v] = true
		}
	}
	if err := c.classify(); err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	s, err := c.stages(whole, part)
	if err != nil {
		return nil, fmt.Errorf("pass %s: %w", Pass, err)
	}
	return s, nil
}

// kind is what a value is to the images.
type kind int

const (
	free   kind = iota // does not depend on them
	sized              // does not depend on them but on their number: the same for every image
	images             // grows with them
	summed             // depends on them and does not grow: a sum, or what follows from sums
)

// stage is the graph that a node goes to.
type stage int

const (
	states stage = iota // what is computed from states, wherever it is read
	batch               // what is computed of all images from inputs alone
	each                // part
	update
)

type cutter struct {
	whole, g *ir.Graph
	n        int64
	kinds    map[*ir.Value]kind
	axes     map[*ir.Value]int // the dimension that holds the images
	at       map[*ir.Node]stage
	learned  map[*ir.Value]bool // what trained tensors have a part in
	places   map[*ir.Value]bool // indices of MaxPool, which count the elements of all images together
	lights   map[*ir.Node]bool
	divided  []string
}

// classify says of each value what it is, and of each node where it goes.
func (c *cutter) classify() error {
	for _, v := range c.g.Inputs() {
		k, err := c.grows(v)
		if err != nil {
			return err
		}
		if k {
			if c.axes[v] != 0 {
				return fmt.Errorf("input %q holds the images in dimension %d", v.Name(), c.axes[v])
			}
			c.kinds[v] = images
			c.divided = append(c.divided, v.Name())
		}
	}
	if len(c.divided) == 0 {
		return fmt.Errorf("no input holds images")
	}
	for n := c.g.First(); n != nil; n = n.Next() {
		if err := c.node(n); err != nil {
			return fmt.Errorf("node %v: %w", n, err)
		}
	}
	for _, o := range c.g.Outputs() {
		if k := c.kinds[o]; k == images || k == sized {
			return fmt.Errorf("output %q grows with the images", o.Name())
		}
	}
	return nil
}

// grows reports whether v is larger in the graph of all images, by their number in one dimension, which is noted.
func (c *cutter) grows(v *ir.Value) (bool, error) {
	w := c.whole.Value(v.Name())
	if w == nil {
		return false, fmt.Errorf("%q is not there for all images", v.Name())
	}
	d, ok := v.StaticDims()
	e, okW := w.StaticDims()
	if !ok || !okW || len(d) != len(e) {
		return false, fmt.Errorf("%q has sizes %v, and %v for all images", v.Name(), v.Shape(), w.Shape())
	}
	axis := -1
	for i := range d {
		if d[i] == e[i] {
			continue
		}
		if axis >= 0 || d[i]*c.n != e[i] {
			return false, fmt.Errorf("%q has sizes %v, and %v for all images", v.Name(), d, e)
		}
		axis = i
	}
	c.axes[v] = axis
	return axis >= 0, nil
}

func (c *cutter) node(n *ir.Node) error {
	if len(n.Subgraphs()) > 0 {
		return fmt.Errorf("loops and branches are not divided")
	}
	seen := map[kind]bool{}
	learned := false
	for _, v := range n.Inputs() {
		if v == nil {
			continue
		}
		k := c.kinds[v]
		learned = learned || c.learned[v]
		if v.IsInitializer() && v.Producer() == nil && !v.IsInput() {
			if w := c.whole.Value(v.Name()); w != nil {
				if grow, err := c.grows(v); err != nil || grow {
					return fmt.Errorf("the constant %q is larger for all images", v.Name())
				}
			}
		}
		seen[k] = true
	}
	for _, v := range n.Outputs() {
		c.learned[v] = learned
	}
	out := func(v *ir.Value) (kind, error) {
		grow, err := c.grows(v)
		switch {
		case err != nil:
			return 0, err
		case grow && seen[images]:
			return images, nil
		case grow:
			return sized, nil
		case seen[images]:
			return summed, nil
		}
		return free, nil
	}
	switch {
	case seen[summed]:
		if seen[images] || seen[sized] {
			return fmt.Errorf("what follows from all images goes back into each")
		}
		c.at[n] = update
		for _, v := range n.Outputs() {
			c.kinds[v] = summed
		}
		return nil
	case seen[images]:
		c.at[n] = each
	default:
		c.at[n] = states
	}
	for _, v := range n.Outputs() {
		if v.Name() == "" {
			continue
		}
		k, err := out(v)
		if err != nil {
			return err
		}
		if k == summed && !learned {
			if len(n.Outputs()) > 1 {
				return fmt.Errorf("several results of all images")
			}
			c.at[n], c.kinds[v] = batch, free
			continue
		}
		switch {
		case k == images:
			err = c.imagewise(n, v)
		case k == summed:
			err = c.additive(n)
		case k == sized && !repeats[n.Op], k == free && seen[sized]:
			err = fmt.Errorf("%s of the number of images", n.Op)
		}
		if err != nil {
			return err
		}
		c.kinds[v] = k
	}
	return nil
}
