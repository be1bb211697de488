package wdr

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"mqatc/onnx/ir"
	"mqatc/runtime/pose"
	"mqatc/runtime/task/score"
)

// meshPoints bounds the model points that errors are averaged over.
const meshPoints = 2000

// surfaces are what errors are measured with, by object ID.
func (d *Data) surfaces() (map[int]*pose.Object, error) {
	out := map[int]*pose.Object{}
	for _, o := range d.objects {
		pts := o.points
		if m, err := o.model.Mesh(); err == nil && len(m.Vertices) >= 4 {
			pts = thin(m.Vertices, meshPoints)
		} else if err != nil && o.model.HasMesh() {
			return nil, fmt.Errorf("wdr: object %d: %w", o.model.ID, err)
		}
		center := o.model.Min
		for a := range 3 {
			center[a] += o.model.Size[a] / 2
		}
		out[o.model.ID] = &pose.Object{
			ID: o.model.ID, Surface: pose.NewSurface(pts), Diameter: o.diameter, Center: center, Symmetric: o.model.Symmetric(),
		}
	}
	return out, nil
}

// thin draws n of the points, with a fixed seed, where there are more.
func thin(points [][3]float64, n int) [][3]float64 {
	if len(points) <= n {
		return points
	}
	idx := rand.New(rand.NewPCG(0, 0x7468696e)).Perm(len(points))[:n]
	slices.Sort(idx)
	out := make([][3]float64, n)
	for i, k := range idx {
		out[i] = points[k]
	}
	return out
}

// Evaluate runs the network over all images, several at once, and measures the poses. The network must take batches of 1.
func (d *Data) Evaluate(ctx context.Context, run score.Runner, workers int, progress func(done, total int)) (*score.Score, error) {
	objects, err := d.surfaces()
	if err != nil {
		return nil, err
	}
	results := make([][]pose.Result, d.Len())
	group, ctx := errgroup.WithContext(ctx)
	var next, done atomic.Int64
	for range max(1, min(workers, d.Len())) {
		group.Go(func() error {
			dec, err := d.NewDecoder()
			if err != nil {
				return err
			}
			for i := int(next.Add(1)) - 1; i < d.Len() && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if results[i], err = d.measure(i, dec, run, objects); err != nil {
					return err
				}
				if n := int(done.Add(1)); progress != nil {
					progress(n, d.Len())
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(results...)
	if len(all) == 0 {
		return nil, fmt.Errorf("wdr: the data set has no known pose of an object that the network finds")
	}
	var depths *[2]float64
	if r := d.Config.DepthRange; len(r) == 2 && len(d.objects) == 1 {
		depths = &[2]float64{r[0] * d.objects[0].diameter, r[1] * d.objects[0].diameter}
	}
	s, err := pose.Summarize(d.Len(), all, depths)
	if err != nil {
		return nil, err
	}
	return &score.Score{Images: d.Len(), Name: "ad_0.1d", Main: s.AD01, Detail: s}, nil
}

func (d *Data) measure(i int, dec *Decoder, run score.Runner, objects map[int]*pose.Object) ([]pose.Result, error) {
	p, err := d.prepare(i)
	if err != nil {
		return nil, err
	}
	s, err := d.src.Sample(d.idx[i])
	if err != nil {
		return nil, err
	}
	t, err := d.Input.Tensor(p.rgb)
	if err != nil {
		return nil, err
	}
	outputs, err := run(map[string]*ir.Tensor{d.Input.Name: t})
	if err != nil {
		return nil, err
	}
	found, err := dec.Decode(outputs, 0, p.k)
	if err != nil {
		return nil, err
	}
	var out []pose.Result
	for k := range s.Instances {
		in := &s.Instances[k]
		o := objects[in.ObjID]
		if o == nil {
			continue
		}
		var est *pose.Pose
		for j := range found {
			if found[j].Object == in.ObjID {
				est = &found[j].Pose
			}
		}
		truth := pose.Pose{R: in.R, T: in.T}
		if math.IsNaN(truth.T[2]) {
			return nil, fmt.Errorf("wdr: image %s: object %d has no pose", s.Name, in.ObjID)
		}
		out = append(out, o.Measure(est, truth))
	}
	return out, nil
}
