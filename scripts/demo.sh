#!/usr/bin/env bash
# From nothing to a speech recogniser: bash scripts/demo.sh [--short]
#
# Makes the environment and a small corpus of synthetic speech, trains DeepSpeech2 on it, scores it on voices that it
# has never heard, transcribes three recordings, exports a MINDIR, and ends with a table. Interrupted, it goes on where
# it stopped. --short does all that with hardly any data, to see that everything works; it learns nothing of use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "$*" in
"")
    corpus=data/synthetic run=runs/synthetic
    corpus_options=()
    train_options=()
    ;;
--short)
    corpus=data/synthetic_short run=runs/synthetic_short
    corpus_options=(--num_train_utterances 64 --num_dev_utterances 12 --num_test_utterances 12)
    train_options=(--training.epochs 2 --model.rnn_num_layers 2 --model.rnn_hidden_size 128)
    ;;
*)
    echo "usage: bash scripts/demo.sh [--short]" >&2
    exit 2
    ;;
esac

# Show a command of ours, then run it.
run_python() {
    printf '\n$ python %s\n' "$*"
    .venv/bin/python "$@"
}

bash scripts/environment.sh
SECONDS=0 # what the table counts: all but the installation
run_python recipes/synthetic/prepare.py --output "$corpus" "${corpus_options[@]}"
run_python train.py -c hparams/synthetic.yaml --resume --run_dir "$run" --data.train_manifest "$corpus/train.jsonl" \
    --data.dev_manifest "$corpus/dev.jsonl" --data.test_manifest "$corpus/test.jsonl" "${train_options[@]}"
run_python eval.py --pre_trained_model_path "$run/best.ckpt"
mapfile -t recordings < <(.venv/bin/python -c '
import sys
from mindaudio_ds2.corpus.manifest import read_manifest
print(*(utterance.audio_path for utterance in read_manifest(sys.argv[1])[:3]), sep="\n")
' "$corpus/test.jsonl")
run_python transcribe.py --pre_trained_model_path "$run/best.ckpt" "${recordings[@]}"
run_python export.py --pre_trained_model_path "$run/best.ckpt"

.venv/bin/python - "$run" "$corpus" "$SECONDS" <<'EOF'
import json
import sys
from pathlib import Path

run, corpus, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
scores = json.loads((run / "eval_test.json").read_text(encoding="utf-8"))
minutes = scores["audio_seconds"] / 60
events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
last_epoch = [event for event in events if event["kind"] == "epoch"][-1]
rows = {
    "word error rate": f"{100 * scores['wer']:.2f} %",
    "character error rate": f"{100 * scores['cer']:.2f} %",
    "scored on": f"{scores['num_utterances']} utterances of unseen voices, {minutes:.1f} min",
    "real-time factor": f"{scores['real_time_factor']:.3f} s for a second of audio",
    "training": f"{last_epoch['train_seconds'] / 60:.1f} min for {last_epoch['epoch']} epochs",
    "this command": f"{seconds / 60:.1f} min without the installation",
    "corpus": corpus,
    "run folder": run,
    "best checkpoint": run / "best.ckpt",
    "exported network": run / "export" / "model.mindir",
}
assert (run / "export" / "model.mindir").exists(), "export.py left no file"
print("\n" + "\n".join(f"{name:<21} {value}" for name, value in rows.items()))
EOF
