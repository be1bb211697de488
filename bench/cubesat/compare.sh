#!/usr/bin/env bash
# MQAT against uniform quantization on the pose network of the cube satellite, at the compression asked for and at equal bytes.
# usage: compare.sh MQATC OUT SEED [8|none [all]]     then: go run ./bench/cubesat OUT
# Activations have 8 bits, or none are quantized, as in the paper; give each its own OUT.
# At 4x uniform has to take 4 bits everywhere, which is nearly 8x: mqat-8x is its pair, with a little fewer bytes.
# With "all" also at 2 bits everywhere, which is what uniform has to take at 8x.
# The settings below were fixed before the first run; the images of seeds 71 and 5001 and up were not looked at before.
set -euo pipefail
mqatc=$1 out=$2 seed=$3 activations=${4:-8}
model=$(dirname "$0")/../../testmodels/pretrained/cubesat.onnx
settings=(--data "cubesat:20000:$((5000 + seed))" --eval-data cubesat:2000:71 --batch 32 --epochs 0.5 --optimizer nesterov --lr 0.01
  --probe=false --activations "$activations" --seed "$seed" --threads 1)

run() { # arm, flags: nothing is done twice
  local arm=$1
  shift
  [ -e "$out/$arm-$seed/report.json" ] || "$mqatc" quantize "$model" "${settings[@]}" -o "$out/$arm-$seed" --resume "$@" 2> "$out/$arm-$seed.log"
}

bytes() { sed -n 's/.*"payload_after": *\([0-9]*\).*/\1/p' "$out/$1-$seed/report.json"; }
before() { sed -n 's/.*"payload_before": *\([0-9]*\).*/\1/p' "$out/$1-$seed/report.json"; }
ratio() { awk -v b="$(before "$1")" -v a="$(bytes "$1")" 'BEGIN { printf "%.6f", b / (a + 0.5) }'; }

mkdir -p "$out"
run uniform-4x --method uniform --compress 4x
run mqat-4x --method mqat --compress 4x
run mqat-8x --method mqat --compress 8x
if [ "${5:-}" = all ]; then
  run uniform-8x --method uniform --compress 8x
  run mqat-as-uniform-8x --method mqat --compress "$(ratio uniform-8x)"
fi
