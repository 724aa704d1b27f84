#!/usr/bin/env bash
# LibriSpeech from the archives to an exported network: bash scripts/run_librispeech.sh --size mini|clean100|960 [OPTION...]
#
# Fetches the archives (1.1, 7.4 or 61 GB), writes manifests, trains, scores test-clean and test-other, exports a MINDIR.
# Interrupted, it goes on where it stopped. Options go to train.py: --device_target GPU, --batching.num_workers 4 ...
# What it prints also goes to librispeech.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments -- "$@"
case "${1:-}=${2:-}" in
--size=mini | --size=clean100) suffix=_$2 extra=(--extra test-other) ;;
--size=960) suffix= extra=() ;; # has it anyway
*) fail "--size is ${2:-missing}, but should be mini, clean100 or 960" ;;
esac
cd "$verbs"
log_to librispeech.log
run=runs/deepspeech2$suffix data=data/librispeech$suffix
show_and_run python recipes/librispeech/prepare.py "$2" "${extra[@]}"
show_and_run python train.py -c "hparams/deepspeech2$suffix.yaml" --run_dir "$run" --resume "${@:3}"
show_and_run python eval.py --pre_trained_model_path "$run/best.ckpt" --manifest "$data/test.jsonl" "$data/test-other.jsonl"
show_and_run python export.py --pre_trained_model_path "$run/best.ckpt"
