package quant

// nearest rounds to the nearest level of the least-squares scale, which stays as it is: quantization after training, and the
// start of training weights at fixed scales.
var nearest = Quantizer{
	Name: "ptq", Doc: "round to nearest at the least-squares scale",
	Grid:     TwosComplement,
	Start:    func(s Site, w []float32, g Grid) ([]float32, error) { return Scales(w, s.Dims, s.Axis, g) },
	Schedule: Schedule{Epochs: 30, Points: []Point{{0, 1, 1}, {10, 0.1, 1}, {20, 0.01, 1}, {25, 0.001, 1}}},
}
