package mqat

import (
	"context"

	"mqatc/compiler/problem"
	"mqatc/runtime/task/score"
)

// FineTuned is the float network trained on for as long as MQAT trains it: what part of a change is due to training alone.
type FineTuned struct {
	Before, After *score.Score
	Epochs        float64
	Info          TrainInfo
}

// FineTune trains the float network of j for as many epochs as MQAT would take, with the same data, optimizer and rate. The better of
// the two on held-out data is measured on the evaluation data.
func FineTune(ctx context.Context, j Job) (*FineTuned, error) {
	cfg, err := j.Config.withDefaults()
	if err != nil {
		return nil, err
	}
	b, err := newBench(ctx, j.Net, j.Problem, j.Dir, j.Watch, cfg)
	if err != nil {
		return nil, err
	}
	b.prefix = j.Prefix
	f := &FineTuned{Epochs: TotalEpochs(b.cfg, len(b.modules))}
	v := b.Float()
	if f.Before, err = b.measure(v.(*variant), problem.Eval, "float"); err != nil {
		return nil, err
	}
	t, info, err := b.Train(v, "float", "", f.Epochs)
	if err != nil {
		return nil, err
	}
	f.Info = info
	before, err := b.Score(v, "float")
	if err != nil {
		return nil, err
	}
	after, err := b.Score(t, "float-after")
	if err != nil {
		return nil, err
	}
	f.After = f.Before
	if after >= before {
		if f.After, err = b.measure(t.(*variant), problem.Eval, "float fine-tuned"); err != nil {
			return nil, err
		}
	}
	return f, b.dir.Store(b.prefix+"finetuned", f.After.Value())
}
