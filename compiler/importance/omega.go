package importance

import "fmt"

// Omega is the importance of a module at one bit width, the paper's equation 1: the mean over its layers of
// lambda_i / N_i * |Q(W_i) - W_i|^2. lambda, elements and err2 hold one entry per layer: the sensitivity, the number of weights
// and the squared error of quantizing them.
func Omega(lambda []float64, elements []int64, err2 []float64) (float64, error) {
	if len(lambda) != len(elements) || len(lambda) != len(err2) {
		return 0, fmt.Errorf("importance: %d sensitivities, %d sizes, %d errors", len(lambda), len(elements), len(err2))
	}
	if len(lambda) == 0 {
		return 0, nil
	}
	sum := 0.0
	for i := range lambda {
		if elements[i] <= 0 {
			return 0, fmt.Errorf("importance: layer %d has %d weights", i, elements[i])
		}
		sum += lambda[i] / float64(elements[i]) * err2[i]
	}
	return sum / float64(len(lambda)), nil
}
