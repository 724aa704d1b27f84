#!/usr/bin/env bash
# Train on one Ascend device: bash scripts/run_standalone_train_ascend.sh CONFIG [OPTION...]
#
# CONFIG is a YAML of hparams/. Options go to train.py: --resume, --run_dir runs/x, --precision.compute fp16 ...
# Device 0 is used; DEVICE_ID=2 takes the third.
# What it prints also goes to train.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments CONFIG -- "$@"

log_to train.log
exec python "$verbs/train.py" -c "$1" --device_target Ascend "${@:2}"
