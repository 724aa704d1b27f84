#!/usr/bin/env bash
# Count the instructions of each native kernel: bash scripts/count_instructions.sh [--record]
#
# Compiles mindaudio_ds2/ops/csrc, calls each operator once on one thread under valgrind (Debian: valgrind), for AVX2 and
# for no particular processor, and compares with tests/ops/instruction_counts.tsv: 3 % more is an error. Other programs on
# the machine do not move these counts; what an instruction costs they do not know. Counts of another compiler are only
# printed. valgrind knows no AVX-512. --record: write the counts there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "$*" in
    "" | --record) ;;
    *)
        sed -n '2,8s/^# \?//p' "${BASH_SOURCE[0]}"
        [[ $* == --help ]]
        exit
        ;;
esac
known=tests/ops/instruction_counts.tsv
python="${PYTHON:-.venv/bin/python}"
compiler="$(command -v c++ || command -v g++ || command -v clang++ || true)"
for program in "${compiler:-c++}" valgrind callgrind_annotate; do
    command -v "$program" >/dev/null && continue
    echo "error: there is no $program; install it (Debian: g++ valgrind)" >&2
    exit 1
done
if ! command -v "$python" >/dev/null; then
    echo "error: there is no $python; make .venv with bash scripts/environment.sh, or name another in PYTHON" >&2
    exit 1
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

PYTHONPATH="$PWD" "$python" -c '
import sys
from pathlib import Path
from mindaudio_ds2.ops.library import compile_library
compile_library(Path(sys.argv[2]), sys.argv[1])' "$compiler" "$folder/kernels.so"
"$compiler" -O1 -std=c++17 -Wall -Wextra tests/ops/call_kernels.cpp -ldl -o "$folder/call_kernels"

count() { # INSTRUCTIONS LEVEL: a line for each operator, with all that it calls
    local status=0
    valgrind --tool=callgrind --callgrind-out-file="$folder/$1.out" "$folder/call_kernels" "$folder/kernels.so" "$2" \
        >"$folder/names" 2>"$folder/log" || status=$?
    if [[ $status -eq 2 ]]; then
        echo "left out: $1, which this processor lacks" >&2
        return
    elif [[ $status -ne 0 ]]; then
        cat "$folder/log" >&2
        return 1
    fi
    callgrind_annotate --inclusive=yes --threshold=100 "$folder/$1.out" >"$folder/functions"
    awk -v isa="$1" '
        NR == FNR { calls[$1]; next }
        match($0, /[:][A-Za-z0-9]+ \[/) {
            name = substr($0, RSTART + 1, RLENGTH - 3)
            gsub(",", "", $1)
            if (name in calls) { print isa "\t" name "\t" $1; delete calls[name] }
        }
        END { for (name in calls) { print "error: " name " was not counted" >"/dev/stderr"; missing = 1 }; exit missing }
    ' "$folder/names" "$folder/functions" | sort
}

{
    "$compiler" --version | head -1
    count generic 0
    count avx2 1
} >"$folder/counts"

if [[ "${1:-}" == --record ]]; then
    cp "$folder/counts" "$known"
    echo "written to $known"
    exit
fi
awk -F '\t' '
    FNR == 1 { compiler[NR == FNR] = $0; next }
    NR == FNR { before[$1, $2] = $3; next }
    {
        was = before[$1, $2]
        printf "%-8s %-20s %12d", $1, $2, $3
        if (was) printf "  %12d before  %+.1f %%", was, 100 * ($3 / was - 1)
        print ""
        if (!was || $3 > 1.03 * was) more = more "\n  " $1 " " $2
        if ($3 < 0.97 * was) fewer = 1
    }
    END {
        if (compiler[1] != compiler[0]) print "not compared: those before are of " compiler[1] ", these of " compiler[0]
        else if (more) { print "error: these take more instructions, or are new; --record keeps that:" more; exit 1 }
        else if (fewer) print "some take fewer; --record keeps that"
    }' "$known" "$folder/counts"
