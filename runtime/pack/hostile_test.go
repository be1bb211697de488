package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good is a small described file.
func good(t testing.TB) (description, blob []byte) {
	samples := []sample{
		{Tensor: Tensor{Name: "a", Module: "m", Shape: []int64{2, 3}, Bits: 2, Packing: Ternary, Axis: 0, Scales: []float32{1, 2}, Bytes: 2}, raw: []byte{242, 1}},
		{Tensor: Tensor{Name: "b", Shape: []int64{3}, Bits: 2, Packing: "uint2", Axis: -1, Codebook: []float32{-1, 0, 1}, Bytes: 1}, raw: []byte{0b10_01_00}},
		{Tensor: Tensor{Name: "c", Shape: []int64{1}, Bits: 32, Packing: "float32", Axis: -1, Bytes: 4}, raw: []byte{0, 0, 128, 63}},
	}
	blob = lay(samples)
	d, err := Describe("weights.bin", bytes.NewReader(blob), int64(len(blob)), tensorsOf(samples))
	if err != nil {
		t.Fatal(err)
	}
	if description, err = d.JSON(); err != nil {
		t.Fatal(err)
	}
	return description, blob
}

func put(t testing.TB, description, blob []byte) string {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"weights.json": description, "weights.bin": blob} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func refused(t *testing.T, path, want string) {
	t.Helper()
	b, err := Read(path)
	if err == nil {
		b.Close()
		t.Errorf("read, although: %s", want)
		return
	}
	if msg := err.Error(); !strings.Contains(msg, want) || strings.Contains(msg, "\n") || len(msg) > 400 {
		t.Errorf("error %q, want one short line with %q", msg, want)
	}
}

func TestRefusesDescriptions(t *testing.T) {
	description, blob := good(t)
	for _, c := range []struct{ old, new, want string }{
		{`"format":1`, `"format":2`, "format 2 is not read, only 1"},
		{`"format":1,`, ``, "format 0 is not read"},
		{`"format":1`, `"format":1,"format":1`, `field "format" stands twice`},
		{`weights.bin`, `../weights.bin`, "no bare name"},
		{`weights.bin`, `/etc/passwd`, "no bare name"},
		{`weights.bin`, `..`, "no bare name"},
		{`weights.bin`, `a\\b`, "no bare name"},
		{`weights.bin`, ``, "no bare name"},
		{`weights.bin`, `missing.bin`, "missing.bin: no such file"},
		{`"sha256":"`, `"sha256":"0`, "64 hexadecimal digits"},
		{`"name":"b"`, `"name":"a"`, `tensor "a" stands twice`},
		{`"name":"b"`, `"name":""`, "it has no name"},
		{`"name":"b"`, `"name":7`, "tensor 1: json"},
		{`"offset":64`, `"offset":1`, `starts at byte 1, before the end of tensor "a" at 2`},
		{`"offset":64`, `"offset":-64`, "offset -64"},
		{`"offset":64`, `"offset":9223372036854775807`, "offset 9223372036854775807"},
		{`"offset":128`, `"offset":129`, "no multiple of 4"},
		{`"offset":128`, `"offset":132`, "bytes 132 to 136 of weights.bin, which has 132"},
		{`"bytes":4`, `"bytes":8`, "takes 4 bytes, not 8"},
		{`"shape":[2,3]`, `"shape":[2,-3]`, "negative dimension"},
		{`"shape":[2,3]`, `"shape":[4294967296,4294967296]`, "overflows"},
		{`"shape":[2,3]`, `"shape":[1000000000000000000]`, "too many"},
		{`"shape":[2,3]`, `"shape":[1000000000]`, "takes 200000000 bytes, not 2"},
		{`"shape":[2,3]`, `"shape":[` + strings.Repeat("1,", 70) + `6]`, "rank 71"},
		{`"bits":2,"packing":"ternary"`, `"bits":3,"packing":"ternary"`, "3 bits in packing ternary"},
		{`"bits":32`, `"bits":16`, "16 bits in packing float32"},
		{`"packing":"uint2"`, `"packing":"q4_0"`, `packing "q4_0" is unknown`},
		{`"axis":0`, `"axis":2`, "axis 2"},
		{`"axis":0`, `"axis":-1`, "2 scales for shape [2 3] along axis -1"},
		{`"scales":[1,2]`, `"scales":[1,2,3]`, "3 scales"},
		{`"scales":[1,2]`, `"scales":[1,-2]`, "scale 1 is -2"},
		{`"scales":[1,2]`, `"scales":[1,1e99]`, "json"},
		{`"scales":[1,2],"zero_points":[]`, `"scales":[1,2],"zero_points":[1]`, "1 zero points for 2 scales"},
		{`"codebook":[-1,0,1]`, `"codebook":[-1,0,1,2,3]`, "codebook of 5 levels"},
		{`"crc32c":"`, `"crc32c":"x`, "eight hexadecimal digits"},
		{`"crc32c":"`, `"crc32c":"00000000","z":"`, "CRC-32C is"},
		{`]}`, `]}{}`, "something follows"},
		{`]}`, `]`, "not a description"},
		{`{"format"`, `[{"format"`, "not a description of packed weights: [ where {"},
	} {
		bad := bytes.Replace(description, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(bad, description) {
			t.Fatalf("%q is not in %s", c.old, description)
		}
		refused(t, put(t, bad, blob), c.want)
	}
	refused(t, put(t, nil, blob), "not a description")
	refused(t, put(t, []byte(`{"format":1,"file":"weights.bin","sha256":"`+strings.Repeat("0", 64)+`","tensors":[]}`), blob), "no tensors")
	refused(t, put(t, []byte(`{"tensors":`+strings.Repeat("[", 1_000_000)), blob), "json")
	refused(t, put(t, []byte(`{"x":`+strings.Repeat("[", 1_000_000)), blob), "max depth")
	refused(t, put(t, []byte(`{"tensors":[`+strings.Repeat("null,", 1_000_000)+"null]}"), blob), "no name")
}

func TestRefusesFiles(t *testing.T) {
	description, blob := good(t)
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x10
		refused(t, put(t, description, bad), "is not the file that was described")
	}
	refused(t, put(t, description, blob[:len(blob)-1]), `tensor "c": bytes 128 to 132`)
	refused(t, put(t, description, append(bytes.Clone(blob), 0)), "is not the file that was described")

	dir := put(t, description, blob)
	refused(t, filepath.Join(dir, "absent"), "no such file")
	if err := os.Remove(filepath.Join(dir, "weights.bin")); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "weights.bin: no such file")
	outside := filepath.Join(t.TempDir(), "outside.bin")
	if err := os.WriteFile(outside, blob, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "weights.bin")); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	refused(t, dir, "weights.bin: ")
	os.Remove(filepath.Join(dir, "weights.bin"))
	if err := os.Mkdir(filepath.Join(dir, "weights.bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(t, filepath.Join(dir, "weights.json"), "weights.bin is no regular file")

	dir = put(t, description, blob)
	if err := os.Rename(filepath.Join(dir, "weights.json"), filepath.Join(dir, "other.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.bin"), blob, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, filepath.Join(dir, "other.bin"), `describes the file "weights.bin", not "other.bin"`)
	refused(t, filepath.Join(dir, "weights.bin"), "weights.json: no such file")
	refused(t, dir, "weights.json: no such file")
}

// Codes that a packing or codebook does not have are found when a tensor is unpacked.
func TestBadCodes(t *testing.T) {
	_, blob := good(t)
	for name, change := range map[string]struct {
		at   int
		to   byte
		want string
	}{"a": {0, 243, "no five ternary digits"}, "b": {64, 0b11_01_00, "code 3 of element 2 is beyond the 3 levels"}} {
		description, _ := good(t)
		bad := bytes.Clone(blob)
		bad[change.at] = change.to
		b := mustRead(t, put(t, resum(t, description, bad), bad))
		x, err := b.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Float32s(x); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Exact(b, filepath.Join(t.TempDir(), "x.bin")); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// resum gives a description the checksums of other bytes.
func resum(t testing.TB, description, blob []byte) []byte {
	var d map[string]any
	if err := json.Unmarshal(description, &d); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(blob)
	d["sha256"] = hex.EncodeToString(sum[:])
	for _, x := range d["tensors"].([]any) {
		m := x.(map[string]any)
		at, n := int(m["offset"].(float64)), int(m["bytes"].(float64))
		c, _ := Checksum(crc32.Checksum(blob[at:at+n], castagnoli)).MarshalText()
		m["crc32c"] = string(c)
	}
	out, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A file that changes after it was opened is noticed when a tensor is read.
func TestChangedAfterwards(t *testing.T) {
	description, blob := good(t)
	dir := put(t, description, blob)
	b := mustRead(t, dir)
	f, err := os.OpenFile(filepath.Join(dir, "weights.bin"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{7}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Float32s(&b.Tensors[0]); err == nil || !strings.Contains(err.Error(), "have changed") {
		t.Error(err)
	}
	if err := f.Truncate(3); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Float32s(&b.Tensors[2]); err == nil {
		t.Error("read beyond the end")
	}
}

func FuzzRead(f *testing.F) {
	description, blob := good(f)
	f.Add(description, blob)
	f.Add([]byte(`{"format":1,"file":"w","sha256":"","tensors":[{"name":"a","shape":[0,9223372036854775807],"bits":1,"packing":"binary","axis":0}]}`), []byte{})
	f.Add([]byte(`{"tensors":[{"shape":[]}]}`), []byte{1})
	f.Fuzz(func(t *testing.T, description, blob []byte) {
		d, err := Parse(description)
		if err != nil {
			return
		}
		// The fuzzer cannot guess checksums.
		if d.fits(int64(len(blob))) == nil {
			sum := sha256.Sum256(blob)
			d.SHA256 = hex.EncodeToString(sum[:])
			for i := range d.Tensors {
				x := &d.Tensors[i]
				x.CRC32C = Checksum(crc32.Checksum(blob[x.Offset:x.Offset+x.Bytes], castagnoli))
			}
		}
		b, err := open(d, bytes.NewReader(blob), int64(len(blob)))
		if err != nil {
			return
		}
		for i := range b.Tensors {
			x := &b.Tensors[i]
			v, err := b.Float32s(x)
			if err == nil && int64(len(v)) != x.Len() {
				t.Errorf("%d elements of %v", len(v), x.Shape)
			}
		}
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if second, err := again.JSON(); err != nil || !bytes.Equal(text, second) {
			t.Errorf("%s is read back as %s (%v)", text, second, err)
		}
		if _, err := d.Header(); err != nil {
			t.Error(err)
		}
	})
}
