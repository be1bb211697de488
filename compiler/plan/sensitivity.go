package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"github.com/google/renameio/v2"
)

// Weights is the source of sensitivities that are all 1: only the rounding errors of the weights count then.
const Weights = "weights"

// Sensitivity is lambda by layer, a layer being named after its weight.
type Sensitivity struct {
	Source string
	Lambda map[string]float64 // nil means 1 for every layer
}

func (s Sensitivity) of(layer string) (float64, error) {
	if s.Lambda == nil {
		return 1, nil
	}
	l, ok := s.Lambda[layer]
	if !ok {
		return 0, fmt.Errorf("plan: %s has no sensitivity of layer %q: was it measured on this model?", s.Source, layer)
	}
	return l, nil
}

// SensitivityFile is what `mqatc sensitivity -o` writes and `mqatc plan --sensitivity` reads.
type SensitivityFile struct {
	Format   int                `json:"format"` // 1
	Model    string             `json:"model"`  // SHA-256 of the model file
	Task     string             `json:"task"`
	Loss     string             `json:"loss"`
	Seed     uint64             `json:"seed"`
	Probes   int                `json:"probes"`
	Negative int                `json:"negative"` // layers whose estimated trace is below 0; their lambda is 0
	Layers   []SensitivityLayer `json:"layers"`
}

// SensitivityLayer is one layer's estimate.
type SensitivityLayer struct {
	Name   string  `json:"name"` // of the weight
	Module string  `json:"module"`
	N      int64   `json:"weights"`
	Trace  float64 `json:"trace"`
	StdErr float64 `json:"std_err"`
	Lambda float64 `json:"lambda"` // max(trace, 0)
	// Omega is lambda / N * |Q(w) - w|^2 by width in bits.
	Omega map[string]float64 `json:"omega,omitempty"`
}

const maxSensitivityFile = 64 << 20

// ReadSensitivity reads a sensitivity file.
func ReadSensitivity(path string) (Sensitivity, *SensitivityFile, error) {
	none := Sensitivity{}
	info, err := os.Stat(path)
	if err != nil {
		return none, nil, fmt.Errorf("sensitivity: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSensitivityFile {
		return none, nil, fmt.Errorf("sensitivity: %s is no file of at most %d bytes", path, maxSensitivityFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return none, nil, fmt.Errorf("sensitivity: %w", err)
	}
	f := &SensitivityFile{}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(f); err != nil {
		return none, nil, fmt.Errorf("sensitivity: %s: %w", path, err)
	}
	if f.Format != 1 {
		return none, nil, fmt.Errorf("sensitivity: %s has format %d, this program reads 1", path, f.Format)
	}
	s := Sensitivity{Source: path, Lambda: map[string]float64{}}
	for _, l := range f.Layers {
		if _, twice := s.Lambda[l.Name]; twice || l.Name == "" || math.IsNaN(l.Lambda) || math.IsInf(l.Lambda, 0) || l.Lambda < 0 {
			return none, nil, fmt.Errorf("sensitivity: %s: layer %q with lambda %v is nameless, repeated or out of range", path, l.Name, l.Lambda)
		}
		s.Lambda[l.Name] = l.Lambda
	}
	return s, f, nil
}

// Sensitivity is the file's content as a plan takes it.
func (f *SensitivityFile) Sensitivity(source string) Sensitivity {
	s := Sensitivity{Source: source, Lambda: map[string]float64{}}
	for _, l := range f.Layers {
		s.Lambda[l.Name] = l.Lambda
	}
	return s
}

// Check sees that the file was measured on a model: by the SHA-256 of its file, where the sensitivity file tells it, and by the
// names of its layers.
func (f *SensitivityFile) Check(sha string, layers []string) error {
	if f.Model != "" && f.Model != sha {
		return fmt.Errorf("it was measured on another model, of SHA-256 %.16s...; this one has %.16s...", f.Model, sha)
	}
	have := map[string]bool{}
	for _, l := range f.Layers {
		have[l.Name] = true
	}
	for _, name := range layers {
		if !have[name] {
			return fmt.Errorf("it has no sensitivity of layer %q: was it measured on this model?", name)
		}
	}
	return nil
}

// Write puts the file at path by rename.
func (f *SensitivityFile) Write(path string) error {
	f.Format = 1
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("sensitivity: %w", err)
	}
	if err := renameio.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("sensitivity: %w", err)
	}
	return nil
}
