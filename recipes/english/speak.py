"""Make synthetic English speech: novels, read by Kokoro's 28 voices and their blends, and by hibari made many.

    python recipes/english/speak.py kokoro --text novels.txt.gz --hours 5
    python recipes/english/speak.py hibari --text novels.txt.gz --hours 5

Utterance n depends on the seed, the engine, the text and n only. Blocks of utterances are spoken, heard by Whisper
tiny.en, and recorded; killed at any time, the next run goes on with the clip where this one stopped. More hours add to
fewer. A clip is kept where Whisper understands it as it was written, up to `--max_disagreement`.
"""

import argparse
import hashlib
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.files import write_atomically, write_text
from mindaudio_ds2.reading import parse_json
from recipes.english.downloads import find_kokoro, find_whisper
from recipes.english.listener import Listener, measure_disagreement
from recipes.english.sentences import describe, draw_passage, punctuate, read_sentences
from recipes.english.voices import SAMPLE_RATE_HZ, Engine, HibariEngine, KokoroEngine, SynthesisError

FORMAT = 1  # raise it when the same settings would give other speech than before
BLOCK_SIZE = 56  # each of Kokoro's voices twice
MAX_SECONDS = 20.0


@dataclass(frozen=True)
class Settings:
    """What the speech depends on; written beside it, and compared before more is added."""

    format: int
    engine: str
    seed: int
    text_sha256: str
    max_disagreement: float


class Cache:
    """A folder of clips and the records of its finished blocks.

    Args:
        folder: to make or to go on with.
        settings: must be those that the folder was begun with.

    Raises:
        ConfigError: they are not.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        path = folder / "settings.json"
        if not path.exists():
            write_text(path, json.dumps(vars(settings), indent=2) + "\n")
        found = parse_json(path.read_text(encoding="utf-8"))
        if found != vars(settings):
            raise ConfigError(
                f"{folder} was begun with {found}, now asked for {vars(settings)}; "
                "choose another --output, or remove it"
            )

    def read_block(self, block: int) -> list[dict[str, Any]] | None:
        """The rows of a block that is finished."""
        path = self._name_record(block)
        if not path.exists():
            return None
        return [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def write_block(self, block: int, rows: list[dict[str, Any]]) -> None:
        """Note that a block is finished."""
        write_text(self._name_record(block), "".join(json.dumps(row) + "\n" for row in rows))

    def _name_record(self, block: int) -> Path:
        return self.folder / "blocks" / f"{block:05d}.jsonl"

    def name_clip(self, utterance_id: str) -> Path:
        """Where a clip lies."""
        index = int(utterance_id.rsplit("-", 1)[1])
        return self.folder / "audio" / f"{index // BLOCK_SIZE:05d}" / f"{utterance_id}.flac"

    def write_manifest(self, rows: list[dict[str, Any]]) -> None:
        """The kept clips as `manifest.jsonl`, their statistics, and what was left out, counted."""
        kept = [row for row in rows if row["kept"]]
        reasons = Counter(row["reason"] for row in rows if not row["kept"])
        utterances = [
            Utterance(
                row["id"],
                str(self.name_clip(row["id"]).absolute()),
                row["duration_seconds"],
                row["transcript"],
                row["voice"],
            )
            for row in kept
        ]
        write_manifest(self.folder / "manifest.jsonl", utterances)
        report = {
            "hours": round(sum(row["duration_seconds"] for row in kept) / 3600, 3),
            "num_kept": len(kept),
            "num_left_out": len(rows) - len(kept),
            "left_out_by_reason": dict(sorted(reasons.items())),
            "text": describe(utterance.transcript for utterance in utterances),
        }
        write_text(self.folder / "statistics.json", json.dumps(report, indent=2) + "\n")


class Speaker:
    """Speaks and judges block after block.

    Args:
        engine: of the voices.
        listener: who judges.
        sentences: to draw from.
        cache: of the clips.
        settings: with the seed and the limit.
    """

    def __init__(self, engine: Engine, listener: Listener, sentences: list[str], cache: Cache, settings: Settings):
        self._engine, self._listener, self._sentences = engine, listener, sentences
        self._cache, self._settings = cache, settings

    def finish_block(self, block: int) -> list[dict[str, Any]]:
        """The rows of a block, made where they are not there yet."""
        rows = self._cache.read_block(block)
        if rows is not None:
            return rows
        rows, clips = [], []
        for index in range(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE):
            row = self._draw(index)
            clips.append(self._obtain(row))
            rows.append(row)
        heard = self._listener.transcribe([clip for clip in clips if clip is not None])
        texts = iter(heard)
        for row, clip in zip(rows, clips, strict=True):
            if clip is not None:
                self._judge(row, next(texts))
        self._cache.write_block(block, rows)
        return rows

    def _draw(self, index: int) -> dict[str, Any]:
        rng = random.Random(f"{self._settings.seed} {self._engine.name} {index}")
        passage = draw_passage(self._sentences, rng)
        request = self._engine.draw(punctuate(passage, rng), index, rng)
        row = {"id": f"{self._engine.name}-{self._settings.seed}-{index:06d}", "transcript": " ".join(passage)}
        return row | {"request": request, "voice": request.voice, "kept": False, "reason": ""}

    def _obtain(self, row: dict[str, Any]) -> NDArray[np.float32] | None:
        """The clip, spoken where it is not there yet; None where it cannot be, or is too long."""
        request = row["request"]
        row["request"] = request.to_row()
        path = self._cache.name_clip(row["id"])
        if not path.exists():
            try:
                speech = self._engine.speak(request)
            except SynthesisError:
                row["reason"] = "cannot be spoken"
                return None
            write_atomically(path, lambda partial: _write_flac(partial, speech))
        clip, _ = soundfile.read(path, dtype="float32")
        row["duration_seconds"] = len(clip) / SAMPLE_RATE_HZ
        if row["duration_seconds"] > MAX_SECONDS:
            row["reason"] = f"longer than {MAX_SECONDS:g} s"
            return None
        return np.asarray(clip, np.float32)

    def _judge(self, row: dict[str, Any], heard: str) -> None:
        row["heard"] = heard
        row["disagreement"] = round(measure_disagreement(row["transcript"], heard), 4)
        row["kept"] = row["disagreement"] <= self._settings.max_disagreement
        row["reason"] = "" if row["kept"] else "understood otherwise"


def _write_flac(path: Path, speech: NDArray[np.float32]) -> None:
    soundfile.write(path, speech, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")


def speak(speaker: Speaker, cache: Cache, hours: float) -> None:
    """Finish blocks until so many hours are kept; the manifest grows with each."""
    rows: list[dict[str, Any]] = []
    kept_seconds, block = 0.0, 0
    with tqdm(total=round(hours * 3600), unit="s", unit_scale=True, mininterval=5) as progress:
        while kept_seconds < hours * 3600:
            is_new = cache.read_block(block) is None
            new = speaker.finish_block(block)
            rows += new
            seconds = sum(row["duration_seconds"] for row in new if row["kept"])
            kept_seconds += seconds
            progress.update(round(seconds))
            progress.set_postfix_str(f"{sum(not row['kept'] for row in rows)} of {len(rows)} left out")
            block += 1
            if is_new or kept_seconds >= hours * 3600:
                cache.write_manifest(rows)


def digest(paths: list[Path]) -> str:
    """A checksum of the texts, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("engine", choices=("kokoro", "hibari"), help="whose voices")
    add("--text", type=Path, nargs="+", required=True, help="novels, one sentence a line, capitals; plain or .gz")
    add("--hours", type=float, required=True, help="of speech to keep (hours)")
    add("--output", type=Path, default=Path("data/english/synthetic"), help="folder of the engines' folders")
    add("--downloads", type=Path, default=Path("data/english/downloads"), help="folder of the voices' weights")
    add("--seed", type=parse_seed, default=1, help="another one draws other passages and voices")
    text = "character errors, as a share, up to which Whisper agrees (0 to 1; default: %(default)s)"
    add("--max_disagreement", type=float, default=0.1, help=text)
    arguments = parser.parse_args()
    print("reading the text and loading the voices", flush=True)
    settings = Settings(FORMAT, arguments.engine, arguments.seed, digest(arguments.text), arguments.max_disagreement)
    cache = Cache(arguments.output / arguments.engine, settings)
    engine: Engine = HibariEngine() if arguments.engine == "hibari" else KokoroEngine(*find_kokoro(arguments.downloads))
    listener = Listener(find_whisper(arguments.downloads))
    speak(Speaker(engine, listener, read_sentences(arguments.text), cache, settings), cache, arguments.hours)


if __name__ == "__main__":
    main()
