package bop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const maxPLY = 512 << 20

// ReadPLY reads vertex positions and faces of a PLY file (ascii or binary,
// either byte order); polygons become triangle fans, other data are skipped.
func ReadPLY(path string) (*Mesh, error) {
	data, err := readBounded(path, maxPLY)
	if err != nil {
		return nil, fmt.Errorf("bop: %w", err)
	}
	m, err := parsePLY(data)
	if err != nil {
		return nil, fmt.Errorf("bop: %s: %w", path, err)
	}
	return m, nil
}

type plyProperty struct {
	name      string
	kind      string // scalar type; of the items for a list
	countKind string // "" for a scalar
}

type plyElement struct {
	name       string
	count      int
	properties []plyProperty
}

// plySizes are the scalar types and their width in bytes.
var plySizes = map[string]int{
	"char": 1, "int8": 1, "uchar": 1, "uint8": 1, "short": 2, "int16": 2, "ushort": 2, "uint16": 2,
	"int": 4, "int32": 4, "uint": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8, "float64": 8,
}

// plyReader yields the body's numbers one by one.
type plyReader interface {
	next(kind string) (float64, error)
}

func parsePLY(data []byte) (*Mesh, error) {
	elements, format, body, err := parsePLYHeader(data)
	if err != nil {
		return nil, err
	}
	var r plyReader
	switch format {
	case "ascii":
		r = &plyASCII{rest: body}
	case "binary_little_endian":
		r = &plyBinary{rest: body, order: binary.LittleEndian}
	case "binary_big_endian":
		r = &plyBinary{rest: body, order: binary.BigEndian}
	default:
		return nil, fmt.Errorf("PLY format %q is not known", format)
	}
	m := &Mesh{}
	for _, e := range elements {
		if len(e.properties) == 0 || e.count > len(body) {
			return nil, fmt.Errorf("PLY element %s: %d items of %d properties do not fit in %d bytes", e.name, e.count, len(e.properties), len(body))
		}
		if err := readPLYElement(r, e, m); err != nil {
			return nil, fmt.Errorf("PLY element %s: %w", e.name, err)
		}
	}
	if len(m.Vertices) == 0 {
		return nil, errors.New("PLY file has no vertex")
	}
	for _, t := range m.Triangles {
		for _, k := range t {
			if k < 0 || k >= len(m.Vertices) {
				return nil, fmt.Errorf("PLY face uses vertex %d of %d", k, len(m.Vertices))
			}
		}
	}
	return m, nil
}

func parsePLYHeader(data []byte) (elements []plyElement, format string, body []byte, err error) {
	const maxHeader = 1 << 16
	first := true
	for at := 0; at < maxHeader; {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			break
		}
		line := strings.TrimRight(string(data[at:at+end]), "\r")
		at += end + 1
		if first {
			if line != "ply" {
				return nil, "", nil, errors.New("not a PLY file")
			}
			first = false
			continue
		}
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "comment" || f[0] == "obj_info":
		case f[0] == "end_header":
			if format == "" {
				return nil, "", nil, errors.New("PLY header has no format")
			}
			return elements, format, data[at:], nil
		case f[0] == "format" && len(f) == 3:
			format = f[1]
		case f[0] == "element" && len(f) == 3:
			n, err := strconv.Atoi(f[2])
			if err != nil || n < 0 {
				return nil, "", nil, fmt.Errorf("PLY header: bad count in %q", line)
			}
			elements = append(elements, plyElement{name: f[1], count: n})
		case f[0] == "property" && len(elements) > 0 && (len(f) == 3 || len(f) == 5 && f[1] == "list"):
			p := plyProperty{kind: f[len(f)-2], name: f[len(f)-1]}
			if len(f) == 5 {
				p.countKind = f[2]
			}
			if plySizes[p.kind] == 0 || p.countKind != "" && plySizes[p.countKind] == 0 {
				return nil, "", nil, fmt.Errorf("PLY header: unknown type in %q", line)
			}
			e := &elements[len(elements)-1]
			e.properties = append(e.properties, p)
		default:
			return nil, "", nil, fmt.Errorf("PLY header: cannot read %q", line)
		}
	}
	return nil, "", nil, errors.New("PLY header has no end")
}

// maxPolygon bounds the corners of one face.
const maxPolygon = 1 << 16

func readPLYElement(r plyReader, e plyElement, m *Mesh) error {
	axis := make([]int, len(e.properties))
	for i, p := range e.properties {
		axis[i] = -1
		if e.name == "vertex" && p.countKind == "" {
			axis[i] = strings.Index("xyz", p.name)
			if len(p.name) != 1 {
				axis[i] = -1
			}
		}
	}
	if e.name == "vertex" {
		var seen [3]bool
		for _, a := range axis {
			if a >= 0 {
				seen[a] = true
			}
		}
		if seen != [3]bool{true, true, true} {
			return errors.New("x, y and z are not all there")
		}
	}
	var poly []int
	for range e.count {
		var v [3]float64
		for i, p := range e.properties {
			if p.countKind == "" {
				x, err := r.next(p.kind)
				if err != nil {
					return err
				}
				if axis[i] >= 0 {
					if math.IsNaN(x) || math.IsInf(x, 0) {
						return fmt.Errorf("coordinate %v", x)
					}
					v[axis[i]] = x
				}
				continue
			}
			n, err := r.next(p.countKind)
			if err != nil {
				return err
			}
			if n < 0 || n > maxPolygon {
				return fmt.Errorf("list of %v items", n)
			}
			poly = poly[:0]
			for range int(n) {
				k, err := r.next(p.kind)
				if err != nil {
					return err
				}
				poly = append(poly, int(k))
			}
			if e.name == "face" && (p.name == "vertex_indices" || p.name == "vertex_index") {
				for k := 2; k < len(poly); k++ {
					m.Triangles = append(m.Triangles, [3]int{poly[0], poly[k-1], poly[k]})
				}
			}
		}
		if e.name == "vertex" {
			m.Vertices = append(m.Vertices, v)
		}
	}
	return nil
}

var errPLYShort = errors.New("file ends early")

type plyASCII struct{ rest []byte }

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (r *plyASCII) next(string) (float64, error) {
	i := 0
	for i < len(r.rest) && isSpace(r.rest[i]) {
		i++
	}
	j := i
	for j < len(r.rest) && !isSpace(r.rest[j]) {
		j++
	}
	if i == j {
		return 0, errPLYShort
	}
	x, err := strconv.ParseFloat(string(r.rest[i:j]), 64)
	r.rest = r.rest[j:]
	return x, err
}

type plyBinary struct {
	rest  []byte
	order binary.ByteOrder
}

func (r *plyBinary) next(kind string) (float64, error) {
	n := plySizes[kind]
	if len(r.rest) < n {
		return 0, errPLYShort
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	switch kind {
	case "char", "int8":
		return float64(int8(b[0])), nil
	case "uchar", "uint8":
		return float64(b[0]), nil
	case "short", "int16":
		return float64(int16(r.order.Uint16(b))), nil
	case "ushort", "uint16":
		return float64(r.order.Uint16(b)), nil
	case "int", "int32":
		return float64(int32(r.order.Uint32(b))), nil
	case "uint", "uint32":
		return float64(r.order.Uint32(b)), nil
	case "float", "float32":
		return float64(math.Float32frombits(r.order.Uint32(b))), nil
	}
	return math.Float64frombits(r.order.Uint64(b)), nil
}
