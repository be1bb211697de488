#!/usr/bin/env bash
# Compares Hessian traces with PyHessian's, values and time. usage: run.sh OUT [NAME...], with PYTHON (with pyhessian too) and FLAGS as torch.sh says
here=$(dirname "$0")
export PACKAGES=pyhessian
exec bash "$here/../torch.sh" "$here" "$@"
