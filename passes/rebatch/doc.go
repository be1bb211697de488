// Package rebatch frees a batch of 1 that an exporter baked into a model.
//
// The first dimension of every data input becomes symbolic. Axis analysis follows the batch through the graph; sizes of 1 that
// stand for it in constants (of Reshape, Expand, Resize, Tile, ConstantOfShape, Slice and others) are rewritten so that they
// follow the input. A model whose batch mixes with other data is left alone, with the reason. The rewritten model is run on
// several images at once and compared with the original on each of them before it is kept.
package rebatch
