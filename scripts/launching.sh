# Sourced by the run_*.sh and export.sh beside it: where the verbs lie, --help, checks of arguments, and the log.

verbs="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
    echo "error: $1 (bash $0 --help tells how it is used)" >&2
    exit 2
}

# The comment at the head of a script is its help.
show_help() {
    sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "$0"
}

# check_arguments NAME... -- "$@": as many arguments as names, NUM_PROCESSES a count and all others files.
check_arguments() {
    local name names=()
    while [[ $1 != -- ]]; do
        names+=("$1")
        shift
    done
    shift
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        show_help
        exit 0
    fi
    for name in "${names[@]}"; do
        [[ -n ${1:-} ]] || fail "$name is missing"
        if [[ $name == NUM_PROCESSES ]]; then
            [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "NUM_PROCESSES is $1, but should be a count above 0"
        else
            [[ -f $1 ]] || fail "$name $1 is no file"
        fi
        shift
    done
}

# require_command NAME REMEDY
require_command() {
    command -v "$1" >/dev/null || fail "there is no $1 on the PATH; $2"
}

# log_to NAME: from here on what is printed also goes to the end of this file (LOG=FILE chooses another), and the work
# goes on when the console is closed.
log_to() {
    trap '' HUP
    exec > >(exec tee -i -p -a "${LOG:-$1}") 2>&1
}

# run_mpirun ARGUMENT...: mpirun, to which SIGTERM and Ctrl-C go as SIGUSR1. That one it passes on, and all processes save
# and end with 143; a SIGTERM of its own Open MPI 5 answers by killing them. In a session of its own it hears of no
# console that is closed, which would end it, too.
run_mpirun() {
    local is_told=""
    trap 'is_told=1; kill -USR1 "$!"' TERM INT
    setsid mpirun "$@" &
    local launcher=$! status=0
    wait "$launcher" || status=$?
    while [[ -n "$is_told" ]]; do # the trap ends a `wait` before its time, with a status of its own
        is_told="" status=0
        wait "$launcher" || status=$?
    done
    exit "$status"
}

# show_and_run COMMAND...: for scripts of several steps.
show_and_run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# run_eval DEVICE CHECKPOINT [CONFIG] [OPTION...]: the checkpoint's own configuration, unless a YAML is given.
run_eval() {
    local device="$1" checkpoint="$2" config=()
    shift 2
    if [[ ${1:-} == *.yaml || ${1:-} == *.yml ]]; then
        config=(-c "$1")
        shift
    fi
    exec python "$verbs/eval.py" "${config[@]}" --device_target "$device" --pre_trained_model_path "$checkpoint" "$@"
}
