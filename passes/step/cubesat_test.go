package step_test

import (
	"os"
	"strconv"
	"testing"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/passes/step"
	"mqatc/runtime/ort"
	"mqatc/runtime/ort/orttest"
	"mqatc/runtime/task"
	"mqatc/runtime/task/prep"
	"mqatc/runtime/task/wdr"
	"mqatc/runtime/train"
	"mqatc/testmodels/cubesat"
)

// poseProblem is the satellite's network of a width with data of n images.
func poseProblem(t testing.TB, size int, width float64, n int) (*ir.Model, *wdr.Data, *ir.Model) {
	t.Helper()
	m, err := cubesat.Network(1, size, width)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := task.Lookup("cubesat")
	if err != nil {
		t.Fatal(err)
	}
	in, err := prep.Fit(spec.Prep, m.Graph.Inputs())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := wdr.FindLayout(m.Graph.Outputs(), in.Width, in.Height)
	if err != nil {
		t.Fatal(err)
	}
	config, err := spec.WDR.WithDefaults(size)
	if err != nil {
		t.Fatal(err)
	}
	set, err := cubesat.Generate(cubesat.Config{Size: size, Seed: 3}, n, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := wdr.NewData(in, layout, config, set.Source(), nil)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := wdr.Loss(layout, config)
	if err != nil {
		t.Fatal(err)
	}
	return m, data, loss
}

func bytesOf(t testing.TB, m *ir.Model) []byte {
	t.Helper()
	raw, err := format.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// weightsOf are the first values of the trained tensors.
func weightsOf(m *ir.Model, params []step.Param) map[string]*ir.Tensor {
	out := map[string]*ir.Tensor{}
	for _, p := range params {
		out[p.Name] = m.Graph.Value(p.Name).Init()
	}
	return out
}

// benchThreads is MQATC_THREADS, or 2.
func benchThreads() int {
	if n, err := strconv.Atoi(os.Getenv("MQATC_THREADS")); err == nil {
		return n
	}
	return 2
}

// BenchmarkCubesatStep is one training step of the pose network: batch 32 of 96x96, MQATC_THREADS threads (2). With
// MQATC_PROFILE=PREFIX onnxruntime writes its profile there, with MQATC_STEP=FILE the step graph is saved.
func BenchmarkCubesatStep(b *testing.B) {
	orttest.TestLibrary(b)
	m, data, loss := poseProblem(b, 96, 1, 64)
	params := step.Trainable(m)
	s, err := step.Build(m, step.Options{Loss: loss, Batch: 32, Params: params,
		Optimizer: step.Optimizer{Name: "nesterov", Momentum: 0.9, WeightDecay: 1e-4, ClipNorm: 5}})
	if err != nil {
		b.Fatal(err)
	}
	if path := os.Getenv("MQATC_STEP"); path != "" {
		if _, err := format.Save(s, path, format.SaveOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	e, err := train.New(train.Config{Step: bytesOf(b, s), State: weightsOf(m, params), Threads: benchThreads(),
		Session: ort.SessionOptions{Profile: os.Getenv("MQATC_PROFILE")}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	var samples []train.Feeds
	for i := range 32 {
		f, err := data.Sample(i, nil)
		if err != nil {
			b.Fatal(err)
		}
		samples = append(samples, f)
	}
	batch, err := train.Collate(samples)
	if err != nil {
		b.Fatal(err)
	}
	extra, err := data.Feeds(0, 100)
	if err != nil {
		b.Fatal(err)
	}
	batch[wdr.TargetEps] = extra[wdr.TargetEps]
	b.ResetTimer()
	for b.Loop() {
		l, err := e.Step(0.001, batch)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(l, "loss")
	}
	b.ReportMetric(float64(32*b.N)/b.Elapsed().Seconds(), "images/s")
	if os.Getenv("MQATC_PROFILE") != "" {
		path, err := e.EndProfile()
		b.Logf("profile %s, %v", path, err)
	}
}

// firstImages is a batch of the first n images with what else the loss is fed at the first of so many steps.
func firstImages(t testing.TB, data *wdr.Data, n, steps int) train.Feeds {
	t.Helper()
	var samples []train.Feeds
	for i := range n {
		f, err := data.Sample(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, f)
	}
	batch, err := train.Collate(samples)
	if err != nil {
		t.Fatal(err)
	}
	more, err := data.Feeds(0, steps)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range more {
		batch[k] = v
	}
	return batch
}
