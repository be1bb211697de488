#!/usr/bin/env bash
# Times training steps against PyTorch's. usage: run.sh OUT [NAME...], with PYTHON and FLAGS as torch.sh says; FLAGS=-lsq trains quantized networks
here=$(dirname "$0")
exec bash "$here/../torch.sh" "$here" "$@"
