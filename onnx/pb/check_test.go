package pb_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unsafe"

	"mqatc/onnx/pb"
)

func field(num int, body []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(num)<<3|2)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...)
}

// bomb nests graph in attribute in node, levels times.
func bomb(levels int) []byte {
	body := []byte{}
	for i := 0; i < levels; i++ {
		body = field(1, field(5, field(6, body)))
	}
	return field(7, body)
}

func TestCheckDepth(t *testing.T) {
	if err := pb.Check(bomb(32), pb.Limits{}); err != nil {
		t.Fatal(err)
	}
	if err := new(pb.ModelProto).Unmarshal(bomb(32)); err != nil {
		t.Fatal(err)
	}
	for _, levels := range []int{34, 2000} {
		err := pb.Check(bomb(levels), pb.Limits{})
		if err == nil || !strings.Contains(err.Error(), "nested deeper") {
			t.Fatalf("%d levels: %v", levels, err)
		}
	}
	seq := []byte{}
	for i := 0; i < 60; i++ {
		seq = field(4, field(1, seq))
	}
	data := field(7, field(11, field(2, seq)))
	if err := pb.Check(data, pb.Limits{}); err == nil {
		t.Fatal("a type nested 120 deep passed")
	}
}

func TestCheckMessages(t *testing.T) {
	body := bytes.Repeat(field(1, nil), 1000)
	data := field(7, body)
	if err := pb.Check(data, pb.Limits{Messages: 1002}); err != nil {
		t.Fatal(err)
	}
	if err := pb.Check(data, pb.Limits{Messages: 1001}); err == nil {
		t.Fatal("1002 messages passed a limit of 1001")
	}
}

func TestCheckRefusesWhatUnmarshalRefuses(t *testing.T) {
	good := field(7, append(field(1, append(field(1, []byte("x")), field(4, []byte("Relu"))...)), field(2, []byte("g"))...))
	if err := pb.Check(good, pb.Limits{}); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"group":        {0x3b, 0x3c},
		"field zero":   {0x00, 0x01},
		"cut varint":   {0x08, 0x80},
		"cut length":   {0x3a, 0x05, 0x01},
		"huge length":  {0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"cut fixed32":  {0x0d, 0x01, 0x02},
		"child escape": field(7, []byte{0x0a, 0x7f}),
	} {
		if err := pb.Check(data, pb.Limits{}); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	for i := range good {
		if i > 0 && pb.Check(good[:i], pb.Limits{}) == nil {
			t.Errorf("truncation to %d bytes passed", i)
		}
	}
}

func TestRawDataAliasesTheBuffer(t *testing.T) {
	raw := []byte{1, 2, 3, 4}
	data := field(7, field(5, field(9, raw)))
	var m pb.ModelProto
	if err := m.Unmarshal(data); err != nil {
		t.Fatal(err)
	}
	got := *m.Graph.Initializer[0].RawData
	if !bytes.Equal(got, raw) || cap(got) != len(raw) {
		t.Fatalf("raw data %v, cap %d", got, cap(got))
	}
	if unsafe.SliceData([]byte(got)) != &data[len(data)-4] {
		t.Fatal("raw data was copied")
	}
	back, err := m.Marshal()
	if err != nil || !bytes.Equal(back, data) {
		t.Fatalf("marshal: %v %v", back, err)
	}
}

func TestUnknownFieldsSurvive(t *testing.T) {
	node := append(field(4, []byte("Relu")), field(4000, []byte("later"))...)
	data := field(7, field(1, node))
	var m pb.ModelProto
	if err := m.Unmarshal(data); err != nil {
		t.Fatal(err)
	}
	back, err := m.Marshal()
	if err != nil || !bytes.Equal(back, data) {
		t.Fatalf("marshal: %q %v", back, err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(bomb(3))
	f.Add(field(7, field(11, field(2, field(4, field(1, nil))))))
	f.Add(field(20, field(1, field(5, field(9, []byte{1})))))
	f.Fuzz(func(t *testing.T, data []byte) {
		if pb.Check(data, pb.Limits{}) == nil {
			var m pb.ModelProto
			_ = m.Unmarshal(data)
		}
	})
}
