"""Exports five networks for main.go to train a step of, and trains the same ones in PyTorch beside it.

usage: export.py OUT [NAME...]         writes OUT/NAME.onnx and OUT/index.json
       export.py --serve NAME HOW LSQ  HOW is eager, channels-last or compile; LSQ 1 fake-quantizes weights and activations.
                                       For each line N read, trains N steps and writes a line of their seconds and of the memory taken, in bytes.

Normalizations are folded into the convolutions. The loss is the mean square of output less target, the optimizer SGD with momentum.
"""
import gc
import json
import os
import sys
import time
import warnings

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.fx.experimental.optimization import fuse

warnings.filterwarnings("ignore")


def conv(cin, cout, kernel, stride=1):
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2)


class Plain(nn.Module):
    """Ten convolutions of 3x3, with shortcuts where shapes allow."""

    LAYERS = [(3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1)]

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(conv(c, k, 3, s) for c, k, s in self.LAYERS)

    def forward(self, x):
        for layer, (c, k, _) in zip(self.convs, self.LAYERS):
            y = F.relu(layer(x))
            x = y + x if c == k else y
        return x


class Unit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.reduce, self.expand = conv(c, c // 2, 1), conv(c // 2, c, 3)

    def forward(self, x):
        return x + F.leaky_relu(self.expand(F.leaky_relu(self.reduce(x), 0.1)), 0.1)


class Detector(nn.Module):
    """DarkNet of some units a stage, a pyramid of the last three, and towers of two convolutions that its levels share."""

    def __init__(self, widths, units, pyramid, outputs):
        super().__init__()
        self.stem = conv(3, widths[0], 3, 2)
        self.down = nn.ModuleList(conv(a, b, 3, 2) for a, b in zip(widths, widths[1:]))
        self.units = nn.ModuleList(nn.Sequential(*(Unit(b) for _ in range(u))) for b, u in zip(widths[1:], units))
        self.lateral = nn.ModuleList(conv(w, pyramid, 1) for w in widths[-3:])
        self.smooth = nn.ModuleList(conv(pyramid, pyramid, 3) for _ in widths[-3:])
        self.towers = nn.ModuleList(nn.ModuleList([conv(pyramid, pyramid, 3), conv(pyramid, pyramid, 3), conv(pyramid, o, 3)]) for o in outputs)

    def forward(self, x):
        x, maps = F.leaky_relu(self.stem(x), 0.1), []
        for down, units in zip(self.down, self.units):
            x = units(F.leaky_relu(down(x), 0.1))
            maps.append(x)
        top, out = None, []
        for m, lateral, smooth in reversed(list(zip(maps[-3:], self.lateral, self.smooth))):
            m = lateral(m)
            top = m if top is None else m + F.interpolate(top, scale_factor=2.0, mode="nearest")
            level = smooth(top)
            for a, b, c in self.towers:
                out.append(c(F.leaky_relu(b(F.leaky_relu(a(level), 0.1)), 0.1)).flatten(1))
        return torch.cat(out, 1)


# name, network, batch, side
NETWORKS = {
    "ten convolutions": (Plain, 8, 128),
    "resnet18": (lambda: fuse(torchvision.models.resnet18(weights=None).eval()), 8, 128),
    "mobilenet_v2": (lambda: fuse(torchvision.models.mobilenet_v2(weights=None, dropout=0.0).eval()), 8, 128),
    "detector": (lambda: Detector([32, 64, 128, 256, 512], [1, 2, 2, 1], 128, [8, 64]), 4, 192),
    "cubesat": (lambda: Detector([16, 32, 64, 128, 176], [1, 2, 2, 1], 64, [1, 16]), 32, 96),
}


def build(name):
    torch.manual_seed(0)
    net, batch, side = NETWORKS[name]
    return net(), torch.rand(batch, 3, side, side)


class Scaled(torch.autograd.Function):
    """The step size itself, its gradient scaled."""

    @staticmethod
    def forward(ctx, s, scale):
        ctx.scale = scale
        return s.view_as(s)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.scale, None


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class Quantizer(nn.Module):
    """LSQ (Esser et al. 2020) with its step sizes trained."""

    def __init__(self, start, lo, hi, elements):
        super().__init__()
        self.step, self.lo, self.hi, self.scale = nn.Parameter(start), lo, hi, 1 / (elements * hi) ** 0.5

    def forward(self, x):
        s = Scaled.apply(self.step, self.scale)
        return Rounded.apply(torch.clamp(x / s, self.lo, self.hi)) * s


class Quantized(nn.Module):
    """A convolution or linear layer: 4-bit weights by output channel, 8-bit activations; what it reads may be signed."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        w = layer.weight
        mean = w.detach().abs().mean(tuple(range(1, w.dim())), keepdim=True)
        self.qw = Quantizer(2 * mean / 7**0.5, -7, 7, w[0].numel())
        self.qa = Quantizer(torch.full((1,), 0.02), -128, 127, 1)

    def forward(self, x):
        w, x = self.qw(self.layer.weight), self.qa(x)
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, w, self.layer.bias)
        return self.layer._conv_forward(x, w, self.layer.bias)


def quantize(net):
    for name, m in net.named_children():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            setattr(net, name, Quantized(m))
        else:
            quantize(m)
    return net


def status(key):
    """A figure of /proc/self/status in bytes."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) << 10
    return 0


def serve(name, how, lsq):
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    warm = nn.Sequential(conv(3, 16, 3), nn.ReLU(), conv(16, 16, 3))
    for _ in range(2):  # what the libraries take once
        (warm(torch.rand(1, 3, 16, 16)) ** 2).mean().backward()
        torch.optim.SGD(warm.parameters(), lr=1e-4, momentum=0.9).step()
    before = status("VmRSS")
    net, x = build(name)
    if lsq:
        net = quantize(net)
    gc.collect()
    ready = status("VmRSS")
    with torch.no_grad():
        target = torch.zeros_like(net(x))
    if how == "channels-last":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    run = torch.compile(net) if how == "compile" else net
    process = status("VmHWM")
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # VmHWM begins anew
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            start = time.perf_counter()
            optimizer.zero_grad()
            ((run(x) - target) ** 2).mean().backward()
            optimizer.step()
            took.append(time.perf_counter() - start)
        peak = status("VmHWM")
        print(json.dumps(dict(seconds=took, bytes=peak - before, steps=peak - ready, process=max(peak, process))), flush=True)


def main(out, only):
    index = []
    for name, (_, batch, side) in NETWORKS.items():
        if only and name not in only:
            continue
        net, x = build(name)
        file = name.replace(" ", "_") + ".onnx"
        torch.onnx.export(net.eval(), (x,), os.path.join(out, file), input_names=["image"], output_names=["y"], dynamo=False, opset_version=17,
                          dynamic_axes={"image": {0: "batch"}, "y": {0: "batch"}})
        index.append(dict(name=name, file=file, batch=batch, side=side))
        print(name, flush=True)
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump(dict(torch=torch.__version__, networks=index), f, indent=1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--serve":
        serve(sys.argv[2], sys.argv[3], sys.argv[4] == "1")
    else:
        os.makedirs(sys.argv[1], exist_ok=True)
        main(sys.argv[1], sys.argv[2:])
