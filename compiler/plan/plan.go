// Package plan chooses the width of every module: it measures what each width costs (Omega, the paper's equation 1) and takes
// (the bytes that emission will write), and lets compiler/allocate solve for the best assignment within the compression asked for.
package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"mqatc/onnx/ir"
	"mqatc/passes/partition"
	"mqatc/passes/quant"
	"mqatc/passes/target"
)

// Float is the width that leaves a module as it is.
const Float = 32

// Bases of compression.
const (
	Achieved = "achieved" // bytes of trained tensors before and of all that stands for them after
	Nominal  = "nominal"  // 32 sum(N) / sum(N bits), N the trained elements: the paper's figure
	File     = "file"     // whole files on disk
)

// Input is what is planned.
type Input struct {
	// Model is the float network that emission starts from, types inferred. Partition divides it, or the same network with other
	// contents of its trained tensors: Model's count.
	Model     *ir.Model
	Partition *partition.Partition
	// PayloadBefore and FileBefore are the bytes of trained tensors and of the whole files as read.
	PayloadBefore, FileBefore int64
	Target                    target.Target
	Quantizer                 string // row of quant.Quantizers whose rounding and storage count; empty means lsq
	// Copies are weights.Copies of the network before equal computations were joined; may be nil.
	Copies    map[string]int64
	PerTensor bool // one scale for each weight instead of one per output channel
	// Starts, where several plans are made of one network, keeps the scales that they begin with. May be nil.
	Starts *quant.Starts
	// FileAfter tells how many bytes the emitted files take at the given widths of modules (or layers); nil leaves file sizes unknown.
	FileAfter func(bits map[string]int) (int64, error)
}

// Request is what is asked for.
type Request struct {
	Compress float64 // at least; by Basis
	Basis    string  // empty means achieved
	// Budget, if positive, is the most bytes of payload after, instead of Compress.
	Budget int64
	Bits   []int // widths to choose from; empty means 2, 4, 8
	// Assign fixes widths by name of a module (or layer), or by role for all modules of that role that are not named. 32 keeps float.
	Assign map[string]int
	// CountSharedPerUse counts a weight in the nominal figure as often as it is used on maps of one size, as the paper counts what
	// CA-SpaceNet's pyramids share; its heads, which read maps of five sizes, count once there too.
	CountSharedPerUse bool
	// Layers gives each weight a width of its own.
	Layers bool
	// MaxBOPs, if positive, bounds the bit operations of one image: multiply-accumulates times width of weights times width of activations.
	MaxBOPs int64
}

// Document is a plan: what `mqatc plan --json` prints. Without a plan that fits, Bits and Flow are empty and Frontier and Smallest say
// what can be reached.
type Document struct {
	Status      string         `json:"status"`      // optimal or infeasible
	Sensitivity string         `json:"sensitivity"` // weights, or where the sensitivities came from
	Bits        map[string]int `json:"bits"`
	Flow        []string       `json:"flow"` // modules to be quantized, by ascending number of weights
	Compress    Compress       `json:"compress"`
	Bytes       Bytes          `json:"bytes"`
	Objective   float64        `json:"objective"` // sum of Omega
	Frontier    []Point        `json:"frontier"`  // by descending size
	Smallest    int64          `json:"smallest"`  // least payload in bytes that the widths allow

	Table *Table `json:"-"`
	// Reason says why nothing fits; empty for an optimal plan.
	Reason string `json:"-"`
}

// Infeasible reports whether no assignment of widths is small enough.
func (d *Document) Infeasible() bool { return d.Status == "infeasible" }

// Compress is a compression by the three measures; 0 where it is not known.
type Compress struct {
	Requested float64 `json:"requested"`
	Achieved  float64 `json:"achieved"`
	Nominal   float64 `json:"nominal"`
	File      float64 `json:"file"`
}

// Bytes are those of the payload.
type Bytes struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}

// Point is an assignment that no other beats both in size and in objective.
type Point struct {
	Bytes     int64          `json:"bytes"`
	Achieved  float64        `json:"achieved"`
	Objective float64        `json:"objective"`
	Bits      map[string]int `json:"bits"`
}

// Make measures and solves. A request that cannot be met is no error: its Document says so.
func Make(in Input, s Sensitivity, r Request) (*Document, error) {
	t, err := Measure(in, s, r)
	if err != nil {
		return nil, err
	}
	return t.Solve(r)
}

func (r Request) widths() ([]int, error) {
	bits := slices.Clone(r.Bits)
	if len(bits) == 0 {
		bits = []int{2, 4, 8}
	}
	slices.Sort(bits)
	bits = slices.Compact(bits)
	for _, b := range bits {
		if !(b >= 1 && b <= 8) && b != Float {
			return nil, fmt.Errorf("plan: %d bits: a width is 1 to 8, or %d for float", b, Float)
		}
	}
	return bits, nil
}

func (r Request) check() error {
	switch r.Basis {
	case "", Achieved, Nominal, File:
	default:
		return fmt.Errorf("plan: unknown basis %q: %s, %s or %s", r.Basis, Achieved, Nominal, File)
	}
	if r.Budget < 0 || r.MaxBOPs < 0 {
		return fmt.Errorf("plan: a budget of %d bytes and %d bit operations", r.Budget, r.MaxBOPs)
	}
	if r.Budget == 0 && !(r.Compress > 0 && r.Compress <= 1e6) {
		return fmt.Errorf("plan: compression of %v times", r.Compress)
	}
	return nil
}

// assigned resolves Assign to units: names first, then roles.
func (r Request) assigned(units []Unit) (map[string]int, error) {
	out := map[string]int{}
	keys := make([]string, 0, len(r.Assign))
	for k, b := range r.Assign {
		keys = append(keys, k)
		if !(b >= 1 && b <= 8) && b != Float {
			return nil, fmt.Errorf("plan: %s=%d: a width is 1 to 8, or %d for float", k, b, Float)
		}
	}
	sort.Strings(keys)
	named := map[string]bool{}
	for _, k := range keys {
		for _, u := range units {
			if u.Name == k {
				out[k], named[k] = r.Assign[k], true
			}
		}
	}
	for _, k := range keys {
		found := named[k]
		for _, u := range units {
			if u.Role != k || named[k] {
				continue
			}
			found = true
			if !named[u.Name] {
				out[u.Name] = r.Assign[k]
			}
		}
		if !found {
			return nil, &UnknownModuleError{k, units}
		}
	}
	return out, nil
}

// CheckAssign refuses widths, by name or role, that the modules of p cannot take.
func CheckAssign(p *partition.Partition, assign map[string]int) error {
	_, err := Request{Assign: assign}.assigned(Modules(p))
	return err
}

// UnknownModuleError says that Assign names something that is neither a module nor a role.
type UnknownModuleError struct {
	Name  string
	Units []Unit
}

// Error lists what there is.
func (e *UnknownModuleError) Error() string {
	var list []string
	for i, u := range e.Units {
		if i == 12 {
			list = append(list, "...")
			break
		}
		s := u.Name
		if u.Role != "" && u.Role != u.Name {
			s += " (" + u.Role + ")"
		}
		list = append(list, s)
	}
	return fmt.Sprintf("plan: %q is neither a module nor a role; the model has %s", e.Name, strings.Join(list, ", "))
}
