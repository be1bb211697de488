"""Exports networks with random weights by both of PyTorch's exporters and tells which module owns each weight.

usage: export.py OUT [NAME...]

OUT/index.json lists the files. "truth" gives each weight of a file, by its name there, the module of the PyTorch parameter that it
was made from: exporters rename, transpose and scale weights, so the two are matched by value, up to a factor per channel.
"""
import json
import os
import sys
import warnings

import networks
import numpy as np
import onnx
import torch
from onnx import numpy_helper

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

OPSET = dict(old=17, new=20)


class Found(torch.nn.Module):
    """A detector of torchvision takes a list of images and returns a list of dictionaries."""

    def __init__(self, net, keys):
        super().__init__()
        self.net, self.keys = net, keys

    def forward(self, image):
        found = self.net([image[0]])[0]
        return tuple(found[k] for k in self.keys)


class Raw(torch.nn.Module):
    """A one-stage detector without what comes before and after its network: today's exporter refuses the whole."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        found = self.net.head(list(self.net.backbone(image).values()))
        return tuple(found[k] for k in sorted(found))


class Segments(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)["out"]


BOX = ("boxes", "scores", "labels")
PYRAMID = dict(backbone=["net.backbone.body"], fpn=["net.backbone.fpn"], head=["net.head"])
RCNN = dict(backbone=["net.backbone.body"], fpn=["net.backbone.fpn"], rpn=["net.rpn"], roi=["net.roi_heads"])
SSD = dict(backbone=["net.backbone"], head=["net.head"])
SEGMENT = dict(backbone=["net.backbone"], head=["net.classifier"])


def detector(name, keys=BOX, raw=False):
    def make():
        import torchvision

        build = getattr(torchvision.models.detection, name)
        size = {} if "ssd" in name else dict(min_size=128, max_size=128)
        classes = {} if "keypoint" in name else dict(num_classes=5)
        net = build(weights=None, weights_backbone=None, **classes, **size)
        return Raw(net) if raw else Found(net, keys)

    return make


def segmenter(name):
    def make():
        import torchvision

        return Segments(getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5))

    return make


def without_pyramid():
    """The two-stage detector of torchvision's tutorial: one map, both stages on it."""
    from torchvision.models import mobilenet_v2
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    body = mobilenet_v2(weights=None).features
    body.out_channels = 1280
    net = FasterRCNN(
        body, num_classes=5, rpn_anchor_generator=AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2), min_size=128, max_size=128)
    return Found(net, BOX)


NETWORKS = dict(networks.NETWORKS)
NETWORKS.update(
    {
        "retinanet": (detector("retinanet_resnet50_fpn"), 128, PYRAMID),
        "retinanet_raw": (detector("retinanet_resnet50_fpn", raw=True), 128, PYRAMID),
        "fcos": (detector("fcos_resnet50_fpn"), 128, PYRAMID),
        "fcos_raw": (detector("fcos_resnet50_fpn", raw=True), 128, PYRAMID),
        "ssdlite": (detector("ssdlite320_mobilenet_v3_large"), 320, SSD),
        "ssdlite_raw": (detector("ssdlite320_mobilenet_v3_large", raw=True), 320, SSD),
        "fasterrcnn": (detector("fasterrcnn_mobilenet_v3_large_320_fpn"), 128, RCNN),
        "fasterrcnn_v2": (detector("fasterrcnn_resnet50_fpn_v2"), 128, RCNN),
        "fasterrcnn_one_map": (without_pyramid, 128, dict(backbone=["net.backbone"], rpn=["net.rpn"], roi=["net.roi_heads"])),
        "retinanet_v2_raw": (detector("retinanet_resnet50_fpn_v2", raw=True), 128, PYRAMID),
        "ssd_raw": (detector("ssd300_vgg16", raw=True), 300, SSD),
        "maskrcnn": (detector("maskrcnn_resnet50_fpn", BOX + ("masks",)), 128, RCNN),
        "keypointrcnn": (detector("keypointrcnn_resnet50_fpn", BOX + ("keypoints",)), 128, RCNN),
        "deeplabv3": (segmenter("deeplabv3_mobilenet_v3_large"), 128, SEGMENT),
        "deeplabv3_resnet": (segmenter("deeplabv3_resnet50"), 128, SEGMENT),
        "fcn": (segmenter("fcn_resnet50"), 128, SEGMENT),
        "lraspp": (segmenter("lraspp_mobilenet_v3_large"), 128, dict(backbone=["net.backbone"], decoder=["net.classifier"])),
    }
)


def spread(net):
    """Gives every weight values of its own; some builders start with zeros."""
    for p in net.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=(p[0].numel() or 1) ** -0.5)


def module(name, prefixes):
    for m, list_ in prefixes.items():
        if any(name == p or name.startswith(p + ".") for p in list_):
            return m
    raise SystemExit(f"parameter {name} is in no module")


def alike(a, b, axis):
    """Whether two weights differ by a factor per channel at most."""
    a, b = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.float64) for x in (a, b))
    if a.shape[1] < 2:
        return False
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(np.all(np.abs((a * b).sum(1)) > 0.9999 * norm) and norm.min() > 0)


def constants(graph):
    for t in graph.initializer:
        yield t.name, t
    for n in graph.node:
        for a in n.attribute:
            if n.op_type == "Constant" and a.name == "value":
                yield n.output[0], a.t
            if a.type == onnx.AttributeProto.GRAPH:
                yield from constants(a.g)


def truth(path, net, prefixes):
    params = [(module(n, prefixes), p.detach().numpy()) for n, p in net.named_parameters() if p.dim() > 1]
    by_shape = {}
    for m, p in params:
        by_shape.setdefault(p.shape, []).append((m, p))
    out, unknown = {}, []
    folder = os.path.dirname(path)
    for name, t in constants(onnx.load(path).graph):
        if t.data_type != onnx.TensorProto.FLOAT or len(t.dims) < 2:
            continue
        x = numpy_helper.to_array(t, folder)
        found = [m for m, p in by_shape.get(x.shape, []) if alike(x, p, 0) or alike(x, p, 1)]
        found = found or [m for m, p in by_shape.get(x.shape[::-1], []) if x.ndim == 2 and alike(x.T, p, 0)]
        if found:
            out[name] = found[0]
        elif x.size > 2000:
            unknown.append(name)
    return out, unknown


def export(path, net, image, exporter, prefixes):
    row = {}
    try:
        with torch.no_grad():
            torch.onnx.export(net, (image,), path, opset_version=OPSET[exporter], input_names=["image"], dynamo=exporter == "new")
        row["truth"], row["unknown"] = truth(path, net, prefixes)
    except Exception as e:  # an exporter's refusal is a result
        row["error"] = (str(e).strip().splitlines() or [type(e).__name__])[0][:200]
    return row


def main(out, only):
    index = os.path.join(out, "index.json")
    rows = []
    if os.path.exists(index):
        with open(index) as f:
            rows = json.load(f)["rows"]
    for exporter in OPSET:
        for name, (build, side, prefixes) in NETWORKS.items():
            if only and name not in only:
                continue
            torch.manual_seed(0)
            net = build().eval()
            spread(net)
            file = f"{name}-{exporter}.onnx"
            row = dict(file=file, network=name, exporter=exporter)
            row.update(export(os.path.join(out, file), net, torch.rand(1, 3, side, side), exporter, prefixes))
            print(file, row.get("error", f"{len(row.get('truth', []))} weights"), row.get("unknown", ""), flush=True)
            rows = [r for r in rows if r["file"] != file] + [row]
            with open(index + ".new", "w") as f:
                json.dump(dict(torch=torch.__version__, rows=rows), f, indent=1)
            os.rename(index + ".new", index)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    main(sys.argv[1], sys.argv[2:])
