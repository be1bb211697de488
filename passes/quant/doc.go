// Package quant puts fake quantization into a graph and turns trained float weights into integer codes.
//
// A quantizer is a row of Quantizers: which levels it has at which width, its start values, the graph it inserts, the codes it
// leaves and its training schedule as plain data. Fake quantization is made of standard float operators; the gradient of Round
// being taken as one, differentiation gives the straight-through estimator of weights and, with a learned step, exactly LSQ's
// gradient (Esser et al., "Learned Step Size Quantization", ICLR 2020, equation 3). Codes are what that graph computes, bit for bit.
//
// Activations are quantized per tensor by QuantizeLinear and DequantizeLinear where a target's Placement says, with ranges chosen
// once from observed values.
package quant

// Pass is the name recorded in the nodes made here.
const Pass = "quant"
