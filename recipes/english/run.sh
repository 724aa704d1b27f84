#!/usr/bin/env bash
# English from corpora and novels to a scored network:
#
#     bash recipes/english/run.sh --source DIR --text 'FILE...' [--recordings DIR] [--hibari HOURS] [--kokoro HOURS]
#         [--downloads DIR]
#
# Makes the environment, has recordings without transcripts written down by a teacher, makes the manifests of real speech,
# synthetic speech (6 h of hibari, none of Kokoro unless told otherwise), their mix, proves that nothing of dev and test is
# learnt, trains (a network that aligns, one on parts cut at pauses, the last on such parts in every condition), builds a
# language model, scores, packs, and scores others beside it. That takes a day on two cores. Each stage goes on where it
# stopped or sees that it is done, so an interrupted run is simply started again. README.md says where DIR and the novels
# come from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage="usage: bash recipes/english/run.sh --source DIR --text 'FILE...' [--recordings DIR] [--hibari HOURS] [--kokoro HOURS] \
[--downloads DIR]"
source='' recordings='' texts=() hibari=6 kokoro=0 downloads=data/english/downloads
while [[ $# -gt 0 ]]; do
    case "$1 ${2:-}" in
    "--source "?*) source=$2 ;;
    "--recordings "?*) recordings=$2 ;;
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
data=data/english run=runs/english held_out=(data/english/dev.jsonl)
labelled=()
if [[ -n $recordings ]]; then
    run_python recipes/english/label.py "$recordings" --output "$data/labelled" --downloads "$downloads"
    labelled=(--labelled "$data/labelled/manifest.jsonl")
fi
run_python recipes/english/prepare.py real --source "$source" "${labelled[@]}"
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
if [[ ! -f $data/train.jsonl || ! -f ${run}_aligner/last.ckpt ]]; then
    run_python recipes/english/prepare.py mix --synthetic "${synthetic[@]}"
fi
run_python recipes/english/separation.py --train "$data/train.jsonl" --held_out "${held_out[@]}" --text "${texts[@]}"

# Cut at pauses by a network that gets most words wrong, which is enough to align.
run_python train.py -c hparams/english_parts.yaml --resume --run_dir "${run}_aligner" --data.train_manifest "$data/train.jsonl" \
    --batching.max_batch_utterances 8 --batching.max_batch_padded_seconds 128 --training.epochs 4
[[ -f $data/train_cut.jsonl ]] ||
    run_python recipes/english/cut.py "$data/train.jsonl" --pre_trained_model_path "${run}_aligner/best.ckpt"
run_python train.py -c hparams/english_parts.yaml --resume
run_python train.py -c hparams/english.yaml --resume --pre_trained_model_path "${run}_parts/best.ckpt"

# Words by a language model of the novels, weighed on dev.
[[ -f $run/english.lm ]] ||
    run_python -m mindaudio_ds2 build_lm "${texts[@]}" -c hparams/english.yaml --exclude "${held_out[@]}" --words 100000 --prune 2e-7 \
        --output "$run/english.lm"
[[ $run/decoder.json -nt $run/best.ckpt ]] ||
    run_python -m mindaudio_ds2 tune "$run/best.ckpt" "$data/dev.jsonl" --lm "$run/english.lm" --beam_width 300

# Scores: greedy, with the language model, and of others beside it.
for manifest in "${held_out[@]}"; do
    name=$(basename "$manifest" .jsonl)
    [[ $run/greedy/eval_$name.json -nt $run/best.ckpt ]] ||
        run_python eval.py --pre_trained_model_path "$run/best.ckpt" --manifest "$manifest" --decoder greedy \
            --output_dir "$run/greedy"
    [[ $run/eval_$name.json -nt $run/decoder.json ]] ||
        run_python eval.py --pre_trained_model_path "$run/best.ckpt" --manifest "$manifest"
    run_python recipes/english/peers.py "$manifest" --output "$run/peers_$name" --downloads "$downloads" \
        --own "$run/eval_$name.json" "$run/greedy/eval_$name.json"
done

run_python -m mindaudio_ds2 pack_model "$run/best.ckpt" models/english --manifest "$data/dev.jsonl" \
    --licence "Apache-2.0; of the speech: CC BY 4.0" --training_data "LibriSpeech (CC BY 4.0, Panayotov et al. 2015), \
Common Voice (CC0), LJSpeech (public domain), speech of hibari-tts (Apache-2.0) reading novels in the public domain"
