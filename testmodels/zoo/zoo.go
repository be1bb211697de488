// Package zoo builds the networks of the paper's experiments with seeded weights, as PyTorch's exporter would write them before it
// folds anything: batch normalizations are nodes of their own, weights have dotted names that begin with the author's module, nodes
// are named by the path of calls.
package zoo

import (
	"fmt"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/testmodels/cubesat"
)

// Options of Build; zero values mean the defaults in brackets.
type Options struct {
	Seed          uint64
	Height, Width int     // of the input in pixels [the network's own]
	Factor        float64 // on all channel counts but those of inputs and outputs [1]
}

// Module is a part of a network that the paper gives one bit width: the trained tensors whose names begin with one of Prefixes and a dot.
type Module struct {
	Name, Role string
	Prefixes   []string
}

// Architecture is one row of the zoo.
type Architecture struct {
	Name, About   string
	Height, Width int    // of its own input in pixels
	Multiple      int    // that height and width must be of; 0 takes any
	Task          string // of runtime/task, which says what images it takes
	Modules       []Module

	build func(n *net, height, width int)
	whole func(Options) (*ir.Model, error) // instead of build
}

// Table lists the architectures.
var Table = []Architecture{
	{Name: "cubesat", About: "pose network of the cube satellite: backbone, pyramid, shared heads", Height: 96, Width: 96, Task: "cubesat",
		Modules: []Module{one("backbone", "backbone"), one("fpn", "fpn"), one("head", "head")}, whole: buildCubesat},
	{Name: "wdr", About: "wide-depth-range pose: DarkNet-53, pyramid P3 to P7, heads shared by five levels", Height: 512, Width: 512, Task: "wdr",
		Modules: []Module{one("backbone", "backbone"), one("fpn", "fpn"), one("head", "head")}, build: buildWDR},
	{Name: "caspacenet", About: "CA-SpaceNet: WDR with a second pyramid that is subtracted", Height: 512, Width: 512, Task: "wdr",
		Modules: []Module{one("backbone", "backbone"), {"fpn", "fpn", []string{"fpn", "fpn_sub"}}, one("head", "head")}, build: buildCASpaceNet},
	{Name: "zebrapose", About: "ZebraPose: dilated ResNet-34, ASPP decoder, binary codes", Height: 256, Width: 256, Multiple: 8, Task: "imagenet",
		Modules: []Module{one("backbone", "resnet"), one("decoder", "aspp")}, build: buildZebraPose},
	{Name: "gdrnet", About: "GDR-Net: ResNet-34, rotation head, ConvPnP", Height: 256, Width: 256, Task: "gdrnet",
		Modules: []Module{one("backbone", "backbone"), one("rotation", "rot_head_net"), one("pnp", "pnp_net")}, build: buildGDRNet},
	{Name: "pyrapose", About: "PyraPose: ResNet-50, PFPN, box, class and mask heads", Height: 480, Width: 640, Task: "pyrapose",
		Modules: []Module{one("backbone", "backbone"), one("fpn", "pfpn"), {"head", "head", []string{"box3d", "cls", "mask"}}}, build: buildPyraPose},
	{Name: "fasterrcnn", About: "Faster R-CNN: ResNet-50, FPN, region proposals, box head", Height: 800, Width: 1344, Task: "fasterrcnn",
		Modules: []Module{one("backbone", "backbone"), one("fpn", "fpn"), one("rpn", "rpn"), one("roi", "roi_heads")}, build: buildFasterRCNN},
	{Name: "efficientdet", About: "EfficientDet-D0: EfficientNet-B0, BiFPN, heads with normalizations of each level", Height: 512, Width: 512, Task: "imagenet",
		Modules: []Module{one("backbone", "backbone_net"), one("fpn", "bifpn"), {"head", "head", []string{"regressor", "classifier"}}}, build: buildEfficientDet},
}

func one(role, prefix string) Module { return Module{role, role, []string{prefix}} }

// Find looks an architecture up by name.
func Find(name string) (Architecture, bool) {
	for _, a := range Table {
		if a.Name == name {
			return a, true
		}
	}
	return Architecture{}, false
}

// Owner names the module that a trained tensor belongs to, "" for none.
func (a Architecture) Owner(tensor string) string {
	for _, m := range a.Modules {
		for _, p := range m.Prefixes {
			if strings.HasPrefix(tensor, p+".") {
				return m.Name
			}
		}
	}
	return ""
}

const (
	leastSide, mostSide = 32, 4096
	leastFactor         = 1.0 / 16
	mostFactor          = 4
)

// filled puts the network's own size and a factor of 1 where o has none.
func (a Architecture) filled(o Options) Options {
	if o.Height == 0 && o.Width == 0 {
		o.Height, o.Width = a.Height, a.Width
	}
	if o.Factor == 0 {
		o.Factor = 1
	}
	return o
}

// Check says what of o the network cannot have.
func (a Architecture) Check(o Options) error {
	o = a.filled(o)
	if !(o.Factor >= leastFactor && o.Factor <= mostFactor) {
		return fmt.Errorf("zoo: %s: width factor %v is outside 1/16..%d", a.Name, o.Factor, mostFactor)
	}
	for _, s := range []int{o.Height, o.Width} {
		if s < leastSide || s > mostSide {
			return fmt.Errorf("zoo: %s: input of %dx%d is outside %d..%d pixels", a.Name, o.Width, o.Height, leastSide, mostSide)
		}
		if s%max(a.Multiple, 1) != 0 {
			return fmt.Errorf("zoo: %s: input of %dx%d: sides must be multiples of %d pixels", a.Name, o.Width, o.Height, a.Multiple)
		}
	}
	return nil
}

// Build makes the network. The batch is free, except Faster R-CNN's, which is 1.
func (a Architecture) Build(o Options) (*ir.Model, error) {
	if err := a.Check(o); err != nil {
		return nil, err
	}
	o = a.filled(o)
	if a.whole != nil {
		return a.whole(o)
	}
	m := ir.NewModel(a.Name, 17)
	n := newNet(m.Graph, o)
	a.build(n, o.Height, o.Width)
	if n.Err() == nil {
		n.finish()
	}
	if n.Err() != nil {
		return nil, fmt.Errorf("zoo: %s: %w", a.Name, n.Err())
	}
	return m, nil
}

func buildCubesat(o Options) (*ir.Model, error) {
	if o.Height != o.Width {
		return nil, fmt.Errorf("zoo: cubesat takes square images, not %dx%d", o.Width, o.Height)
	}
	return cubesat.Network(o.Seed, o.Height, o.Factor)
}
