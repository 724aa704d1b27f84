#!/usr/bin/env bash
# Score a checkpoint on an Ascend device: bash scripts/run_eval_ascend.sh CHECKPOINT [CONFIG] [OPTION...]
#
# CHECKPOINT is a best.ckpt, say; CONFIG a YAML of hparams/, where batching and the test manifest are not to be those of the
# checkpoint. Options go to eval.py: --manifest data/dev.jsonl, --output_dir scores ...
# What it prints also goes to eval.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments CHECKPOINT -- "$@"

log_to eval.log
run_eval Ascend "$@"
