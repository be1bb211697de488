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

// FileModule names a module and its trained tensors: by their own names, or by the nodes that read them first. Entries are names or
// patterns with * for any text.
type FileModule struct {
	Name         string   `yaml:"name"`
	Role         string   `yaml:"role,omitempty"`
	Initializers []string `yaml:"initializers,omitempty"`
	Nodes        []string `yaml:"nodes,omitempty"` // names of nodes, or of the values that they compute
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

// rule is an entry of a modules file.
type rule struct {
	module int
	nodes  bool
	text   string
	re     *regexp.Regexp
	used   bool
}

func (file *File) rules() ([]*rule, error) {
	var out []*rule
	for i, m := range file.Modules {
		for _, list := range []struct {
			nodes bool
			texts []string
		}{{false, m.Initializers}, {true, m.Nodes}} {
			for _, s := range list.texts {
				re, err := pattern(s)
				if err != nil {
					return nil, fmt.Errorf("modules file: module %s: %q: %w", m.Name, s, err)
				}
				out = append(out, &rule{module: i, nodes: list.nodes, text: s, re: re})
			}
		}
	}
	return out, nil
}

// fits reports whether the entry speaks of p.
func (r *rule) fits(p weights.Param) bool {
	if !r.nodes {
		return r.re.MatchString(p.Value.Name())
	}
	n := p.Nodes[0]
	if n.Name != "" && r.re.MatchString(n.Name) {
		return true
	}
	for _, o := range n.Outputs() {
		if o.Name() != "" && r.re.MatchString(o.Name()) {
			return true
		}
	}
	return false
}

func (file *File) apply(g *ir.Graph, params []weights.Param) (*Partition, error) {
	rules, err := file.rules()
	if err != nil {
		return nil, err
	}
	f := newFlow(g, params)
	label := map[*ir.Node]string{}
	of := map[*ir.Value]int{}
	for _, p := range params {
		found := -1
		for _, r := range rules {
			if !r.fits(p) {
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
			return nil, fmt.Errorf("modules file: module %s: %q fits %s of this model", file.Modules[r.module].Name, r.text,
				map[bool]string{false: "no trained tensor", true: "no node with a trained tensor"}[r.nodes])
		}
	}
	for _, p := range params {
		if file.Modules[of[p.Value]].Name != label[p.Nodes[0]] {
			return nil, fmt.Errorf("modules file: node %v is in two modules, %s (tensor %q) and %s", p.Nodes[0],
				file.Modules[of[p.Value]].Name, p.Value.Name(), label[p.Nodes[0]])
		}
	}
	otherReaders(params, label)
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
