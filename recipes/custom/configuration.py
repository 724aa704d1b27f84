"""The YAML of a corpus: another's values, but for what the recordings decide."""

import dataclasses
import math
import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindaudio_ds2 import models
from mindaudio_ds2.audio.io import read_rate_hz
from mindaudio_ds2.corpus import splitting
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.splitting import Splits
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import ReadError
from mindaudio_ds2.text.characters import count_characters, name_character
from mindaudio_ds2.yaml_reader import parse_yaml
from recipes.custom.choices import Choices
from recipes.custom.yaml_text import quote

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
FROM_RANDOM, FROM_ENGLISH = HPARAMS / "an4.yaml", HPARAMS / "english_finetune.yaml"
HPARAMS_NAME = "hparams.yaml"
MAX_FILES_ASKED_FOR_RATE = 500
MAX_BUCKETS = 16
UTTERANCES_PER_BUCKET = 50


@dataclass(frozen=True)
class Base:
    """The YAML that all but a few values are taken from.

    Attributes:
        path: of the file.
        text: all of it.
        characters: of its alphabet.
        output_frame_seconds: how far the network's output frames are apart; CTC writes one character a frame at most.
        sample_rate_hz: of its features.
        max_batch_padded_seconds: of its batches.
        join_max_seconds: of utterances that are joined in training.
        is_english: training goes on from English, whose alphabet and sample rate stay.
    """

    path: Path
    text: str
    characters: str
    output_frame_seconds: float
    sample_rate_hz: int
    max_batch_padded_seconds: float
    join_max_seconds: float
    is_english: bool = False


def read_base(path: Path) -> Base:
    """Read the YAML that all but a few values are taken from.

    Raises:
        ConfigError: it cannot be read, or lacks what is needed here.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        sections = parse_yaml(text)
    except (OSError, UnicodeDecodeError, ReadError) as error:
        raise ConfigError(f"--base {path} cannot be read as YAML: {error}") from error
    try:
        features = sections["features"]
        frame_seconds = float(features["hop_seconds"]) * math.prod(sections["model"]["conv_stride_time"])
        padded_seconds = float(sections["batching"]["max_batch_padded_seconds"])
        joined_seconds = float(sections["augmentation"]["join_max_seconds"])
        characters, rate_hz = str(sections["text"]["characters"]), int(features["sample_rate_hz"])
        return Base(path, text, characters, frame_seconds, rate_hz, padded_seconds, joined_seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--base {path} is no configuration ({error}); take one of hparams/*.yaml") from None


def choose_base(transcripts: Sequence[str], choices: Choices) -> Base:
    """The YAML for recordings: `--base`, or that for going on from English where its letters suffice, or AN4's.

    Raises:
        ConfigError: `--start english`, but the model is not installed, or letters are not its own.
        ConfigError: see `read_base`.
    """
    if choices.base or choices.start == "random":
        return read_base(choices.base or FROM_RANDOM)
    english = dataclasses.replace(read_base(FROM_ENGLISH), is_english=True)
    strange = sorted(set(count_characters(transcripts, choices.letter_case)) - set(english.characters))
    trouble = f"the texts have {', '.join(map(name_character, strange[:5]))}, which it does not know" if strange else ""
    trouble = trouble or ("--characters sets another alphabet" if choices.characters else _find_english())
    if trouble and choices.start == "english":
        raise ConfigError(f"--start english: {trouble}; take --start random")
    if trouble:
        print(f"* training begins with random weights, not with English: {trouble}\n")
    return read_base(FROM_RANDOM) if trouble else english


def _find_english() -> str:
    """Why training cannot go on from English; empty if it can."""
    try:
        models.find_file("english", "weights")
    except CheckpointError as error:
        return str(error)
    return ""


def show_training(base: Base, choices: Choices) -> str:
    """The command that trains."""
    start = " --pre_trained_model_path english" if base.is_english else ""
    return f"python train.py -c {shlex.quote(f'{choices.output / HPARAMS_NAME}')}{start}"


def choose_values(train: Sequence[Utterance], alphabet: str, base: Base, choices: Choices) -> dict[str, str]:
    """What the corpus decides, as YAML text by dotted path."""
    durations = [utterance.duration_seconds for utterance in train]
    longest = math.ceil(2 * max(durations)) / 2
    if longest <= choices.min_duration:
        longest += 0.5
    num_buckets = min(MAX_BUCKETS, max(1, len(train) // UTTERANCES_PER_BUCKET))
    quantiles = np.quantile(durations, np.arange(1, num_buckets) / num_buckets)
    edges = sorted({math.ceil(10 * quantile) / 10 for quantile in quantiles if quantile < longest - 0.1} | {longest})
    padded = max(base.max_batch_padded_seconds, longest)
    rate_hz = base.sample_rate_hz if base.is_english else _choose_sample_rate_hz(train, base.sample_rate_hz)
    manifests = {
        f"data.{name}_manifest": quote((choices.output / f"{name}.jsonl").as_posix())
        for name in ("train", "dev", "test")
    }
    return {
        "run_dir": quote(choices.run_dir),
        **manifests,
        "data.min_duration_seconds": f"{choices.min_duration:.12g}",
        "data.max_duration_seconds": f"{longest:.1f}",
        "text.characters": quote(base.characters if base.is_english else unicodedata.normalize("NFC", alphabet)),
        "text.letter_case": choices.letter_case,
        "features.sample_rate_hz": str(rate_hz),
        "augmentation.join_max_seconds": f"{min(base.join_max_seconds, longest):.1f}",
        "batching.bucket_edges_seconds": "[" + ", ".join(f"{edge:.1f}" for edge in edges) + "]",
        "batching.max_batch_padded_seconds": f"{padded:.1f}",
    }


def _choose_sample_rate_hz(train: Sequence[Utterance], base_hz: int) -> int:
    """The base's rate, unless most of the audio has a lower one: what was not recorded cannot be heard."""
    step = max(1, len(train) // MAX_FILES_ASKED_FOR_RATE)
    rates: Counter[int] = Counter(read_rate_hz(utterance.audio_path) for utterance in train[::step])
    return min(base_hz, rates.most_common(1)[0][0])


def make_header(splits: Splits, base: Base, choices: Choices) -> str:
    """The comment at the head of the YAML: what it is for and where its values come from."""
    hours = splitting.sum_seconds(splits.utterances) / 3600
    name = base.path.name
    return f"""\
# {choices.name}: {len(splits.utterances)} utterances, {hours:.2f} hours. Made by recipes/custom/prepare.py from {name}.
#
#     {show_training(base, choices)}
#     python eval.py --pre_trained_model_path {choices.run_dir}/best.ckpt
#
# The recordings decided run_dir, the manifests, the limits of duration, the alphabet, the sample rate and the buckets.
# All else is {name}'s, whose comments say why it is so there. A new prepare.py makes this file anew and keeps
# a changed one as hparams.previous.yaml. `python train.py --help` tells what each key means, with its unit.
"""


def write_hparams(path: Path, text: str) -> None:
    """Write the YAML; an earlier one may hold somebody's changes, so it is kept under another name."""
    previous = path.read_text(encoding="utf-8") if path.exists() else text
    if previous != text:
        write_text(path.with_name("hparams.previous.yaml"), previous)
        print(f"{path} was there and is kept as hparams.previous.yaml\n")
    write_text(path, text)
