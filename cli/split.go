package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/partition"
)

// orderFile is the file of a split network that says how its parts run.
const orderFile = "order.json"

// splitDoc is the contents of order.json.
type splitDoc struct {
	Format  int           `json:"format"` // 1
	Inputs  []splitValue  `json:"inputs"`
	Outputs []splitOutput `json:"outputs"`
	Parts   []splitPart   `json:"parts"` // in the order in which they run
}

type splitPart struct {
	File    string       `json:"file"`
	Module  string       `json:"module"` // "" outside the modules
	Role    string       `json:"role"`   // of the module, or before, between, after
	Part    int          `json:"part"`   // from 1, of Parts
	Parts   int          `json:"parts"`
	Inputs  []splitInput `json:"inputs"`
	Outputs []splitValue `json:"outputs"`
}

type splitValue struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type splitInput struct {
	splitValue
	From string `json:"from"` // file of the part that gives it; "" for an input of the network
}

type splitOutput struct {
	Name string `json:"name"`
	From string `json:"from"` // as in splitInput
}

// writeSplit cuts m, which p divides, and writes one ONNX file for each part and order.json into dir.
func writeSplit(dir string, p *partition.Partition, m *ir.Model) error {
	parts, err := p.Split(m)
	if err != nil {
		return err
	}
	files := partFiles(parts.List)
	err = format.WriteFolder(dir, func(tmp string) error {
		for i, part := range parts.List {
			if _, err := format.Save(part.Model, filepath.Join(tmp, files[i]), format.SaveOptions{}); err != nil {
				return err
			}
		}
		raw, err := json.MarshalIndent(splitDocument(parts, files), "", "  ")
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(tmp, orderFile), append(raw, '\n'))
	})
	if err != nil {
		return fmt.Errorf("partition: --split: %w", err)
	}
	return nil
}

func splitDocument(parts *partition.Parts, files []string) splitDoc {
	d := splitDoc{Format: 1, Inputs: splitValues(parts.Inputs), Outputs: []splitOutput{}, Parts: []splitPart{}}
	from := map[string]string{}
	for i, part := range parts.List {
		sp := splitPart{File: files[i], Role: part.Name, Part: part.Index, Parts: part.Of, Inputs: []splitInput{},
			Outputs: splitValues(part.Model.Graph.Outputs())}
		if part.Module != nil {
			sp.Module, sp.Role = part.Name, part.Module.Role
		}
		for _, v := range part.Model.Graph.Inputs() {
			if !v.IsInitializer() {
				sp.Inputs = append(sp.Inputs, splitInput{splitValue{v.Name(), v.Type.String()}, from[v.Name()]})
			}
		}
		for _, v := range sp.Outputs {
			from[v.Name] = files[i]
		}
		d.Parts = append(d.Parts, sp)
	}
	for _, v := range parts.Outputs {
		d.Outputs = append(d.Outputs, splitOutput{v.Name(), from[v.Name()]})
	}
	return d
}

func splitValues(vs []*ir.Value) []splitValue {
	out := []splitValue{}
	for _, v := range vs {
		out = append(out, splitValue{v.Name(), v.Type.String()})
	}
	return out
}

// partFiles names a file for each part: NAME.onnx, or NAME.1.onnx, NAME.2.onnx, ... where NAME has several. Names differ in more than
// case.
func partFiles(parts []partition.Part) []string {
	type key struct {
		module *partition.Module
		name   string
	}
	stem := map[key]string{}
	taken := map[string]bool{}
	file := func(stem string, p partition.Part, i int) string {
		if p.Of > 1 {
			return fmt.Sprintf("%s.%d.onnx", stem, i)
		}
		return stem + ".onnx"
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		k := key{p.Module, p.Name}
		if stem[k] == "" {
			name := fileStem(p.Name)
			for try := 1; ; try++ {
				s := name
				if try > 1 {
					s = fmt.Sprintf("%s-%d", name, try)
				}
				free := true
				for j := range p.Of {
					free = free && !taken[strings.ToLower(file(s, p, j+1))]
				}
				if free {
					stem[k] = s
					break
				}
			}
			for j := range p.Of {
				taken[strings.ToLower(file(stem[k], p, j+1))] = true
			}
		}
		out[i] = file(stem[k], p, p.Index)
	}
	return out
}

// fileStem makes a file name of a module's name: letters, digits and "_-.+" stay, at most 100 bytes, no dot in front.
func fileStem(name string) string {
	s := strings.Map(func(r rune) rune {
		if r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-.+", r)) {
			return r
		}
		return '_'
	}, strings.ToValidUTF8(name, "_"))
	for len(s) > 100 {
		r := []rune(s)
		s = string(r[:len(r)-1])
	}
	if s == "" || s[0] == '.' || s[0] == '-' {
		s = "_" + s
	}
	return s
}
