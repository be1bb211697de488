// Package rebatch frees a network from the batch of 1 that its exporter wrote into constants.
//
// Every value of the graph is followed from the inputs on: which of its dimensions holds the batch, or that it has none, or that it is
// computed from the batch's size. The types are inferred at batch 1 and, node by node, at a trial batch. Where an operand says 1
// for the batch, it is rewritten: 0 or -1 in Reshape where that is unambiguous, else computed from Shape at run time; constants
// that several nodes share are copied. Where the regrouping of dimensions leaves a choice, the choices are tried in order. A node
// that mixes images ends the attempt with the reason.
//
// The result counts only if the rewritten model, run on batches of 2 and 3 random images, gives what the original gives for each
// image alone.
package rebatch
