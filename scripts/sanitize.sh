#!/usr/bin/env bash
# Run the tests of the native code under sanitizers: bash scripts/sanitize.sh [--quick]
#
# Compiles mindaudio_ds2/ops/csrc with AddressSanitizer and UndefinedBehaviorSanitizer, by each of g++ and clang++ that is
# installed, and runs the tests that call the kernels, the beam search and the language models. Then once with
# ThreadSanitizer, which needs clang++ and its OpenMP (Debian: clang libomp-dev), because GNU's OpenMP is invisible to it.
# --quick: AddressSanitizer and UndefinedBehaviorSanitizer by the first compiler only. What is left out is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
    "") quick="" ;;
    --quick) quick=1 ;;
    *)
        sed -n '2,7s/^# \?//p' "${BASH_SOURCE[0]}"
        [[ $1 == --help ]]
        exit
        ;;
esac
python="${PYTHON:-.venv/bin/python}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export PYTHONPATH="$PWD" PYTHONDONTWRITEBYTECODE=1
kernel_tests=(tests/ops/test_{bfloat16,convolution,ctc,int8,layout,lookahead,matmul,norm,recurrent}.py)
tests=("${kernel_tests[@]}" tests/decoding/test_{beam,language_model}.py)
# compiles a program of its own with these sanitizers, whoever runs it
tests+=(--deselect tests/decoding/test_language_model.py::test_mapped_files_broken_at_random_are_never_read_out_of_bounds)

build() { # COMPILER LIBRARY FLAGS...
    "$python" -c '
import sys
from pathlib import Path
from mindaudio_ds2.ops.library import compile_library
compile_library(Path(sys.argv[2]), sys.argv[1], sys.argv[3:])' "$1" "$2" -O1 -g -fno-omit-frame-pointer "${@:3}"
}

check() { # COMPILER LIBRARY RUNTIME TESTS...: what checks must be in the process before what is checked
    local preload
    preload="$3 $("$1" -print-file-name=libstdc++.so.6)"
    DS2_TEST_KERNELS="$2" LD_PRELOAD="$preload" LD_LIBRARY_PATH="$(dirname "$3")" OMP_NUM_THREADS=2 \
        "$python" -m pytest -q -x -p no:cacheprovider "${@:4}"
}

find_runtime() { # COMPILER NAME...: the first of these libraries that the compiler has
    local name path
    for name in "${@:2}"; do
        path="$("$1" -print-file-name="$name")"
        if [[ "$path" == /* ]]; then
            echo "$path"
            return
        fi
    done
    echo "error: $1 lacks ${*:2}; install its sanitizers (Debian: gcc, or clang with libclang-rt-dev)" >&2
    return 1
}

compilers=()
for compiler in g++ clang++; do
    if ! command -v "$compiler" >/dev/null; then
        echo "left out: $compiler, which is not installed"
    elif [[ -n "$quick" && ${#compilers[@]} -gt 0 ]]; then
        echo "left out: $compiler (--quick)"
    else
        compilers+=("$compiler")
    fi
done

for compiler in "${compilers[@]}"; do
    echo "AddressSanitizer and UndefinedBehaviorSanitizer, $compiler"
    flags=(-fsanitize=address,undefined -fno-sanitize-recover=all)
    [[ "$compiler" == clang++ ]] && flags+=(-shared-libsan)
    build "$compiler" "$folder/$compiler.so" "${flags[@]}"
    runtime="$(find_runtime "$compiler" libclang_rt.asan-x86_64.so libclang_rt.asan-aarch64.so libasan.so)"
    # Python keeps memory until its end, which is no leak of ours.
    ASAN_OPTIONS=detect_leaks=0 check "$compiler" "$folder/$compiler.so" "$runtime" "${tests[@]}"
done

if [[ -n "$quick" ]]; then
    echo "left out: ThreadSanitizer (--quick)"
    exit
fi
clang="$(realpath "$(command -v clang++ || echo /nowhere)")" # Debian's clang++ does not look into its own lib folder
archer="$(dirname "$clang")/../lib/libarcher.so"
if [[ ! -e "$archer" ]]; then
    echo "left out: ThreadSanitizer, which needs clang++ and its OpenMP (Debian: clang libomp-dev)"
    exit
fi
# The runtime has to be there first, and clang 14's cannot be preloaded: so Python's main is in a program that has it.
config="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("BINDIR"))')/python3-config"
read -ra linking <<<"$("$config" --embed --ldflags 2>/dev/null)"
if ! echo '#include <Python.h>
int main(int count, char **words) { return Py_BytesMain(count, words); }' |
    clang -x c -fsanitize=thread -I "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
        - -o "$folder/python" "${linking[@]}" 2>"$folder/python.log"; then
    echo "left out: ThreadSanitizer, which needs Python as a library (Debian: libpython3-dev)"
    cat "$folder/python.log"
    exit
fi
echo "ThreadSanitizer, clang++"
build clang++ "$folder/threads.so" -fsanitize=thread
packages="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
DS2_TEST_KERNELS="$folder/threads.so" OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive OMP_TOOL_LIBRARIES="$archer" PYTHONPATH="$PYTHONPATH:$packages" \
    TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 exitcode=66" \
    "$folder/python" -m pytest -q -x -p no:cacheprovider "${kernel_tests[@]}"
