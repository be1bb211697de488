package mqat

import (
	"fmt"
	"math"
	"slices"

	"mqatc/compiler/fit"
	"mqatc/compiler/plan"
)

// Config says how a network is quantized; the zero value of a field means the default in brackets.
type Config struct {
	Method      string         // mqat, uniform, hawq or ptq [mqat]
	Quantizer   string         // a trained row of passes/quant [lsq]
	Bits        []int          // widths to choose from [2, 4, 8]
	Compress    float64        // ratio before/after that must be reached
	Basis       string         // achieved, nominal or file [achieved]
	Budget      int64          // bytes of payload instead of Compress, where above 0
	Assign      map[string]int // widths given by hand, by module name or role
	Activations int            // 8 or 0 for none
	PerTensor   bool
	Target      string  // row of passes/target [onnxruntime]
	Probe       bool    // run 2-bit probes
	Epochs      float64 // of a stage [as many as usualWork allows, at most mostEpochs]
	Steps       int     // most optimizer steps of a stage; 0 means no bound
	Batch       int     // [8]
	LR          float64 // taken as it is where given; the default is tried before a training and lowered if it makes things worse [0.002 for adam: how far a tensor moves in a step relative to its size, for weights of 4 bits; 0.01 for sgd]
	Optimizer   string  // row of passes/step [adam]
	ClipNorm    float64 // [5]
	Probes      int     // Hessian probes at most [32, fewer for networks of more than probeWork allows, at least 8]
	Planner     string  // ilp takes the integer program's optimum, measured the best of the assignments that fit without training [measured]
	Granularity string  // what gets a width of its own, module, layer, or auto for the better of the two before training [auto]
	Placement   string  // measured leaves activations float whose quantization costs most, all quantizes all that the target can [measured]
	NoEqualize  bool    // leave activations as they are instead of scaling them by channel so that they suit 8 bits
	Sensitivity string  // "" measures the Hessian, "weights" takes lambda = 1
	// Given are sensitivities of the float network that were measured before, instead of Sensitivity. May be nil.
	Given   *plan.SensitivityFile
	Seed    uint64
	Threads int
	Lower   bool      // see fit.Options
	Forms   fit.Forms // see fit.Options; may be nil
	Device  string    // of onnxruntime, for training and for the networks that are measured on the way; emitted ones are run on the CPU

	tryRates bool
}

// Methods that Config knows.
var Methods = []string{"mqat", "uniform", "hawq", "ptq"}

// withDefaults fills in and checks.
func (c Config) withDefaults() (Config, error) {
	set := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	set(&c.Method, "mqat")
	set(&c.Quantizer, "lsq")
	set(&c.Basis, "achieved")
	set(&c.Target, "onnxruntime")
	set(&c.Planner, "measured")
	set(&c.Optimizer, "adam")
	set(&c.Placement, "measured")
	set(&c.Granularity, "auto")
	if len(c.Bits) == 0 {
		c.Bits = []int{2, 4, 8}
	}
	c.Bits = append([]int(nil), c.Bits...)
	slices.Sort(c.Bits)
	c.Bits = slices.Compact(c.Bits)
	for _, b := range c.Bits {
		if b < 1 || b > 8 {
			return c, fmt.Errorf("width %d is not in 1..8", b)
		}
	}
	if !slices.Contains(Methods, c.Method) {
		return c, fmt.Errorf("unknown method %q: one of %v", c.Method, Methods)
	}
	if err := checkPlanner(c.Planner); err != nil {
		return c, err
	}
	if !slices.Contains(Granularities, c.Granularity) {
		return c, fmt.Errorf("unknown granularity %q: one of %v", c.Granularity, Granularities)
	}
	if !slices.Contains(Placements, c.Placement) {
		return c, fmt.Errorf("unknown placement %q: one of %v", c.Placement, Placements)
	}
	if c.Compress == 0 && c.Budget == 0 {
		c.Compress = 4
	}
	if c.Budget == 0 && !(c.Compress >= 1 && c.Compress <= 1000) {
		return c, fmt.Errorf("compression %g is not in 1..1000", c.Compress)
	}
	if c.Activations != 0 && c.Activations != 8 {
		return c, fmt.Errorf("activations of %d bits: 8 or none", c.Activations)
	}
	if c.LR == 0 {
		c.tryRates = true
		c.LR = 0.01
		if c.Optimizer == "adam" || c.Optimizer == "adamw" {
			c.LR = 0.002
		}
	}
	if c.Batch == 0 {
		c.Batch = 8
	}
	if c.ClipNorm == 0 {
		c.ClipNorm = 5
	}
	if !(c.Epochs >= 0 && c.Epochs <= math.MaxInt32) || c.Batch < 1 || !(c.LR >= 0 && c.LR <= math.MaxFloat32) || c.Steps < 0 || c.Probes < 0 {
		return c, fmt.Errorf("epochs %g, batch %d, learning rate %g, steps %d, probes %d: none may be negative or infinite", c.Epochs, c.Batch, c.LR, c.Steps, c.Probes)
	}
	return c, c.checkGranularity()
}

// checkGranularity refuses widths by layer where nothing would measure them.
func (c Config) checkGranularity() error {
	switch {
	case c.Granularity == "layer" && c.Method == "uniform", c.Granularity == "module" && c.Method == "hawq":
		return fmt.Errorf("method %s does not give each %s a width of its own", c.Method, c.Granularity)
	case c.Granularity != "layer" || c.Method == "hawq":
	case c.Planner != "measured":
		return fmt.Errorf("granularity layer needs planner measured, not %s", c.Planner)
	case c.Basis != plan.Achieved && c.Budget == 0:
		return fmt.Errorf("granularity layer needs compress-basis %s, not %s", plan.Achieved, c.Basis)
	}
	return nil
}

// Check refuses what no run can take.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}
