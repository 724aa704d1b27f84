#!/usr/bin/env bash
# English from corpora and novels to a scored network:
#
#     bash recipes/english/run.sh --source DIR --text 'FILE...' [--hibari HOURS] [--kokoro HOURS] [--downloads DIR]
#
# Makes the environment, the manifests of real speech, synthetic speech (4 h of hibari, 5 h of Kokoro unless told
# otherwise), their mix, proves that nothing of dev and test is learnt, trains, scores, and scores others beside it. That
# takes days on two cores. Each stage goes on where it stopped or sees that it is done, so an interrupted run is simply
# started again. README.md says where DIR and the novels come from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage="usage: bash recipes/english/run.sh --source DIR --text 'FILE...' [--hibari HOURS] [--kokoro HOURS] [--downloads DIR]"
source='' texts=() hibari=4 kokoro=5 downloads=data/english/downloads
while [[ $# -gt 0 ]]; do
    case "$1 ${2:-}" in
    "--source "?*) source=$2 ;;
    "--text "?*) read -ra texts <<<"$2" ;;
    "--hibari "[0-9]*) hibari=$2 ;;
    "--kokoro "[0-9]*) kokoro=$2 ;;
    "--downloads "?*) downloads=$2 ;;
    *)
        echo "$usage" >&2
        exit 2
        ;;
    esac
    shift 2
done
if [[ -z $source || ${#texts[@]} -eq 0 ]]; then
    echo "$usage" >&2
    exit 2
fi

# Show a command of ours, then run it.
run_python() {
    printf '\n$ python %s\n' "$*"
    .venv/bin/python "$@"
}

bash scripts/environment.sh
.venv/bin/python -c 'import hibari, ctranslate2, whisper_normalizer, pocketsphinx, moonshine_onnx' 2>/dev/null ||
    run_python -m pip install --quiet -e '.[english]'
data=data/english held_out=(data/english/dev.jsonl)
run_python recipes/english/prepare.py real --source "$source"
for name in test_mini test_clean; do
    [[ -f $data/$name.jsonl ]] && held_out+=("$data/$name.jsonl")
done
synthetic=()
for engine in hibari kokoro; do
    [[ ${!engine} == 0 ]] && continue
    run_python recipes/english/speak.py "$engine" --text "${texts[@]}" --hours "${!engine}" --downloads "$downloads"
    synthetic+=("$data/synthetic/$engine/manifest.jsonl")
done
# The mix is what the training was begun with: more speech, spoken later, would be another training.
if [[ ! -f $data/train.jsonl || ! -f runs/english/last.ckpt ]]; then
    run_python recipes/english/prepare.py mix --synthetic "${synthetic[@]}"
fi
run_python recipes/english/separation.py --train "$data/train.jsonl" --held_out "${held_out[@]}" --text "${texts[@]}"
run_python train.py -c hparams/english.yaml --resume
for manifest in "${held_out[@]}"; do
    name=$(basename "$manifest" .jsonl)
    [[ -f runs/english/eval_$name.json && runs/english/eval_$name.json -nt runs/english/best.ckpt ]] ||
        run_python eval.py --pre_trained_model_path runs/english/best.ckpt --data.test_manifest "$manifest"
    run_python recipes/english/peers.py "$manifest" --output "runs/english/peers_$name" --downloads "$downloads" \
        --own "runs/english/eval_$name.json"
done
