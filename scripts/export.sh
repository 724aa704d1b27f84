#!/usr/bin/env bash
# Write a trained network as a MINDIR file: bash scripts/export.sh CHECKPOINT [OPTION...]
#
# CHECKPOINT is a best.ckpt, say. Options go to export.py: --output_dir exported ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments CHECKPOINT -- "$@"

exec python "$verbs/export.py" --pre_trained_model_path "$1" --file_format MINDIR "${@:2}"
