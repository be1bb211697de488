#!/usr/bin/env bash
# Runs FOLDER/export.py, which needs PyTorch, and then the Go program beside it on what it wrote. usage: torch.sh FOLDER OUT [NAME...]
# PYTHON names an interpreter with torch, torchvision, onnx and onnxscript; without it one is installed into OUT/python, with PACKAGES too. FLAGS go to the program.
set -euo pipefail
here=$(cd "$1" && pwd)
out=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
if [ -z "${PYTHON:-}" ]; then
  [ -x "$out/python/bin/python" ] || python3 -m venv "$out/python"
  PYTHON=$out/python/bin/python
  "$PYTHON" -m pip install --quiet torch torchvision onnx onnxscript ${PACKAGES:-}
fi
export PYTHON
"$PYTHON" "$here/export.py" "$out" "$@"
cd "$here" && go run . ${FLAGS:-} "$out"
