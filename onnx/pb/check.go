package pb

import (
	"encoding/binary"
	"fmt"
)

// Limits bound what Check accepts. Zero fields take the values of DefaultLimits.
type Limits struct {
	Depth    int // nested messages
	Messages int // messages in all
}

// DefaultLimits fit every network that runs: 33 levels of subgraphs, some hundred thousand nodes.
var DefaultLimits = Limits{Depth: 100, Messages: 4 << 20}

// kind names a message type for the purpose of finding its submessages.
type kind uint8

const (
	kLeaf kind = iota
	kModel
	kGraph
	kNode
	kAttr
	kTensor
	kSparse
	kValueInfo
	kType
	kContainerType
	kTensorType
	kShape
	kAnnotation
	kTraining
	kFunction
	kNodeDevice
	kShardingSpec
	kShardedDim
)

// children lists, per message type, the fields that are messages. A field that is not listed has no nesting.
var children = [...]map[uint64]kind{
	kLeaf:          {},
	kModel:         {7: kGraph, 8: kLeaf, 14: kLeaf, 20: kTraining, 25: kFunction, 26: kLeaf},
	kGraph:         {1: kNode, 5: kTensor, 11: kValueInfo, 12: kValueInfo, 13: kValueInfo, 14: kAnnotation, 15: kSparse, 16: kLeaf},
	kNode:          {5: kAttr, 9: kLeaf, 10: kNodeDevice},
	kAttr:          {5: kTensor, 6: kGraph, 10: kTensor, 11: kGraph, 14: kType, 15: kType, 22: kSparse, 23: kSparse},
	kTensor:        {3: kLeaf, 13: kLeaf, 16: kLeaf},
	kSparse:        {1: kTensor, 2: kTensor},
	kValueInfo:     {2: kType, 4: kLeaf},
	kType:          {1: kTensorType, 4: kContainerType, 5: kContainerType, 7: kLeaf, 8: kTensorType, 9: kContainerType},
	kContainerType: {1: kType, 2: kType},
	kTensorType:    {2: kShape},
	kShape:         {1: kLeaf},
	kAnnotation:    {2: kLeaf},
	kTraining:      {1: kGraph, 2: kGraph, 3: kLeaf, 4: kLeaf},
	kFunction:      {7: kNode, 9: kLeaf, 11: kAttr, 12: kValueInfo, 14: kLeaf},
	kNodeDevice:    {2: kShardingSpec},
	kShardingSpec:  {3: kLeaf, 4: kShardedDim},
	kShardedDim:    {2: kLeaf},
}

// Protobuf wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Check scans data, the bytes of a ModelProto, without recursion: every length lies inside its message, wire types are those of
// proto3 (no groups), and nesting and number of messages stay within limits. Generated code recurses once per nested message, so
// data from strangers must pass Check before Unmarshal. Errors give the byte offset.
func Check(data []byte, limits Limits) error {
	if limits.Depth <= 0 {
		limits.Depth = DefaultLimits.Depth
	}
	if limits.Messages <= 0 {
		limits.Messages = DefaultLimits.Messages
	}
	type frame struct {
		kind kind
		end  int
	}
	stack := []frame{{kModel, len(data)}}
	messages := 1
	pos := 0
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		if pos == top.end {
			stack = stack[:len(stack)-1]
			continue
		}
		at := pos
		tag, n := binary.Uvarint(data[pos:top.end])
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return fmt.Errorf("bad field tag at byte %d", at)
		}
		pos += n
		switch tag & 7 {
		case wireVarint:
			if _, n = binary.Uvarint(data[pos:top.end]); n <= 0 {
				return fmt.Errorf("bad varint at byte %d", pos)
			}
			pos += n
		case wireFixed64, wireFixed32:
			size := 8
			if tag&7 == wireFixed32 {
				size = 4
			}
			if top.end-pos < size {
				return fmt.Errorf("number at byte %d is cut off", pos)
			}
			pos += size
		case wireBytes:
			size, n := binary.Uvarint(data[pos:top.end])
			if n <= 0 {
				return fmt.Errorf("bad length at byte %d", pos)
			}
			pos += n
			if size > uint64(top.end-pos) {
				return fmt.Errorf("field %d at byte %d claims %d bytes, %d are there", tag>>3, at, size, top.end-pos)
			}
			child, nested := children[top.kind][tag>>3]
			if !nested {
				pos += int(size)
				continue
			}
			if messages++; messages > limits.Messages {
				return fmt.Errorf("more than %d messages", limits.Messages)
			}
			if len(stack) >= limits.Depth {
				return fmt.Errorf("messages nested deeper than %d at byte %d", limits.Depth, at)
			}
			stack = append(stack, frame{child, pos + int(size)})
		default:
			return fmt.Errorf("wire type %d at byte %d", tag&7, at)
		}
	}
	return nil
}
