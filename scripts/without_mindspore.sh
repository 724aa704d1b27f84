#!/usr/bin/env bash
# Transcribe where MindSpore is not installed: bash scripts/without_mindspore.sh MODEL.onnx AUDIO...
#
# Makes a fresh environment in a temporary folder, with onnxruntime, NumPy, soundfile and this package alone, transcribes in
# it, and says how large it is and how long that took. Needs a package index. WHEEL=FILE takes that wheel of the package.
set -euo pipefail
if [[ $# -lt 2 || $1 == --help ]]; then
    sed -n '2,5s/^# \?//p' "${BASH_SOURCE[0]}"
    exit $(($# < 2))
fi
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/env"
echo "installing into a fresh environment" >&2
"$folder/env/bin/pip" install -qq --disable-pip-version-check onnxruntime numpy soundfile
"$folder/env/bin/pip" install -qq --disable-pip-version-check --no-deps "${WHEEL:-$project}"
if "$folder/env/bin/python" -c 'import mindspore' 2>/dev/null; then
    echo "error: MindSpore is there" >&2
    exit 1
fi
echo "environment: $(du -sm "$folder/env" | cut -f1) MB"
model="$1"
shift
time "$folder/env/bin/mindaudio-ds2" transcribe --pre_trained_model_path "$model" "$@"
