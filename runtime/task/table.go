package task

import (
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
)

// imagenet are the mean and the deviation of ImageNet's pixels, RGB in 0..1.
var imagenet = prep.Spec{Order: "rgb", Scale: 1.0 / 255, Mean: [3]float64{0.485, 0.456, 0.406}, Std: [3]float64{0.229, 0.224, 0.225}, Fit: "stretch"}

func raw(order string, mean, std [3]float64) prep.Spec {
	return prep.Spec{Order: order, Scale: 1, Mean: mean, Std: std, Fit: "stretch"}
}

func all(v float64) [3]float64 { return [3]float64{v, v, v} }

// gdrnet takes each image for the crop of an object.
func gdrnet() prep.Spec {
	s := prep.Default()
	s.Order = "bgr"
	s.Others = map[string]prep.Other{"roi_coord_2d": {Coordinates: true}, "roi_extents": {Values: []float64{0.1}}}
	return s
}

// table holds the tasks known by name; the first is the default.
var table = []Task{
	{Name: "image", Loss: LossDistill, Prep: prep.Default(), about: "any network on images: RGB divided by 255, stretched"},
	{Name: "imagenet", Loss: LossDistill, Prep: imagenet, about: "RGB with ImageNet's mean and deviation"},
	{Name: "objectron_cup", Loss: LossDistill, Prep: prep.Default(), about: "Google Objectron's box keypoints: RGB divided by 255"},
	{Name: "blazepose", Loss: LossDistill, Prep: prep.Default(), about: "BlazePose landmarks: RGB divided by 255, a person's crop"},
	{Name: "nanodet", Loss: LossDistill, about: "NanoDet: BGR with its own mean and deviation",
		Prep: raw("bgr", [3]float64{103.53, 116.28, 123.675}, [3]float64{57.375, 57.12, 58.395})},
	{Name: "yunet", Loss: LossDistill, Prep: raw("bgr", all(0), all(1)), about: "YuNet faces: BGR, 0..255"},
	{Name: "ultraface", Loss: LossDistill, Prep: raw("rgb", all(127), all(128)), about: "Ultra-Light-Fast face detector: (RGB - 127) / 128"},
	{Name: "ppocr", Loss: LossDistill, Prep: imagenet, about: "PP-OCR text detection: RGB with ImageNet's mean and deviation"},
	{Name: "pyrapose", Loss: LossDistill, about: "PyraPose: BGR less ImageNet's mean",
		Prep: raw("bgr", [3]float64{103.939, 116.779, 123.68}, all(1))},
	{Name: "fasterrcnn", Loss: LossDistill, about: "detectron2's Faster R-CNN: BGR less ImageNet's mean",
		Prep: raw("bgr", [3]float64{103.53, 116.28, 123.675}, all(1))},
	{Name: "gdrnet", Loss: LossDistill, Prep: gdrnet(), about: "GDR-Net: BGR divided by 255, a crop of one object of a tenth of a metre"},
	{Name: "wdr", Loss: LossWDR, Prep: imagenet, WDR: &wdr.Config{}, about: "wide-depth-range pose estimation as its authors trained it"},
	{Name: "cubesat", Loss: LossWDR, Prep: raw("rgb", all(60), all(64)), WDR: &wdr.Config{AnchorScale: 3, DepthRange: []float64{1.1, 2.6}},
		about: "the pose network of `mqatc data cubesat`: (RGB - 60) / 64, anchors of three strides"},
}
