// Package op is the table of operators: for each one its opset versions, its inputs, outputs and attributes, and how the types
// and shapes of its outputs follow from its inputs.
//
// Rows stand in plain tables, one file per family. Inference works node by node (InferNode), as a graph is built, or on a whole
// model (InferModel). Sizes that depend on the values of small tensors, as in Shape, Gather, Concat, Reshape chains, are found by
// evaluating such tensors symbolically. Functions report errors; none panics on a malformed node.
package op
