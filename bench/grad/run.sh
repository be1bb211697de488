#!/usr/bin/env bash
# Compares gradients and Hessian-vector products with PyTorch's. usage: run.sh OUT [NAME...], with PYTHON as torch.sh says
here=$(dirname "$0")
exec bash "$here/../torch.sh" "$here" "$@"
