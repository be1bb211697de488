"""Exports networks whose Hessian's trace main.go estimates, and estimates the same ones with PyHessian beside it.

usage: export.py OUT [NAME...]       writes OUT/NAME.onnx, .images, .labels and .pt, and OUT/index.json
       export.py --serve OUT NAME HOW  HOW is eager or channels-last. For each line N read, estimates anew with N probes and writes a line of
                                       JSON: seconds in all, seconds of each probe, and the samples of each weight in the order of index.json.

The loss is the cross-entropy of one batch. Normalizations, in evaluation mode, have the statistics of that batch; the trace is that of
the weights of convolutions and linear layers, all others being constants.
"""
import importlib
import json
import math
import os
import sys
import time
import warnings

import torch
import torchvision
from torch import nn
from torch.fx.experimental.optimization import fuse

warnings.filterwarnings("ignore")

# name: network, batch, side, whether normalizations are folded into the convolutions
NETWORKS = {
    "resnet18": (torchvision.models.resnet18, 4, 224, False),
    "resnet18-folded": (torchvision.models.resnet18, 4, 224, True),
}


def build(name):
    torch.manual_seed(0)
    make, batch, side, folded = NETWORKS[name]
    net = make(weights=None)
    x, labels = torch.randn(batch, 3, side, side), torch.randint(1000, (batch,))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    net.eval()
    return fuse(net) if folded else net, x, labels


def weights(net):
    return [f"{name}.weight" for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def main(out, only):
    index = []
    for name, (_, batch, side, folded) in NETWORKS.items():
        if only and name not in only:
            continue
        net, x, labels = build(name)
        base = os.path.join(out, name)
        torch.onnx.export(net, (x,), base + ".onnx", input_names=["image"], output_names=["y"], dynamo=False, opset_version=17,
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
        x.numpy().tofile(base + ".images")
        labels.numpy().tofile(base + ".labels")
        torch.save(dict(net=net, x=x, labels=labels), base + ".pt")
        index.append(dict(name=name, batch=batch, side=side, layers=weights(net)))
        print(name, flush=True)
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump(dict(torch=torch.__version__, networks=index), f, indent=1)


def serve(out, name, how):
    # The package's name hessian is the class; the module has its own.
    module = importlib.import_module("pyhessian.hessian")

    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    saved = torch.load(os.path.join(out, name + ".pt"), weights_only=False)
    net, x, labels = saved["net"].eval(), saved["x"], saved["labels"]
    order = weights(net)
    for k, p in net.named_parameters():
        p.requires_grad_(k in order)
    if how == "channels-last":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    samples, ends = [], []

    # PyHessian's own inner product, which also keeps its parts.
    def group_product(xs, ys):
        parts = [torch.sum(x * y) for (x, y) in zip(xs, ys)]
        samples.append(parts)
        ends.append(time.perf_counter())
        return sum(parts)

    module.group_product = group_product
    for line in sys.stdin:
        samples.clear()
        ends.clear()
        for p in net.parameters():
            p.grad = None
        torch.manual_seed(1)
        start = time.perf_counter()
        h = module.hessian(net, nn.CrossEntropyLoss(), data=(x, labels), cuda=False)
        ends.append(time.perf_counter())
        h.trace(maxIter=int(line), tol=-math.inf)
        took = time.perf_counter() - start
        found = [k for k, p in net.named_parameters() if p.requires_grad]
        values = torch.tensor([[float(v) for v in s] for s in samples])
        print(json.dumps(dict(seconds=took, probes=[b - a for a, b in zip(ends, ends[1:])],
                              samples=[values[:, found.index(k)].tolist() for k in order])), flush=True)
        del h


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--serve":
        serve(sys.argv[2], sys.argv[3], sys.argv[4])
    else:
        os.makedirs(sys.argv[1], exist_ok=True)
        main(sys.argv[1], sys.argv[2:])
