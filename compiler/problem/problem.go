// Package problem ties a network to data: what it is trained on, by which loss, and how it is measured.
package problem

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"mqatc/onnx/ir"
	"mqatc/runtime/data/bop"
	"mqatc/runtime/task"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/score"
	"mqatc/runtime/train"
)

// Problem is a network's task on a data set. Its methods may be called from one goroutine at a time, Source's from several.
type Problem interface {
	// Source makes training samples: the network's input and the loss's targets.
	Source() train.Source
	// Loss is the loss graph, named after the network's outputs and the targets.
	Loss() *ir.Model
	// Feeds are the loss's inputs that follow the step, such as an annealed constant; none where it returns nil.
	Feeds(step, steps int) (train.Feeds, error)
	// Calibration are up to n network inputs of batch 1 out of the training data.
	Calibration(n int) ([]train.Feeds, error)
	// Score measures a network, run by run, on part of the data.
	Score(ctx context.Context, part Part, run score.Runner, progress func(done, total int)) (*score.Score, error)
	// Describe says what there is.
	Describe() Description
	// Close frees what the problem holds.
	Close() error
}

// Part of the data that a network is measured on.
type Part int

// Held is what decisions are made on, Eval what results are reported on; they are the same where no evaluation data is given.
const (
	Held Part = iota
	Eval
)

// Description is for reports.
type Description struct {
	Task, Loss, Metric string
	Train, Held, Eval  int
	HeldOut            string // how the held-out data was chosen
	Preproc            string
	Input              *prep.Input
	Labels             bool // the metric uses labels, so that a network can get better than the float one
	// Lower says that less of the metric is better; scores are its negatives then.
	Lower bool
	// Float is the float network's metric where it need not be measured, nil elsewhere.
	Float *float64
}

// Options of Open.
type Options struct {
	Task task.Task
	Data string // folder of training data
	Eval string // folder of evaluation data; "" holds out every tenth training image
	// Loss is what is trained on instead of the task's loss: a name of runtime/task/loss or FILE.onnx; "" is the task's.
	Loss string
	// Metric is the one that decides, one of Metrics; "" is the task's.
	Metric string
	// Raw are outputs of the network that training and decisions see, while results are reported without.
	Raw     []string
	Seed    uint64
	Threads int
	// Distill are further values of the network that the loss distill compares with the float network's, beside the outputs.
	Distill []string
	// Augment changes training images, as augment.Parse reads it; "" and none leave them as they are: then a network without labels is
	// trained on a fixed set of views of each image.
	Augment string
	// Device runs the float network, as ort.SessionOptions has it.
	Device string
	// Limit bounds the number of training and of evaluation images; 0 takes all.
	Limit int
	// TrainSource and EvalSource are data in memory instead of folders.
	TrainSource, EvalSource bop.Source
}

// isDir reports a folder.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Open makes the problem of a network. Data in a folder is a BOP data set for pose tasks, else images; a folder with both
// train2017-like images and no labels serves every task that needs images alone.
func Open(m *ir.Model, o Options) (Problem, error) {
	in, err := prep.Fit(o.Task.Prep, m.Graph.Inputs())
	if err != nil {
		return nil, err
	}
	if o.Data == "" && o.TrainSource == nil {
		return nil, fmt.Errorf("no data: name a folder with --data DIR")
	}
	for _, dir := range []string{o.Data, o.Eval} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			return nil, err
		}
	}
	decides, err := findMetric(o.Task, o.Metric)
	if err != nil {
		return nil, err
	}
	if o.Task.Loss == task.LossWDR && len(in.Fixed) > 0 {
		return nil, fmt.Errorf("task %s: a pose network of this kind has one input, the image", o.Task.Name)
	}
	if o.Task.Loss == task.LossWDR {
		return openPose(m, in, o, decides)
	}
	return openImages(m, in, o, decides)
}

// describeInput says what a network eats, in a line.
func describeInput(in *prep.Input) string {
	return fmt.Sprintf("%s %dx%d %s, (v*%.6g - %v) / %v", in.Fit, in.Width, in.Height, in.Order, in.Scale, in.Mean, in.Std)
}

// workers is how many images are measured side by side.
func workers(threads int) int {
	if threads > 0 {
		return threads
	}
	return runtime.NumCPU()
}

func limited(idx []int, n int) []int {
	if n > 0 && len(idx) > n {
		return idx[:n]
	}
	return idx
}

// Bounds of the images that decisions are made on: beyond them a measurement costs more than it tells. Agreement with the float
// network is a sum over many elements of each image; a pose is right or wrong, and 400 of them have a standard error of 1.4 points.
const (
	mostHeld      = 400
	mostHeldPoses = 1000
)

// thinned keeps at most so many of the held-out images, evenly spread.
func thinned(idx []int, most int) []int {
	if len(idx) <= most {
		return idx
	}
	out := make([]int, most)
	for i := range out {
		out[i] = idx[i*len(idx)/most]
	}
	return out
}
