// Command grad differentiates the networks that export.py made, runs the gradients on onnxruntime and compares them with PyTorch's.
//
// usage: go run ./bench/grad OUT
//
// A gradient g of a parameter agrees when it lies within 1e-4 |g| + 1e-6 G of PyTorch's, G being the largest norm of all parameters'
// gradients; the Hessian's product with a random direction when it lies within 1e-3 of its norm, over all parameters.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"

	"mqatc/onnx/format"
	"mqatc/onnx/ir"
	"mqatc/onnx/op"
	"mqatc/passes/grad"
	"mqatc/runtime/ort"
)

type parameter struct {
	Name  string  `json:"name"`
	Shape []int64 `json:"shape"`
}

func (p parameter) size() int {
	n := int64(1)
	for _, d := range p.Shape {
		n *= d
	}
	return int(n)
}

type network struct {
	Name       string      `json:"name"`
	Batch      int64       `json:"batch"`
	Side       int64       `json:"side"`
	Exporter   string      `json:"exporter"`
	Opset      int64       `json:"opset"`
	Parameters []parameter `json:"parameters"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: grad OUT")
		os.Exit(2)
	}
	bad, err := table(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "grad:", err)
		os.Exit(1)
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "grad: %d networks fall short\n", bad)
		os.Exit(1)
	}
}

func table(dir string) (bad int, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return 0, err
	}
	var index struct {
		Torch    string    `json:"torch"`
		Networks []network `json:"networks"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return 0, err
	}
	if err := ort.Open(context.Background(), ort.Options{}); err != nil {
		return 0, err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "torch %s\texporter\tparameters\tnodes\tgradient\tHessian\tloss off\tgradients agree\tworst\tof limit\tHessian product off\t\n", index.Torch)
	for _, n := range index.Networks {
		r, err := n.compare(dir)
		if err != nil {
			fmt.Fprintf(w, "%s\t%s %d\t%v\n", n.Name, n.Exporter, n.Opset, err)
			bad++
			continue
		}
		word := "ok"
		if !r.ok() {
			word = "off"
			bad++
		}
		fmt.Fprintf(w, "%s\t%s %d\t%d\t%d\t%d\t%d\t%.1e\t%d\t%s\t%.2g\t%.1e\t%s\n", n.Name, n.Exporter, n.Opset, len(n.Parameters), r.forward, r.first, r.second,
			r.loss, r.agree, r.worst, r.part, r.product, word)
	}
	return bad, w.Flush()
}

// result is a line of the table.
type result struct {
	forward, first, second int     // nodes
	loss                   float64 // relative difference
	parameters, agree      int     // parameters in all, and those whose gradients agree
	worst                  string  // the parameter that comes closest to its limit, and
	part                   float64 // the part of its limit it takes
	product                float64 // relative difference of the Hessian product
}

func (r *result) ok() bool {
	return r.agree == r.parameters && r.loss <= 1e-4 && r.product <= 1e-3
}

// graph is a network with the nodes that compute its gradients.
type graph struct {
	m           *ir.Model
	loss        *ir.Value
	grads, prod []*ir.Value // per parameter; nil is zero
	feeds       map[string]*ir.Tensor
	r           *result
}

func (n *network) compare(dir string) (*result, error) {
	numbers, err := floats(filepath.Join(dir, n.Name+".bin"))
	if err != nil {
		return nil, err
	}
	take := func(k int) []float32 {
		k = min(k, len(numbers))
		f := numbers[:k]
		numbers = numbers[k:]
		return f
	}
	image, loss := take(int(n.Batch*3*n.Side*n.Side)), take(1)
	var grads, directions, products [][]float32
	for _, p := range n.Parameters {
		grads, directions, products = append(grads, take(p.size())), append(directions, take(p.size())), append(products, take(p.size()))
	}
	if k := len(n.Parameters) - 1; k < 0 || len(products[k]) != n.Parameters[k].size() || len(numbers) > 0 {
		return nil, fmt.Errorf("%s.bin does not have the length of its parameters", n.Name)
	}
	m, err := format.Load(filepath.Join(dir, n.Name+".onnx"))
	if err != nil {
		return nil, err
	}
	g := &graph{m: m, feeds: map[string]*ir.Tensor{}, r: &result{}}
	if err := g.differentiate(n, directions); err != nil {
		return nil, err
	}
	if g.feeds["image"], err = ir.FromFloat32s(image, n.Batch, 3, n.Side, n.Side); err != nil {
		return nil, err
	}
	out, err := g.run()
	if err != nil {
		return nil, err
	}
	got, err := g.read(out, g.loss, 1)
	if err != nil {
		return nil, err
	}
	g.r.loss = norm(minus(got, loss)) / norm(wide(loss))
	return g.r, g.judge(n, out, grads, products)
}

// differentiate makes the parameters inputs of the graph and appends the gradients of the loss, and those of their inner product with
// the directions.
func (g *graph) differentiate(n *network, directions [][]float32) error {
	top := g.m.Graph
	if err := op.InferModel(g.m, nil); err != nil {
		return err
	}
	g.r.forward = top.NumNodes()
	g.loss = top.Outputs()[0]
	var params []*ir.Value
	for _, p := range n.Parameters {
		v := top.Value(p.Name)
		if v == nil || v.Init() == nil {
			return fmt.Errorf("parameter %q is no initializer", p.Name)
		}
		g.feeds[p.Name] = v.Init()
		if !v.IsInput() {
			if err := top.InputFromInitializer(v); err != nil {
				return err
			}
		}
		params = append(params, v)
	}
	var err error
	if g.grads, err = grad.Gradients(top, []grad.Seed{{Value: g.loss}}, params, grad.Options{}); err != nil {
		return err
	}
	g.r.first = top.NumNodes() - g.r.forward
	var seeds []grad.Seed
	for i, p := range n.Parameters {
		if g.grads[i] == nil {
			continue
		}
		v, err := top.AddInput(top.FreshName(p.Name+"_direction"), ir.TensorType(ir.Float32, ir.StaticShape(p.Shape...)))
		if err != nil {
			return err
		}
		if g.feeds[v.Name()], err = ir.FromFloat32s(directions[i], p.Shape...); err != nil {
			return err
		}
		seeds = append(seeds, grad.Seed{Value: g.grads[i], Cotangent: v})
	}
	if g.prod, err = grad.Gradients(top, seeds, params, grad.Options{}); err != nil {
		return fmt.Errorf("second order: %w", err)
	}
	g.r.second = top.NumNodes() - g.r.forward - g.r.first
	return nil
}

func (g *graph) run() (map[string]*ir.Tensor, error) {
	outs, seen := []*ir.Value{g.loss}, map[*ir.Value]bool{}
	for _, v := range append(append([]*ir.Value{}, g.grads...), g.prod...) {
		if v != nil && !seen[v] {
			seen[v] = true
			outs = append(outs, v)
		}
	}
	if err := g.m.Graph.SetOutputs(outs...); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "grad")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	file := filepath.Join(temp, "step.onnx")
	if _, err := format.Save(g.m, file, format.SaveOptions{ExternalFile: "step.data"}); err != nil {
		return nil, err
	}
	s, err := ort.NewSessionFile(file, ort.SessionOptions{Threads: 1})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Run(g.feeds, nil)
}

// read gives the n elements of an output, zeros where v is nil.
func (g *graph) read(out map[string]*ir.Tensor, v *ir.Value, n int) ([]float64, error) {
	if v == nil {
		return make([]float64, n), nil
	}
	t := out[v.Name()]
	if t == nil {
		return nil, fmt.Errorf("no output %q", v.Name())
	}
	f, err := t.Floats()
	if err == nil && len(f) != n {
		err = fmt.Errorf("%q has %d elements, not %d", v.Name(), len(f), n)
	}
	return f, err
}

func (g *graph) judge(n *network, out map[string]*ir.Tensor, grads, products [][]float32) error {
	r := g.r
	r.parameters = len(n.Parameters)
	largest := 0.0
	for _, want := range grads {
		largest = math.Max(largest, norm(wide(want)))
	}
	off, all := 0.0, 0.0
	for i, p := range n.Parameters {
		got, err := g.read(out, g.grads[i], p.size())
		if err != nil {
			return err
		}
		part := norm(minus(got, grads[i])) / (1e-4*norm(wide(grads[i])) + 1e-6*largest)
		if part <= 1 {
			r.agree++
		}
		if !(part <= r.part) {
			r.worst, r.part = p.Name, part
		}
		if got, err = g.read(out, g.prod[i], p.size()); err != nil {
			return err
		}
		off, all = math.Hypot(off, norm(minus(got, products[i]))), math.Hypot(all, norm(wide(products[i])))
	}
	r.product = off / all
	return nil
}

func floats(path string) ([]float32, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := make([]float32, len(raw)/4)
	for i := range f {
		f[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return f, nil
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = float64(x[i])
	}
	return y
}

func minus(a []float64, b []float32) []float64 {
	d := wide(b)
	for i := range d {
		d[i] = a[i] - d[i]
	}
	return d
}

func norm(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v * v
	}
	return math.Sqrt(s)
}
