// Package report writes what a run found: report.json for programs and report.html, one self-contained page, for people.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Report is everything a run tells. Sizes are bytes, compressions are ratios before/after, fractions are 0..1.
type Report struct {
	Model         string           `json:"model"`
	Method        string           `json:"method"`
	Quantizer     string           `json:"quantizer,omitempty"`
	Target        string           `json:"target"`
	Task          string           `json:"task"`
	Loss          string           `json:"loss"`
	Metric        string           `json:"metric"`
	LowerIsBetter bool             `json:"lower_is_better,omitempty"` // of the metric
	Seed          uint64           `json:"seed"`
	Notes         []string         `json:"notes,omitempty"`
	Data          Data             `json:"data"`
	Size          Size             `json:"size"`
	Partition     string           `json:"partition"`
	Modules       []Module         `json:"modules"`
	Flow          []string         `json:"flow"`
	Start         string           `json:"start,omitempty"` // module that keeps 2 bits because its probe beat full precision
	Methods       []Method         `json:"methods"`
	Probes        []Probe          `json:"probes,omitempty"`
	Stages        []Stage          `json:"stages"`
	Layers        []Layer          `json:"layers,omitempty"`
	Frontier      []Point          `json:"frontier,omitempty"`
	Agreement     []Agreement      `json:"agreement,omitempty"`
	Verify        []Level          `json:"verify,omitempty"`
	Accuracy      []NamedValue     `json:"accuracy,omitempty"`
	Environ       []NamedString    `json:"environment,omitempty"`
	Curves        map[string]Curve `json:"curves,omitempty"`
	Epochs        float64          `json:"epochs"`
	// Float lists the activations left float because quantizing them costs most, FloatShare the part, in 0..1, of the
	// multiply-accumulates that run in float because of it.
	Float      []string `json:"float_activations,omitempty"`
	FloatShare float64  `json:"float_share,omitempty"`
	Outside    []string `json:"outside_modules,omitempty"`
	SecondsAll float64  `json:"seconds"`
}

// Data says what was trained and measured on.
type Data struct {
	Train    int    `json:"train"`
	Eval     int    `json:"eval"`
	HeldOut  string `json:"held_out"`
	Preproc  string `json:"preprocessing"`
	BatchLen int    `json:"batch"`
}

// Size is the result's compression by the three measures.
type Size struct {
	PayloadBefore int64   `json:"payload_before"`
	PayloadAfter  int64   `json:"payload_after"`
	FileBefore    int64   `json:"file_before"`
	FileAfter     int64   `json:"file_after"`
	Requested     float64 `json:"requested"`
	Basis         string  `json:"basis"`
	Achieved      float64 `json:"achieved"`
	Nominal       float64 `json:"nominal"`
	File          float64 `json:"file"`
}

// Module is a module's row.
type Module struct {
	Name     string             `json:"name"`
	Role     string             `json:"role"`
	Params   int64              `json:"params"`
	Elements int64              `json:"weights"`
	Layers   int                `json:"layers"`
	Bits     int                `json:"bits"`
	Widths   string             `json:"widths,omitempty"` // of its layers, as 8/4, where they have their own
	Bytes    int64              `json:"bytes"`
	Omega    map[string]float64 `json:"omega,omitempty"` // by bit width
}

// Method is one row of the comparison.
type Method struct {
	Name     string             `json:"name"`
	Metric   float64            `json:"metric"`
	More     map[string]float64 `json:"more,omitempty"`
	Bytes    int64              `json:"bytes"`
	Disk     int64              `json:"disk"`
	Achieved float64            `json:"achieved"`
	Bits     map[string]int     `json:"bits,omitempty"`
	// Widths lists, by module, the widths that occur in it, as "8/4"; empty where every module has one.
	Widths map[string]string `json:"widths,omitempty"`
	Flow   []string          `json:"flow,omitempty"`
	Epochs float64           `json:"epochs"`
}

// Probe is a 2-bit probe of one module (Algorithm 1, lines 1 to 7).
type Probe struct {
	Module string  `json:"module"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Float  float64 `json:"float"`
}

// Stage is the quantization of one module with the training that followed.
type Stage struct {
	Module   string  `json:"module"`
	Bits     int     `json:"bits"`
	Widths   string  `json:"widths,omitempty"`
	Before   float64 `json:"before"`
	After    float64 `json:"after"`
	Kept     bool    `json:"kept"`
	Part     float64 `json:"part"` // of the way of the training that was taken, 0..1
	Steps    int     `json:"steps"`
	LossFrom float64 `json:"loss_from"`
	LossTo   float64 `json:"loss_to"`
}

// Layer is a layer's sensitivity.
type Layer struct {
	Name   string  `json:"name"`
	Module string  `json:"module"`
	N      int64   `json:"weights"`
	Lambda float64 `json:"lambda"`
	StdErr float64 `json:"std_err"`
}

// Point is a point of the frontier of size against importance.
type Point struct {
	Bytes    int64          `json:"bytes"`
	Achieved float64        `json:"achieved"`
	Cost     float64        `json:"cost"`
	Bits     map[string]int `json:"bits"`
}

// Agreement compares one output with the float model's on held-out data.
type Agreement struct {
	Output         string  `json:"output"`
	CosineBefore   float64 `json:"cosine_before"` // quantized, not trained
	CosineAfter    float64 `json:"cosine_after"`
	RelativeBefore float64 `json:"relative_error_before"`
	RelativeAfter  float64 `json:"relative_error_after"`
}

// Level is the comparison of the emitted model with the trained one at one optimization level of onnxruntime.
type Level struct {
	Level  string  `json:"level"`
	Output string  `json:"output"`
	Cosine float64 `json:"cosine"`
	MaxAbs float64 `json:"max_abs"`
	Steps  float64 `json:"mean_steps"`
	OK     bool    `json:"ok"`
}

// NamedValue is a figure with its name.
type NamedValue struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// NamedString is a fact with its name.
type NamedString struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Curve is a loss over a training, means of parts of equal length.
type Curve []float64

// Write puts report.json and report.html into dir, each by rename.
func (r *Report) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, "report.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return renameio.WriteFile(filepath.Join(dir, "report.html"), b.Bytes(), 0o644)
}
