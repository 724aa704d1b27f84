#!/usr/bin/env bash
# Check everything: bash scripts/test.sh [PYTEST OPTIONS]
#
# Makes the environment where it is missing, then runs ruff, mypy and all tests. Options go to pytest: -k lookahead -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh
echo "ruff"
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
mypy_log="$(mktemp)"
.venv/bin/python -m mypy >"$mypy_log" 2>&1 & # beside the tests, which often wait
mypy=$!
trap 'kill "$mypy" 2>/dev/null || true; rm -f "$mypy_log"' EXIT
echo "pytest"
status=0
# a file stays in one process, and files begin in the order of tests/conftest.py: xdist's own has those with few tests last
.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" || status=$?
wait "$mypy" || status=1
echo "mypy"
cat "$mypy_log"
exit "$status"
