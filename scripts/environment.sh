#!/usr/bin/env bash
# Make the Python environment: bash scripts/environment.sh
#
# Installs the package, its dependencies and the extras for tests and demo into .venv beside setup.py. Does nothing
# where that is already done with the same setup.py and the same Python; an interrupted installation starts again.
# Needs Python 3.10 to 3.12, a package index, and about 4 GB of disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local candidate
    for candidate in python3 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: MindSpore needs Python 3.10, 3.11 or 3.12;" \
        "python3 is $(python3 --version 2>/dev/null || echo missing)." \
        "On Debian 12: apt-get install python3 python3-venv" >&2
    return 1
}

python="$(find_python)"
version="$("$python" --version)"
# What would make an installed environment the wrong one: other dependencies, another Python, a moved checkout.
wanted="$({ cat setup.py && echo "$version" && pwd; } | cksum)"
if [[ -x .venv/bin/python && "$(cat .venv/installed 2>/dev/null)" == "$wanted" ]]; then
    echo "environment: .venv is up to date"
    exit 0
fi

started=$SECONDS
# Without the stamp an earlier installation was interrupted, and what it left cannot be trusted.
if [[ ! -e .venv/installed || "$(.venv/bin/python --version 2>/dev/null)" != "$version" ]]; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "error: $version cannot make virtual environments. On Debian: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "environment: making .venv with $version"
    "$python" -m venv --clear .venv
fi
echo "environment: installing into .venv; MindSpore is large, this takes some minutes"
rm -f .venv/installed
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -e '.[demo,dev]'
echo "$wanted" >.venv/installed
echo "environment: installed in $((SECONDS - started)) s"
