"""Exports small networks with their losses by PyTorch's exporters, for main.go to differentiate, with PyTorch's own gradients.

usage: export.py OUT [NAME...]

OUT/index.json lists them. OUT/NAME.onnx takes "image" and gives "loss". OUT/NAME.bin holds float32 numbers, little-endian: image,
loss, and for every parameter its gradient, a random direction and the Hessian's product with that. PyTorch computes them in double
precision.
"""
import copy
import json
import os
import sys
import warnings

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

warnings.filterwarnings("ignore")
# The fused attention of the inference path is not an operator that the older exporter knows.
torch.backends.mha.set_fastpath_enabled(False)
torch.set_num_threads(1)

CLASSES = 10


class Classified(nn.Module):
    def __init__(self, net, batch):
        super().__init__()
        self.net = net
        self.register_buffer("wanted", F.one_hot(torch.arange(batch) * 3 % CLASSES, CLASSES).float())

    def forward(self, image):
        return -(F.log_softmax(self.net(image), 1) * self.wanted).sum(1).mean()


class Entropy(nn.Module):
    def __init__(self, net, batch):
        super().__init__()
        self.net = net
        self.register_buffer("wanted", torch.arange(batch) * 3 % CLASSES)

    def forward(self, image):
        return F.cross_entropy(self.net(image), self.wanted)


def block(cin, cout, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = block(c, c // 2, 1), block(c // 2, c, 3)

    def forward(self, x):
        return x + self.b(self.a(x))


class Detector(nn.Module):
    """Darknet with two units a stage, a feature pyramid of three levels, a head with GroupNorm that the levels share."""

    def __init__(self, c=16, f=32):
        super().__init__()
        self.stem = block(3, c, 3, 2)
        widths = [c, 2 * c, 4 * c, 8 * c]
        self.stages = nn.ModuleList(nn.Sequential(block(a, b, 3, 2), Residual(b), Residual(b)) for a, b in zip(widths, widths[1:]))
        self.lateral = nn.ModuleList(nn.Conv2d(w, f, 1) for w in widths[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(f, f, 3, padding=1) for _ in widths[1:])
        self.tower = nn.Sequential(nn.Conv2d(f, f, 3, padding=1), nn.GroupNorm(8, f), nn.ReLU())
        self.cls, self.box = nn.Conv2d(f, 3, 3, padding=1), nn.Conv2d(f, 4, 3, padding=1)

    def forward(self, x):
        x, maps = self.stem(x), []
        for s in self.stages:
            x = s(x)
            maps.append(x)
        top, out = None, []
        for m, lat, smooth in reversed(list(zip(maps, self.lateral, self.smooth))):
            m = lat(m)
            if top is not None:
                m = m + F.interpolate(top, scale_factor=2.0, mode="nearest")
            top = m
            h = self.tower(smooth(m))
            out.append(torch.cat([self.cls(h), self.box(h)], 1).flatten(2))
        return torch.cat(out, 2)


class Detected(nn.Module):
    """Focal loss (gamma 2, alpha 0.25) and smooth L1."""

    def __init__(self, net, image):
        super().__init__()
        self.net = net
        with torch.no_grad():
            shape = net(image).shape
        self.register_buffer("truth", (torch.rand(shape[0], 3, shape[2]) < 0.1).float())
        self.register_buffer("boxes", torch.randn(shape[0], 4, shape[2]))

    def forward(self, image):
        y = self.net(image)
        p = torch.sigmoid(y[:, :3])
        hit = p * self.truth + (1 - p) * (1 - self.truth)
        weight = 0.25 * self.truth + 0.75 * (1 - self.truth)
        focal = -(weight * (1 - hit) ** 2 * torch.log(hit.clamp(min=1e-6))).mean()
        d = (y[:, 3:] - self.boxes).abs()
        return focal + torch.where(d < 1, 0.5 * d * d, d - 0.5).mean()


class Reader(nn.Module):
    """A text reader (CRNN): convolutions make a sequence of columns, which two recurrent layers read in both directions."""

    def __init__(self, cell, c=16, hidden=24):
        super().__init__()
        self.features = nn.Sequential(block(3, c, 3, 2), block(c, 2 * c, 3, 2), block(2 * c, 2 * c, 3))
        self.rnn = cell(2 * c * 8, hidden, num_layers=2, bidirectional=True)
        self.out = nn.Linear(2 * hidden, CLASSES)

    def forward(self, x):
        x = self.features(x)
        x = x.flatten(1, 2).permute(2, 0, 1)
        return self.out(self.rnn(x)[0]).mean(0)


def crnn():
    return Reader(nn.LSTM)


def crnn_gru():
    return Reader(nn.GRU)


def resnet():
    return torchvision.models.resnet18(weights=None, num_classes=CLASSES)


def mobilenet():
    return torchvision.models.mobilenet_v3_small(weights=None, num_classes=CLASSES, dropout=0.0)


def vit():
    return torchvision.models.VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=CLASSES)


def classified(net, image):
    return Classified(net, len(image))


def entropy(net, image):
    return Entropy(net, len(image))


# name, network, loss, side, batch, statistics of the batch, export
NEW, OLD = dict(dynamo=True, optimize=False, external_data=False), dict(dynamo=False, do_constant_folding=False)
NETWORKS = [
    ("vit", vit, classified, 32, 2, False, dict(NEW, opset_version=20)),
    ("vit-attention", vit, classified, 32, 2, False, dict(NEW, opset_version=23)),
    ("detector", Detector, Detected, 64, 2, False, dict(NEW, opset_version=20)),
    ("detector-batch", Detector, Detected, 64, 2, True, dict(OLD, opset_version=17)),
    ("resnet18", resnet, classified, 64, 2, False, dict(NEW, opset_version=20)),
    ("resnet18-batch", resnet, entropy, 64, 2, True, dict(OLD, opset_version=17)),
    ("mobilenet_v3", mobilenet, classified, 64, 2, False, dict(NEW, opset_version=20)),
    ("mobilenet_v3-batch", mobilenet, entropy, 64, 2, True, dict(OLD, opset_version=17)),
    ("crnn", crnn, classified, 32, 2, False, dict(OLD, opset_version=17)),
    ("crnn-new", crnn, classified, 32, 2, False, dict(NEW, opset_version=20)),
    ("crnn-gru", crnn_gru, entropy, 32, 2, True, dict(OLD, opset_version=17)),
]


def unsettle(net):
    """Gives statistics, scales and zero parameters values that no error could hide behind."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            m.weight.data.uniform_(0.5, 1.5)
    for p in net.parameters():
        if not p.any():
            p.data.normal_(0, 0.05)


class Gate(nn.Module):
    """Hardsigmoid, or Hardswish, of operators whose gradients PyTorch can differentiate."""

    def __init__(self, swish):
        super().__init__()
        self.swish = swish

    def forward(self, x):
        gate = F.relu6(x + 3) / 6
        return x * gate if self.swish else gate


def twice_differentiable(net):
    for name, m in net.named_children():
        if isinstance(m, (nn.Hardsigmoid, nn.Hardswish)):
            setattr(net, name, Gate(isinstance(m, nn.Hardswish)))
        twice_differentiable(m)
    return net


def reference(net, image):
    net = twice_differentiable(copy.deepcopy(net).double())
    params = list(net.parameters())
    directions = [torch.randn(p.shape, dtype=torch.float32) * max(p.detach().float().pow(2).mean().sqrt().item(), 1e-3) for p in params]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = net(image.double())
        grads = torch.autograd.grad(loss, params, create_graph=True)
        along = sum((g * v.double()).sum() for g, v in zip(grads, directions))
        hv = torch.autograd.grad(along, params, materialize_grads=True)
    parts = [image, loss]
    for g, v, h in zip(grads, directions, hv):
        parts += [g, v, h]
    return [p.detach().float().numpy().ravel() for p in parts]


def main(out, only):
    index = []
    for name, build, loss, side, batch, training, how in NETWORKS:
        if only and name not in only:
            continue
        torch.manual_seed(0)
        net = build()
        unsettle(net)
        image = torch.rand(batch, 3, side, side)
        net = loss(net.eval(), image).train(training)
        np.concatenate(reference(net, image)).astype("<f4").tofile(os.path.join(out, name + ".bin"))
        if training:
            how = dict(how, training=torch.onnx.TrainingMode.TRAINING)
        torch.onnx.export(net, (image,), os.path.join(out, name + ".onnx"), input_names=["image"], output_names=["loss"], **how)
        index.append(dict(name=name, batch=batch, side=side, training=training, exporter="new" if how["dynamo"] else "old", opset=how["opset_version"],
                          parameters=[dict(name=k, shape=list(p.shape)) for k, p in net.named_parameters()]))
        print(name, flush=True)
        with open(os.path.join(out, "index.json"), "w") as f:
            json.dump(dict(torch=torch.__version__, networks=index), f, indent=1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    main(sys.argv[1], sys.argv[2:])
