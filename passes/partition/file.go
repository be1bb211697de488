package partition

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"mqatc/onnx/ir"
	"mqatc/passes/weights"
)

// File is a modules file: what `mqatc partition -o` writes and --modules reads. Each trained tensor belongs to exactly one module.
type File struct {
	Modules []FileModule `yaml:"modules"`
}

// FileModule names a module and its trained tensors, as names or as patterns with * for any text.
type FileModule struct {
	Name         string   `yaml:"name"`
	Role         string   `yaml:"role,omitempty"`
	Initializers []string `yaml:"initializers"`
}

// ParseFile reads a modules file.
func ParseFile(raw []byte) (*File, error) {
	f := &File{}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil {
		return nil, fmt.Errorf("modules file: %w", err)
	}
	if len(f.Modules) == 0 {
		return nil, fmt.Errorf("modules file: it names no module")
	}
	seen := map[string]bool{}
	for _, m := range f.Modules {
		if m.Name == "" || seen[m.Name] {
			return nil, fmt.Errorf("modules file: module name %q is empty or stands twice", m.Name)
		}
		seen[m.Name] = true
	}
	return f, nil
}

// File writes the partition as a modules file.
func (p *Partition) File() ([]byte, error) {
	f := File{}
	for _, m := range p.Modules {
		fm := FileModule{Name: m.Name, Role: m.Role}
		for _, v := range m.Initializers {
			fm.Initializers = append(fm.Initializers, escape(v.Name()))
		}
		f.Modules = append(f.Modules, fm)
	}
	return yaml.Marshal(f)
}

func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, `\`, `\\`), "*", `\*`)
}

// pattern compiles a name with * into an anchored expression; a backslash takes the next character as it is.
func pattern(s string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString("^")
	esc := false
	for _, r := range s {
		switch {
		case esc:
			b.WriteString(regexp.QuoteMeta(string(r)))
			esc = false
		case r == '\\':
			esc = true
		case r == '*':
			b.WriteString(".*")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString("$")
	return regexp.Compile(b.String())
}

func (file *File) apply(g *ir.Graph, params []weights.Param) (*Partition, error) {
	type rule struct {
		module int
		text   string
		re     *regexp.Regexp
		used   bool
	}
	var rules []*rule
	for i, m := range file.Modules {
		for _, s := range m.Initializers {
			re, err := pattern(s)
			if err != nil {
				return nil, fmt.Errorf("modules file: module %s: %q: %w", m.Name, s, err)
			}
			rules = append(rules, &rule{module: i, text: s, re: re})
		}
	}
	f := newFlow(g, params)
	label := map[*ir.Node]string{}
	of := map[*ir.Value]int{}
	for _, p := range params {
		found := -1
		for _, r := range rules {
			if !r.re.MatchString(p.Value.Name()) {
				continue
			}
			r.used = true
			if found >= 0 && found != r.module {
				return nil, fmt.Errorf("modules file: tensor %q of node %v is in two modules, %s and %s", p.Value.Name(), p.Nodes[0],
					file.Modules[found].Name, file.Modules[r.module].Name)
			}
			found = r.module
		}
		if found < 0 {
			return nil, fmt.Errorf("modules file: tensor %q of node %v is in no module", p.Value.Name(), p.Nodes[0])
		}
		of[p.Value] = found
		if label[p.Nodes[0]] == "" || p.Kind == weights.Weight {
			label[p.Nodes[0]] = file.Modules[found].Name
		}
	}
	for _, r := range rules {
		if !r.used {
			return nil, fmt.Errorf("modules file: module %s: %q fits no trained tensor of this model", file.Modules[r.module].Name, r.text)
		}
	}
	for _, p := range params {
		if file.Modules[of[p.Value]].Name != label[p.Nodes[0]] {
			return nil, fmt.Errorf("modules file: node %v is in two modules, %s (tensor %q) and %s", p.Nodes[0],
				file.Modules[of[p.Value]].Name, p.Value.Name(), label[p.Nodes[0]])
		}
	}
	p := assemble(g, params, f, label, nil)
	p.Method = "file"
	for _, m := range p.Modules {
		for _, fm := range file.Modules {
			if fm.Name == m.Name && fm.Role != "" {
				m.Role = fm.Role
			}
		}
	}
	return p, nil
}
