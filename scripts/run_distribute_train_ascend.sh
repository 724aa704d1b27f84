#!/usr/bin/env bash
# Train on several Ascend devices of one host, a process each:
# bash scripts/run_distribute_train_ascend.sh NUM_PROCESSES CONFIG [OPTION...]
#
# CONFIG is a YAML of hparams/. Options go to train.py. Process n takes device n.
# RANK_TABLE_FILE=table.json describes the network between the devices where they cannot find out by themselves.
# LOG_DIR=msrun_log is where msrun keeps what each process prints. For several hosts see recipes/librispeech/README.md.
# What it prints also goes to train.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments NUM_PROCESSES CONFIG -- "$@"
require_command msrun "it comes with MindSpore: source the environment that has it"

log_to train.log
exec msrun --worker_num "$1" --local_worker_num "$1" --join True --log_dir "${LOG_DIR:-msrun_log}" \
    ${RANK_TABLE_FILE:+--rank_table_file "$RANK_TABLE_FILE"} \
    "$verbs/train.py" -c "$2" --device_target Ascend "${@:3}"
