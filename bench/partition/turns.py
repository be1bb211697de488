"""Cuts networks with `mqatc partition --split` and runs the parts in turn: their outputs must be those of the whole file, bit for bit.

usage: turns.py MQATC MODEL...     (needs numpy and onnxruntime; optimization level 0, one thread)
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def session(path):
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.intra_op_num_threads = 1
    o.log_severity_level = 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def fill(shape):
    """Open sizes: a batch of 1, three channels, else 224."""
    batch = len(shape) != 3
    out = []
    for i, d in enumerate(shape):
        out.append(d if isinstance(d, int) else 1 if batch and i == 0 else 3 if i == (1 if batch else 0) and len(shape) > 2 else 224)
    return out


def compare(mqatc, path):
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "parts")
        r = subprocess.run([mqatc, "partition", path, "--split", out], capture_output=True, text=True)
        if r.returncode:
            return "exit %d: %s" % (r.returncode, r.stderr.strip().splitlines()[0])
        try:
            whole = session(path)
        except Exception:
            return "refused by onnxruntime"
        rng = np.random.default_rng(0)
        known = {i.name: rng.random(fill(i.shape)).astype(TYPES[i.type]) for i in whole.get_inputs()}
        want = dict(zip([o.name for o in whole.get_outputs()], whole.run(None, dict(known))))
        with open(os.path.join(out, "order.json")) as f:
            order = json.load(f)
        for p in order["parts"]:
            names = [o["name"] for o in p["outputs"]]
            feeds = {i["name"]: known[i["name"]] for i in p["inputs"]}
            known.update(zip(names, session(os.path.join(out, p["file"])).run(names, feeds)))
        for o in order["outputs"]:
            a, b = want[o["name"]], known[o["name"]]
            if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
                return "DIFFERS in " + o["name"]
        return "same bits: " + " ".join(p["file"] for p in order["parts"])


def main():
    count = {}
    for path in sys.argv[2:]:
        result = compare(sys.argv[1], path)
        print(os.path.basename(path), result, flush=True)
        count[result.split(":")[0]] = count.get(result.split(":")[0], 0) + 1
    print(", ".join("%d %s" % (n, k) for k, n in sorted(count.items())))


main()
