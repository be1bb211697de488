package problem

import (
	"mqatc/onnx/hint"
	"mqatc/runtime/task/augment"
)

// parseAugment reads Options.Augment.
func parseAugment(text string, poses bool) (*augment.Spec, error) {
	if text == "" {
		return nil, nil
	}
	return augment.Parse(text, poses)
}

// bears reports whether a loss goes with images that are changed so: targets from files tell of images as they were.
func (g *goal) bears(s *augment.Spec) error {
	if g != nil && g.arrays != nil && s.Moves() {
		return hint.Errorf("name what leaves pixels in their places, as --augment colour,blur,noise",
			"augment: the targets in files would not fit images that are turned, scaled, cropped or mirrored")
	}
	return nil
}
