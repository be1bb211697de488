"""Exports networks with random weights by both of PyTorch's exporters, for main.go to read.

usage: export.py OUT [NAME...]

Every network comes at several opsets, optimized and not, with free sizes, and with external data. OUT/index.json lists the files with
what was asked of the exporter; what an exporter cannot do is listed with its error.
"""
import inspect
import json
import os
import sys
import time
import warnings

import torch
import torchvision

warnings.filterwarnings("ignore")
torch.manual_seed(0)

SIDE = 64  # of images for classifiers
DETECTOR_SIDE = 128


class Boxes(torch.nn.Module):
    """A detector of torchvision takes a list of images and returns a list of dictionaries."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        found = self.net([image[0]])[0]
        return tuple(found[k] for k in ("boxes", "scores", "labels"))


class Segments(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)["out"]


def vit():
    # The fused attention of the inference path is not an operator that the older exporter knows.
    torch.backends.mha.set_fastpath_enabled(False)
    return torchvision.models.VisionTransformer(image_size=SIDE, patch_size=16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)


def detector(build):
    def make():
        kind = torchvision.models.detection
        net = getattr(kind, build)(weights=None, weights_backbone=None, num_classes=5, min_size=DETECTOR_SIDE, max_size=DETECTOR_SIDE)
        return Boxes(net)

    return make


def classifier(build):
    return lambda: getattr(torchvision.models, build)(weights=None, num_classes=10)


# name, builder, side, whether sizes may be free
NETWORKS = [
    ("resnet18", classifier("resnet18"), SIDE, True),
    ("mobilenet_v3", classifier("mobilenet_v3_small"), SIDE, True),
    ("efficientnet", classifier("efficientnet_b0"), SIDE, True),
    ("deeplab", lambda: Segments(torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)), SIDE, True),
    ("vit", vit, SIDE, False),
    ("retinanet", detector("retinanet_resnet50_fpn"), DETECTOR_SIDE, False),
    ("faster_rcnn", detector("fasterrcnn_mobilenet_v3_large_320_fpn"), DETECTOR_SIDE, False),
]


def newest(dynamo):
    """The newest opset that an exporter of this PyTorch writes."""
    if not dynamo:
        from torch.onnx import _constants

        return _constants.ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET
    import onnx

    return onnx.defs.onnx_opset_version()


def variants(sizes):
    for opset in (13, 17, newest(False)):
        yield dict(dynamo=False, opset=opset)
    for opset in (18, 20, 21, newest(True)):
        yield dict(dynamo=True, opset=opset)
    yield dict(dynamo=True, opset=20, optimize=False)
    yield dict(dynamo=True, opset=20, external=False)
    yield dict(dynamo=False, opset=17, optimize=False)
    yield dict(dynamo=False, opset=17, dynamic="batch")
    yield dict(dynamo=True, opset=20, dynamic="batch")
    if sizes:
        yield dict(dynamo=False, opset=17, dynamic="sizes")
        yield dict(dynamo=True, opset=20, dynamic="sizes")


def label(name, v):
    parts = [name, "new" if v["dynamo"] else "old", str(v["opset"])]
    parts += ["plain"] if v.get("optimize") is False else []
    parts += [v["dynamic"]] if v.get("dynamic") else []
    parts += ["inline"] if v.get("external") is False else []
    return "-".join(parts)


def export(net, image, path, v):
    kwargs = dict(opset_version=v["opset"], input_names=["image"], dynamo=v["dynamo"])
    free = {"batch": {0: "batch"}, "sizes": {0: "batch", 2: "height", 3: "width"}}.get(v.get("dynamic"))
    if v["dynamo"]:
        kwargs.update(optimize=v.get("optimize", True), external_data=v.get("external", True))
        if free:
            kwargs["dynamic_shapes"] = ({k: torch.export.Dim.AUTO for k in free},)
            image = image.repeat(2, 1, 1, 1)
    else:
        kwargs["do_constant_folding"] = v.get("optimize", True)
        if free:
            kwargs["dynamic_axes"] = {"image": free}
    known = inspect.signature(torch.onnx.export).parameters
    torch.onnx.export(net, (image,), path, **{k: a for k, a in kwargs.items() if k in known})


def main(out, only):
    index = []
    for name, build, side, sizes in NETWORKS:
        if only and name not in only:
            continue
        net = build().eval()
        image = torch.rand(1, 3, side, side)
        params = sum(p.numel() for p in net.parameters())
        for v in variants(sizes):
            file = label(name, v) + ".onnx"
            row = dict(v, file=file, network=name, parameters=params, side=side)
            start = time.time()
            try:
                with torch.no_grad():
                    export(net, image, os.path.join(out, file), v)
            except Exception as e:  # an exporter's refusal is a result
                row["error"] = (str(e).strip().splitlines() or [type(e).__name__])[0][:200]
            row["seconds"] = round(time.time() - start, 1)
            index.append(row)
            print(file, row.get("error", "ok"), row["seconds"], flush=True)
            with open(os.path.join(out, "index.json"), "w") as f:
                json.dump(dict(torch=torch.__version__, rows=index), f, indent=1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    main(sys.argv[1], sys.argv[2:])
