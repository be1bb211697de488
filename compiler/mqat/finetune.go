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

// FineTune trains the float network of j for as many epochs as MQAT would take, with the same data, optimizer and rate. What is best
// on held-out data, at the end of the training or part of its way, is measured on the evaluation data.
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
	st := StageResult{Module: "all", Info: info}
	if st.Before, err = b.Score(v, "float"); err != nil {
		return nil, err
	}
	best, err := st.choose(b, v, t, "float")
	if err != nil {
		return nil, err
	}
	f.After = f.Before
	if st.Kept {
		if f.After, err = b.measure(best.(*variant), problem.Eval, "float fine-tuned"); err != nil {
			return nil, err
		}
	}
	return f, b.dir.Store(b.prefix+"finetuned", f.After.Value())
}
