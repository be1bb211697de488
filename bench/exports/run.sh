#!/usr/bin/env bash
# Exports networks by PyTorch's exporters and prints how mqatc reads them. usage: run.sh OUT [NAME...], with PYTHON as torch.sh says
here=$(dirname "$0")
exec bash "$here/../torch.sh" "$here" "$@"
