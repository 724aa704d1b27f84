#!/usr/bin/env python3
"""Score recognisers that people install today on the same recordings, on one core, with the same normalisation.

    python recipes/english/peers.py data/english/test_clean.jsonl --output runs/english/peers_test_clean
    python recipes/english/peers.py data/english/test_clean.jsonl --own runs/english/eval_test_clean.json

Each peer's texts are written as they come, so that a run killed at any time goes on with the next recording; the table
is WER, CER, seconds of one core for a second of audio, and size of the weights. Both sides are normalised as Whisper's
authors do (numbers, spelling, contractions, punctuation). `--own` adds what `eval.py` wrote for this manifest.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

import jiwer
from tqdm import tqdm

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import ManifestError, exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import parse_json
from recipes.english.listener import normalize
from recipes.english.recognisers import PEERS, Recogniser, open_peer

SAMPLE_RATE_HZ = 16000


@dataclass(frozen=True)
class Score:
    """A line of the table.

    Attributes:
        name: of the recogniser.
        num_utterances: that were scored (count).
        num_words: of their normalised references (count).
        wer: word error rate (a fraction).
        cer: character error rate, spaces included (a fraction).
        real_time_factor: seconds of one core for a second of audio; None where it was not measured.
        num_bytes: of the weights; None where it is not known.
    """

    name: str
    num_utterances: int
    num_words: int
    wer: float
    cer: float
    real_time_factor: float | None
    num_bytes: int | None


def score(
    name: str, utterances: Sequence[Utterance], texts: Sequence[str], factor: float | None, num_bytes: int | None
) -> Score:
    """Compare texts with transcripts, both normalised; a recording without a reference counts what is inserted."""
    references = [normalize(utterance.transcript) for utterance in utterances]
    hypotheses = [normalize(text) for text in texts]
    num_words = sum(len(reference.split()) for reference in references)
    if not num_words:
        raise ManifestError("the references have no words; a word error rate needs some")
    wer, cer = jiwer.wer(references, hypotheses), jiwer.cer(references, hypotheses)
    return Score(name, len(utterances), num_words, float(wer), float(cer), factor, num_bytes)


def run_peer(recogniser: Recogniser, utterances: Sequence[Utterance], record: Path) -> tuple[list[str], float]:
    """Transcribe all that is not in `record` yet.

    Args:
        recogniser: ready.
        utterances: to transcribe, in order.
        record: of one line a recording: its id, the text, and the seconds of processor time.

    Returns:
        The texts in order, and seconds of processor time for a second of audio.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    done = _read_record(record)
    with record.open("a", encoding="utf-8") as lines:
        for utterance in tqdm([u for u in utterances if u.id not in done], desc=recogniser.name, disable=None):
            samples = read_audio(utterance.audio_path, SAMPLE_RATE_HZ)
            started = time.process_time()
            text = recogniser.transcribe(samples)
            done[utterance.id] = (text, time.process_time() - started)
            row = {"id": utterance.id, "text": text, "seconds": round(done[utterance.id][1], 4)}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()
    found = [done[utterance.id] for utterance in utterances]
    audio_seconds = sum(utterance.duration_seconds for utterance in utterances)
    return [text for text, _ in found], sum(seconds for _, seconds in found) / audio_seconds


def _read_record(record: Path) -> dict[str, tuple[str, float]]:
    """What an earlier run wrote; a last line that a kill cut short is taken off."""
    if not record.exists():
        return {}
    whole = record.read_text(encoding="utf-8").rpartition("\n")[0]
    write_text(record, whole + "\n" if whole else "")
    rows = [parse_json(line) for line in whole.splitlines()]
    return {row["id"]: (row["text"], row["seconds"]) for row in rows}


def score_own(summary: Path, utterances: Sequence[Utterance]) -> Score:
    """The line of a network of ours, from the files that `eval.py` wrote.

    Raises:
        ManifestError: they are of another manifest.
    """
    rows = summary.with_name(f"{summary.stem}_utterances.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["hypothesis"] for row in map(parse_json, rows)}
    missing = [utterance.id for utterance in utterances if utterance.id not in texts]
    if missing:
        raise ManifestError(f"{summary} lacks {len(missing)} utterances, such as {missing[0]}; score this manifest")
    found = parse_json(summary.read_text(encoding="utf-8"))
    checkpoint = Path(found["checkpoint"])
    num_bytes = checkpoint.stat().st_size if checkpoint.exists() else None
    return score("mindaudio_ds2", utterances, [texts[u.id] for u in utterances], None, num_bytes)


def describe(scores: Sequence[Score]) -> str:
    """The table, as Markdown."""
    rows = ["| recogniser | utterances | words | WER | CER | CPU-RTF | weights |", "| --- " * 7 + "|"]
    for one in scores:
        factor = "" if one.real_time_factor is None else f"{one.real_time_factor:.3f}"
        size = "" if one.num_bytes is None else f"{one.num_bytes / 1e6:.0f} MB"
        rows.append(
            f"| {one.name} | {one.num_utterances} | {one.num_words} | {100 * one.wer:.2f} % | {100 * one.cer:.2f} % "
            f"| {factor} | {size} |"
        )
    return "\n".join(rows)


def choose(utterances: Sequence[Utterance], limit: int | None) -> list[Utterance]:
    """All, or `limit` of them, evenly over the manifest."""
    if limit is None or limit >= len(utterances):
        return list(utterances)
    return [utterances[place * len(utterances) // limit] for place in range(limit)]


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("manifest", type=Path, help="recordings to score on")
    add("--peers", nargs="*", choices=PEERS, default=PEERS, help="which (default: all)")
    add("--output", type=Path, default=Path("runs/english/peers"), help="folder of their texts and the table")
    add("--downloads", type=Path, default=Path("data/english/downloads"), help="folder of their weights")
    add("--limit", type=int, help="score so many recordings, evenly over the manifest (default: all)")
    add("--own", type=Path, nargs="*", default=[], metavar="JSON", help="eval_<manifest>.json of networks of ours")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    utterances = choose(read_manifest(arguments.manifest), arguments.limit)
    scores = [score_own(path, utterances) for path in arguments.own]
    for name in arguments.peers:
        print(f"loading {name}", flush=True)
        recogniser = open_peer(name, arguments.downloads)
        texts, factor = run_peer(recogniser, utterances, arguments.output / f"{name}.jsonl")
        scores.append(score(name, utterances, texts, factor, recogniser.num_bytes))
        table = describe(scores)
        write_text(arguments.output / "table.md", table + "\n")
    print(describe(scores))


if __name__ == "__main__":
    main()
