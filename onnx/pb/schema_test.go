package pb

import (
	"strings"
	"testing"

	"github.com/gogo/protobuf/protoc-gen-gogo/descriptor"
)

// A message-typed field that Check does not know would be nested without bound by Unmarshal.
func TestCheckKnowsEveryMessageField(t *testing.T) {
	file, _ := descriptor.ForMessage(&ModelProto{})
	msgs := map[string]*descriptor.DescriptorProto{}
	var collect func(prefix string, ms []*descriptor.DescriptorProto)
	collect = func(prefix string, ms []*descriptor.DescriptorProto) {
		for _, m := range ms {
			msgs[prefix+m.GetName()] = m
			collect(prefix+m.GetName()+".", m.NestedType)
		}
	}
	collect(".mqatc.onnx.", file.MessageType)
	type pair struct {
		name string
		kind kind
	}
	seen := map[pair]bool{}
	queue := []pair{{".mqatc.onnx.ModelProto", kModel}}
	fields := 0
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		if seen[p] {
			continue
		}
		seen[p] = true
		for _, f := range msgs[p.name].Field {
			if f.GetType() != descriptor.FieldDescriptorProto_TYPE_MESSAGE {
				continue
			}
			fields++
			child, ok := children[p.kind][uint64(f.GetNumber())]
			if !ok {
				t.Errorf("%s.%s is a message that Check skips", strings.TrimPrefix(p.name, ".mqatc.onnx."), f.GetName())
				continue
			}
			queue = append(queue, pair{f.GetTypeName(), child})
		}
	}
	if fields < 40 {
		t.Fatalf("only %d message fields seen", fields)
	}
}
