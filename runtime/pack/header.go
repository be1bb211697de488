package pack

import (
	"bytes"
	_ "embed"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

//go:embed c/mqatc_tensor.h
var tensorHeader string

// Header is the description as a C header, valid C99 and C++, that needs nothing but stdint.h.
func (d *Description) Header() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	prefix := identifier(strings.TrimSuffix(d.File, filepath.Ext(d.File)), 16)
	v := headerView{Type: strings.TrimSpace(tensorHeader), Prefix: prefix, Guard: "MQATC_TABLE_" + strings.ToUpper(prefix) + "_H",
		File: cString(d.File), Comment: cComment(d.File), SHA256: strings.ToLower(d.SHA256)}
	names := newUnique()
	for i := range d.Tensors {
		t := &d.Tensors[i]
		l, err := t.Packing.layout()
		if err != nil {
			return nil, t.fail(err)
		}
		r := headerRow{ID: names.take(identifier(t.Name, 40), nil), Index: i, Name: cString(t.Name), Module: cString(t.Module),
			Offset: t.Offset, Bytes: t.Bytes, Bits: t.Bits, Packing: l.kind.c(), Width: l.width, Axis: t.Axis,
			CRC: fmt.Sprintf("0x%08xu", uint32(t.CRC32C)), Rank: len(t.Shape), Shape: "0",
			NumScales: len(t.Scales), Scales: "0", NumZeros: len(t.ZeroPoints), Zeros: "0", NumLevels: len(t.Codebook), Levels: "0"}
		array := func(ref *string, ctype, what string, items []string) {
			if len(items) > 0 {
				*ref = fmt.Sprintf("%s_%s_%d", prefix, what, i)
				v.Arrays = append(v.Arrays, headerArray{ctype, *ref, len(items), wrap(items)})
			}
		}
		array(&r.Shape, "int64_t", "shape", texts(t.Shape, func(x int64) string { return strconv.FormatInt(x, 10) }))
		array(&r.Scales, "float", "scales", texts(t.Scales, cFloat))
		array(&r.Zeros, "int32_t", "zero_points", texts(t.ZeroPoints, cInt32))
		array(&r.Levels, "float", "codebook", texts(t.Codebook, cFloat))
		v.Rows = append(v.Rows, r)
	}
	var b bytes.Buffer
	if err := headerText.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type headerView struct {
	Type, Prefix, Guard, File, Comment, SHA256 string
	Arrays                                     []headerArray
	Rows                                       []headerRow
}

type headerArray struct {
	Type, Name string
	Len        int
	Body       string
}

type headerRow struct {
	ID, Name, Module string
	Index            int
	Offset, Bytes    int64
	Bits             int
	Packing          string
	Width, Axis      int
	CRC              string
	Rank             int
	Shape            string
	NumScales        int
	Scales           string
	NumZeros         int
	Zeros            string
	NumLevels        int
	Levels           string
}

var headerText = template.Must(template.New("weights.h").Parse(`/* The tensors of {{.Comment}}. Written by mqatc. */
#ifndef {{.Guard}}
#define {{.Guard}}

{{.Type}}

#define {{.Prefix}}_FILE {{.File}}
#define {{.Prefix}}_SHA256 "{{.SHA256}}"

/* Positions in {{.Prefix}}_tensors. */
enum {
{{- range .Rows}}
  {{$.Prefix}}_T_{{.ID}} = {{.Index}},
{{- end}}
  {{.Prefix}}_NUM_TENSORS = {{len .Rows}}
};
{{range .Arrays}}
static const {{.Type}} {{.Name}}[{{.Len}}] = {
{{.Body}}
};
{{- end}}

static const mqatc_tensor {{.Prefix}}_tensors[{{len .Rows}}] = {
{{- range .Rows}}
  { {{- .Name}}, {{.Module}}, {{.Offset}}, {{.Bytes}},
   {{.Shape}}, {{.Scales}}, {{.Zeros}}, {{.Levels}},
   {{.Rank}}, {{.NumScales}}, {{.NumZeros}}, {{.NumLevels}}, {{.CRC}}, {{.Axis}}, {{.Bits}}, {{.Packing}}, {{.Width -}} },
{{- end}}
};

#endif
`))

func texts[T any](list []T, text func(T) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = text(x)
	}
	return out
}

// wrap sets items in lines of at most eight.
func wrap(items []string) string {
	var b strings.Builder
	for i, s := range items {
		switch {
		case i%8 == 0 && i > 0:
			b.WriteString(",\n  ")
		case i == 0:
			b.WriteString("  ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// cFloat is a literal that a C compiler reads as exactly x: nine digits tell all binary32 numbers apart.
func cFloat(x float32) string {
	s := strconv.FormatFloat(float64(x), 'g', 9, 32)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s + "f"
}

// cInt32 avoids the literal -2147483648, which C reads as the negative of a number that is no int.
func cInt32(x int32) string {
	if x == -1<<31 {
		return "(-2147483647 - 1)"
	}
	return strconv.Itoa(int(x))
}

// cString is a string literal; octal escapes keep other bytes, and the question marks of trigraphs, apart from what follows.
func cString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '?' {
			fmt.Fprintf(&b, "\\%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// cComment is a name that cannot end the comment it stands in.
func cComment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`*/?\`, r) {
			return '_'
		}
		return r
	}, s)
}
