package pack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Format is the version of the description that this package writes and reads.
const Format = 1

// maxDescription bounds the bytes of a weights.json that is read.
const maxDescription = 64 << 20

// Description is the content of weights.json.
type Description struct {
	Format  int      `json:"format"`
	File    string   `json:"file"`   // name, in the folder of the description, of the file with the bytes
	SHA256  string   `json:"sha256"` // of that file, 64 hexadecimal digits
	Tensors []Tensor `json:"tensors"`
}

// JSON is the description as it is written: one line per tensor, the same bytes for the same content.
func (d *Description) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1)
		return nil
	}
	fmt.Fprintf(&b, "{\"format\":%d,\"file\":", d.Format)
	if err := put(d.File); err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, ",\"sha256\":\"%s\",\"tensors\":[", d.SHA256)
	for i, t := range d.Tensors {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		t.Shape, t.Scales, t.ZeroPoints = notNil(t.Shape), notNil(t.Scales), notNil(t.ZeroPoints)
		if err := put(t); err != nil {
			return nil, t.fail(err)
		}
	}
	b.WriteString("\n]}\n")
	return b.Bytes(), nil
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Parse reads a description and checks all that can be told without the file it describes. Unknown fields are passed over.
func Parse(data []byte) (*Description, error) {
	d := &Description{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := d.decode(dec); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("not a description of packed weights: %w near byte %d", err, dec.InputOffset())
		}
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

// decode checks each tensor as it is read, so that memory stays in proportion to the input.
func (d *Description) decode(dec *json.Decoder) error {
	if err := expect(dec, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		if seen[name] {
			return fmt.Errorf("field %q stands twice", clip(name))
		}
		switch name {
		case "format":
			err = dec.Decode(&d.Format)
		case "file":
			err = dec.Decode(&d.File)
		case "sha256":
			err = dec.Decode(&d.SHA256)
		case "tensors":
			err = d.decodeTensors(dec)
		default:
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		seen[name] = true
	}
	if err := expect(dec, '}'); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the description at byte %d", dec.InputOffset())
	}
	return nil
}

func (d *Description) decodeTensors(dec *json.Decoder) error {
	if err := expect(dec, '['); err != nil {
		return err
	}
	for dec.More() {
		t := Tensor{Axis: -1}
		if err := dec.Decode(&t); err != nil {
			return fmt.Errorf("tensor %d: %w", len(d.Tensors), err)
		}
		if err := t.check(); err != nil {
			return err
		}
		d.Tensors = append(d.Tensors, t)
	}
	return expect(dec, ']')
}

func expect(dec *json.Decoder, want json.Delim) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("not a description of packed weights: %v where %v belongs, at byte %d", clip(fmt.Sprint(tok)), want, dec.InputOffset())
	}
	return nil
}

// check tells whether the parts fit together.
func (d *Description) check() error {
	if d.Format != Format {
		return fmt.Errorf("format %d is not read, only %d", d.Format, Format)
	}
	if !bareName(d.File) {
		return fmt.Errorf("file %q is no bare name of a file in the same folder", clip(d.File))
	}
	if sum, err := hex.DecodeString(d.SHA256); err != nil || len(sum) != 32 {
		return fmt.Errorf("sha256 %q is not 64 hexadecimal digits", clip(d.SHA256))
	}
	if len(d.Tensors) == 0 {
		return errors.New("there are no tensors")
	}
	names := make(map[string]bool, len(d.Tensors))
	end, last := int64(0), ""
	for i := range d.Tensors {
		t := &d.Tensors[i]
		if err := t.check(); err != nil {
			return err
		}
		if names[t.Name] {
			return fmt.Errorf("tensor %q stands twice", clip(t.Name))
		}
		names[t.Name] = true
		if t.Offset < end {
			return t.fail(fmt.Errorf("it starts at byte %d, before the end of tensor %q at %d", t.Offset, clip(last), end))
		}
		end, last = t.Offset+t.Bytes, t.Name
	}
	return nil
}

// fits tells whether all tensors lie in a file of size bytes.
func (d *Description) fits(size int64) error {
	for i := range d.Tensors {
		if t := &d.Tensors[i]; t.Bytes > size || t.Offset > size-t.Bytes {
			return t.fail(fmt.Errorf("bytes %d to %d of %s, which has %d", t.Offset, t.Offset+t.Bytes, d.File, size))
		}
	}
	return nil
}

func bareName(name string) bool {
	return name != "" && name != "." && filepath.IsLocal(name) && !strings.ContainsAny(name, "/\\\x00")
}

// beside is the path of a file next to blob with another extension.
func beside(blob, ext string) string { return strings.TrimSuffix(blob, filepath.Ext(blob)) + ext }

// checkBlobName refuses names for which the description or the header would stand in the way.
func checkBlobName(path string) error {
	name := filepath.Base(path)
	if !bareName(name) || strings.TrimSuffix(name, filepath.Ext(name)) == "" {
		return fmt.Errorf("%q is no name for a file of weights", name)
	}
	for _, ext := range []string{".json", ".h"} {
		if strings.EqualFold(filepath.Ext(name), ext) {
			return fmt.Errorf("the name %q is needed for what describes the weights; weights.bin would do", name)
		}
	}
	return nil
}
