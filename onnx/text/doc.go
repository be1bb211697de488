// Package text prints models in ONNX textual syntax (onnx/docs/Syntax.md) and reads them back without loss.
//
// A file is valid ONNX text once its lines that begin with "#@" are removed. Those lines carry what the syntax has no place for;
// each stands before the item it belongs to (model, graph, function, value, node, attribute, element of a list of tensors or graphs):
//
//	#@doc "..."             doc string
//	#@meta "key" "value"    one metadata_props entry; repeatable
//	#@extra HEX             unknown protobuf fields
//	#@pass "name"           the pass that made a node
//	#@op "domain" "op" "overload"  an operator whose names are no identifiers
//	#@name "..."            an attribute or subgraph whose name is no identifier
//	#@type TYPE             a type with denotations, unknown fields, odd element types or an opaque type
//	#@quant "key" "value"   one entry of a value's quantization annotation; repeatable
//	#@bits HEX...           the bits of float attributes that hold a NaN other than the usual one
//	#@kind N                the AttributeType number of an attribute of undefined type
//	#@sparse [dims] VALUES INDICES   a sparse tensor
//	#@tensor.KEY            name, doc, meta, extra, external or raw of a tensor; values.KEY and indices.KEY inside a sparse one
//
// Strings inside "#@" lines are quoted as Go strings. Strings elsewhere follow ONNX text: a backslash stands for the character after
// it, everything else for itself. Names that are no identifiers, or are names of types, are quoted. Floats are the shortest decimals
// that read back to the same bits; floats of 16 bits and less are written as the integer of their bits, as ONNX text does.
//
// Large tensors are references into a weights file: name = ["location": "weights.bin", "offset": "64", "length": "4096"].
package text
