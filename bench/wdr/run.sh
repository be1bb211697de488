#!/usr/bin/env bash
# Quantizes WDR at full size (512 x 512, 50.5 million parameters) without training: partition, plan without data, calibration, emission and
# its checks, in one command. usage: run.sh MQATC IMAGES OUT     IMAGES is a folder of pictures, OUT a new folder
set -euo pipefail
mqatc=$(realpath "$1") images=$(realpath "$2") out=$3
mkdir -p "$out"
"$mqatc" zoo wdr -o "$out/wdr.onnx"
timed() { /usr/bin/time -f "%e s, %U s of CPU, %M kB at most: $*" "$@"; }
timed "$mqatc" partition "$out/wdr.onnx"
timed "$mqatc" plan "$out/wdr.onnx" --compress 4x --sensitivity weights
timed "$mqatc" quantize "$out/wdr.onnx" --compress 4x --sensitivity weights --method ptq --planner ilp --granularity module --placement all \
  --equalize=false --task image --loss distill --data "$images" -o "$out/quantized"
