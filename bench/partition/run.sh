#!/usr/bin/env bash
# Exports networks by PyTorch's exporters and prints how much of their weights mqatc puts into the right module. usage: run.sh OUT [NAME...]
# PYTHON names an interpreter with torch, torchvision, onnx and onnxscript; without it one is installed into OUT/python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
if [ -z "${PYTHON:-}" ]; then
  [ -x "$out/python/bin/python" ] || python3 -m venv "$out/python"
  PYTHON=$out/python/bin/python
  "$PYTHON" -m pip install --quiet torch torchvision onnx onnxscript
fi
"$PYTHON" "$here/export.py" "$out" "$@"
cd "$here" && go run . "$out"
