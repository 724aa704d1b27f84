#!/usr/bin/env bash
# Score a checkpoint on the CPU: bash scripts/run_eval_cpu.sh CHECKPOINT CONFIG [OPTION...]
#
# CHECKPOINT is a best.ckpt, say; CONFIG a YAML of hparams/, for batching and the test manifest. Options go to eval.py:
# --manifest data/dev.jsonl, --output_dir scores ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments CHECKPOINT CONFIG -- "$@"

exec python "$verbs/eval.py" -c "$2" --device_target CPU --pre_trained_model_path "$1" "${@:3}"
