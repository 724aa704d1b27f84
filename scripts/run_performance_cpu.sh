#!/usr/bin/env bash
# Measure how fast the CPU trains: bash scripts/run_performance_cpu.sh CONFIG [OPTION...]
#
# CONFIG is a YAML of hparams/; its training manifest must be there. A part of it is trained on for two epochs in a folder
# that is thrown away: the first compiles, the second is measured, loading included, in utterances a second.
# Options: --num_steps 20, and keys of the configuration: --batching.num_workers 4, --precision.compute fp16 ...
# What it prints also goes to performance.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments CONFIG -- "$@"

log_to performance.log
exec python "$verbs/recipes/benchmark/performance.py" -c "$1" --device_target CPU "${@:2}"
