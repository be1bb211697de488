// Package task knows what networks eat and what they are for: preprocessing, loss, targets, decoding and metric, by name.
package task

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"mqatc/onnx/ir"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
)

// MetaKey is the key under which an emitted model keeps its task.
const MetaKey = "mqatc.task"

// Losses that a task can name.
const (
	LossDistill = "distill" // agreement with the float network
	LossWDR     = "wdr"
	// LossWDRDistill trains a pose network towards the float network's answers where objects are.
	LossWDRDistill = "wdr-distill"
)

// Task is what a network is for.
type Task struct {
	Name string    `yaml:"task"`
	Prep prep.Spec `yaml:"input"`
	// Loss is trained on where the user names none, and says how the network is measured: wdr by the poses' errors, distill by
	// agreement with the float network.
	Loss string      `yaml:"loss"`
	WDR  *wdr.Config `yaml:"wdr,omitempty"`

	about string
}

// About says in a line what the task is.
func (t Task) About() string { return t.about }

// Names lists the tasks of the table in its order.
func Names() []string {
	var out []string
	for _, t := range table {
		out = append(out, t.Name)
	}
	return out
}

// Lookup finds a task by its name in the table, or reads FILE.yaml; the empty name is the default, image.
func Lookup(name string) (Task, error) {
	if name == "" {
		name = "image"
	}
	for _, t := range table {
		if t.Name == name {
			return t, nil
		}
	}
	if ext := strings.ToLower(name); strings.HasSuffix(ext, ".yaml") || strings.HasSuffix(ext, ".yml") {
		f, err := os.Open(name)
		if err != nil {
			return Task{}, fmt.Errorf("task: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxText+1))
		if err != nil {
			return Task{}, fmt.Errorf("task %s: %w", name, err)
		}
		t, err := Parse(text)
		if err != nil {
			return Task{}, fmt.Errorf("task %s: %w", name, err)
		}
		return t, nil
	}
	return Task{}, fmt.Errorf("unknown task %q: one of %s, or FILE.yaml", name, strings.Join(Names(), ", "))
}

const maxText = 1 << 20

// Parse reads a task in YAML or JSON. What the text leaves out is as in the task of the table that it names, or as in image.
func Parse(text []byte) (Task, error) {
	if len(text) > maxText {
		return Task{}, fmt.Errorf("text of more than %d bytes", maxText)
	}
	var head struct {
		Name string `yaml:"task"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return Task{}, errors.New(firstLine(err))
	}
	t, err := Lookup("")
	if err != nil {
		return t, err
	}
	for _, row := range table {
		if row.Name == head.Name {
			t = row
		}
	}
	if t.WDR != nil {
		c := *t.WDR
		t.WDR = &c
	}
	t.Prep.Others = maps.Clone(t.Prep.Others)
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&t); err != nil && !errors.Is(err, io.EOF) {
		return Task{}, errors.New(firstLine(err))
	}
	return t, t.Check()
}

func firstLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Check refuses what cannot be meant.
func (t Task) Check() error {
	if t.Name == "" {
		return fmt.Errorf("the task has no name")
	}
	if err := t.Prep.Check(); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	switch t.Loss {
	case LossDistill:
	case LossWDR:
		var c wdr.Config
		if t.WDR != nil {
			c = *t.WDR
		}
		if _, err := c.WithDefaults(512); err != nil {
			return err
		}
	default:
		return fmt.Errorf("loss %q: %s or %s", t.Loss, LossDistill, LossWDR)
	}
	return nil
}

// Text is the task in YAML, from which Parse makes it again.
func (t Task) Text() (string, error) {
	b, err := yaml.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("task %s: %w", t.Name, err)
	}
	return string(b), nil
}

// Of reads the task that a model keeps; ok is false where it keeps none.
func Of(m *ir.Model) (t Task, ok bool, err error) {
	text, ok := m.Meta.Get(MetaKey)
	if !ok {
		return Task{}, false, nil
	}
	if t, err = Parse([]byte(text)); err != nil {
		return Task{}, true, fmt.Errorf("the model's metadata %s: %w", MetaKey, err)
	}
	return t, true, nil
}

// Keep stores the task in a model.
func (t Task) Keep(m *ir.Model) error {
	text, err := t.Text()
	if err != nil {
		return err
	}
	m.Meta.Set(MetaKey, text)
	return nil
}
