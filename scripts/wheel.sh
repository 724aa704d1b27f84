#!/usr/bin/env bash
# Try the package as a wheel: bash scripts/wheel.sh [FOLDER]
#
# Builds a wheel, installs it into an empty environment that sees the dependencies of .venv but not this checkout, and
# there trains two steps, evaluates, transcribes and exports, on tones that are made for it. FOLDER keeps the wheel.
set -euo pipefail
if [[ ${1:-} == -* ]]; then
    sed -n '2,5s/^# \?//p' "${BASH_SOURCE[0]}"
    [[ $1 == --help ]]
    exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
project="$PWD"
kept="${1:+$(realpath -m "$1")}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH

echo "building the wheel" >&2
mkdir "$folder/source" # setup.py leaves build/ where it runs
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - | tar -xf - -C "$folder/source"
.venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps -w "$folder/dist" "$folder/source"
wheel="$(echo "$folder"/dist/*.whl)"
if [[ -n "$kept" ]]; then
    mkdir -p "$kept"
    cp "$wheel" "$kept"
fi

# A folder that a .pth file names is searched, but the .pth files in it are not read: so the editable checkout stays out.
.venv/bin/python -m venv --without-pip "$folder/env"
python="$folder/env/bin/python"
packages="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$packages/dependencies.pth"
.venv/bin/python -m pip -q --disable-pip-version-check --python "$python" install --no-deps --force-reinstall "$wheel"

(cd "$project" && .venv/bin/python -c '
import sys
from pathlib import Path
from tests.tiny_corpus import make_corpus, make_settings, write_yaml
folder = Path(sys.argv[1])
corpus = make_corpus(folder / "corpus")
write_yaml(folder / "own.yaml", make_settings(corpus, folder / "own", {"training.epochs": 1}))' "$folder")

mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
"$python" - "$folder/env" <<'EOF'
import sys
from importlib.util import find_spec
from pathlib import Path

import mindaudio_ds2

place = Path(mindaudio_ds2.__file__)
assert place.is_relative_to(sys.argv[1]), f"{place} is not the wheel's"
assert find_spec("recipes") is None, "the checkout can be imported"
assert list(place.parent.glob("ops/kernels*.so")), "the wheel holds no compiled kernels"
print(f"{place.parent}: version {mindaudio_ds2.__version__}")
EOF

run() { # a command of ours, shown first
    printf '\n$ mindaudio-ds2 %s\n' "$*"
    "$folder/env/bin/mindaudio-ds2" "$@"
}

manifests=()
for split in train dev test; do
    manifests+=("--data.${split}_manifest" "$folder/corpus/$split.jsonl")
done
small=(--model.rnn_hidden_size 16 --model.rnn_num_layers 1 --training.epochs 1 --batching.max_batch_utterances 6)
run train -c an4 --run_dir an4 "${manifests[@]}" --data.min_duration_seconds 0.1 "${small[@]}"
run train -c "$folder/own.yaml"
run eval --pre_trained_model_path "$folder/own/best.ckpt" --num_worst 1
run transcribe --pre_trained_model_path an4/best.ckpt "$folder/corpus/wav/test_0.wav"
run export --pre_trained_model_path an4/best.ckpt --file_format ONNX
run transcribe --pre_trained_model_path an4/export/model.onnx "$folder/corpus/wav/test_0.wav"
run models
run transcribe "$folder/corpus/wav/test_0.wav" # by the model that comes with the package
steps="$(grep -c '"kind": "step"' an4/metrics.jsonl)"
[[ "$steps" -ge 2 && -s "$folder/own/eval_test.json" && -s an4/export/model.onnx ]]
printf '\nthe wheel works: %s steps trained, evaluated, transcribed and exported\n' "$steps"
