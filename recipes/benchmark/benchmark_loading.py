#!/usr/bin/env python3
"""Measure what happens before the network: reading a manifest, planning an epoch, decoding, features, loading.

    python recipes/benchmark/benchmark_loading.py -c hparams/deepspeech2.yaml \\
        --manifest data/librispeech_mini/train.jsonl

The first part needs no data: a manifest of as many utterances as LibriSpeech's 960 hours have is generated, read, and
planned for every rank of eight, in a process of its own. The second part loads real audio from --manifest, with one
thread and with two workers. One line goes to recipes/benchmark/loading.jsonl, and into the table of the README there.
"""

import datetime
import json
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.errors import OutputError, exit_on_error
from mindaudio_ds2.files import write_text

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- loading: written by recipes/benchmark/benchmark_loading.py -->", "<!-- end of loading -->"

NUM_UTTERANCES = 281_241  # LibriSpeech's three training sets
NUM_RANKS = 8
NUM_PASSES = 4
"""How often workers go through the audio, so that half a second of starting counts for as little as in an epoch."""
CHARACTERS_PER_SECOND = 15
WORDS = ("THE", "AND", "OF", "TO", "HE", "WAS", "THAT", "HIS", "WITH", "UPON", "BEFORE", "SHOULD", "LITTLE", "THOUGHT")


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--manifest", default=None, help="real audio to load; without it only the first part (path)")
    parser.add_argument("--num_utterances", type=int, default=200, help="so many of it, evenly spread (count)")


# A manifest of LibriSpeech's size ------------------------------------------------------------------------------------


def draw_durations(num_utterances: int, seed: int) -> NDArray[np.float64]:
    """(num_utterances,) seconds, distributed much as LibriSpeech's: two thirds of 12 to 17 s, the rest below."""
    generator = np.random.default_rng(seed)
    long = generator.normal(14.6, 1.2, num_utterances)
    durations = np.where(generator.random(num_utterances) < 0.7, long, generator.uniform(1.3, 13.5, num_utterances))
    clipped: NDArray[np.float64] = np.clip(durations, 1.3, 29.7)
    return clipped


def generate_manifest(path: Path, num_utterances: int, seed: int) -> None:
    """Write a manifest with names and transcripts as long as LibriSpeech's; there is no audio."""
    words = np.random.default_rng(seed).choice(WORDS, size=4096)
    text = " ".join(words)

    def make(number: int, duration: float) -> Utterance:
        name = f"{number // 100:04d}-{number // 50:06d}-{number:07d}"
        transcript = text[number % 1000 :][: round(duration * CHARACTERS_PER_SECOND)].strip()
        folder = path.parent / "LibriSpeech" / name.replace("-", "/")
        return Utterance(name, f"{folder}.flac", duration, transcript, name[:4])

    durations = draw_durations(num_utterances, seed).tolist()
    write_manifest(path, (make(number, duration) for number, duration in enumerate(durations)))


def read_peak_memory_mb() -> int:
    """The most memory that this program ever had (MB). `getrusage` would count what its parent had before it, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def measure_scale(path: Path, config: Config) -> dict[str, Any]:
    """Read a manifest and plan an epoch as each of eight ranks would; to be run in a fresh process."""
    from mindaudio_ds2.batching.plan import plan_epoch
    from mindaudio_ds2.machine.ranks import Place

    started = time.perf_counter()
    utterances = read_manifest(path)
    read_seconds = time.perf_counter() - started
    plan_seconds = []
    for rank in range(NUM_RANKS):
        started = time.perf_counter()
        durations = [utterance.duration_seconds for utterance in utterances]
        plan = plan_epoch(
            durations,
            config.batching,
            epoch=1,
            seed=config.seed,
            num_frames=config.features.num_frames,
            place=Place(rank, NUM_RANKS),
        )
        plan_seconds.append(time.perf_counter() - started)
        assert plan.batches
    return {
        "num_utterances": len(utterances),
        "hours": round(sum(utterance.duration_seconds for utterance in utterances) / 3600, 1),
        "read_seconds": round(read_seconds, 2),
        "num_ranks": NUM_RANKS,
        "plan_seconds_of_slowest_rank": round(max(plan_seconds), 2),
        "peak_memory_mb": read_peak_memory_mb(),
    }


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


# Real audio ----------------------------------------------------------------------------------------------------------


def count_processor_seconds() -> float:
    """Processor time of this process and of those that it has started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Stopwatch:
    """Hours of audio an hour, by the clock and by processor time, that of processes started and ended included."""

    def __init__(self, audio_seconds: float) -> None:
        self.audio_seconds = audio_seconds

    def run(self, work: Callable[[], object], times: int = 1) -> dict[str, float]:
        """Do the work, which goes so many times through the audio.

        An hour of one core is an hour in which no other program took it away.
        """
        started, processor_started = time.perf_counter(), count_processor_seconds()
        work()
        elapsed, processor = time.perf_counter() - started, count_processor_seconds() - processor_started
        return {
            "hours_per_hour": round(times * self.audio_seconds / elapsed, 1),
            "hours_per_core_hour": round(times * self.audio_seconds / processor, 1),
        }


def measure_audio(utterances: Sequence[Utterance], config: Config, cache: Path) -> dict[str, dict[str, float]]:
    """Decode, compute and load the utterances: one thread, features new, then out of a cache."""
    from mindaudio_ds2.audio.features import compute_features
    from mindaudio_ds2.audio.io import read_audio
    from mindaudio_ds2.batching.dataset import BatchLoader
    from mindaudio_ds2.batching.feature_cache import load_features
    from mindaudio_ds2.batching.plan import plan_evaluation
    from mindaudio_ds2.text.tokenizer import Tokenizer

    durations = [utterance.duration_seconds for utterance in utterances]
    watch = Stopwatch(sum(durations))
    rate = config.features.sample_rate_hz
    tokenizer = Tokenizer(config.text)
    labels = [np.zeros(0, dtype=np.int32) for _ in utterances]
    batches = plan_evaluation(durations, config.batching, num_frames=config.features.num_frames)

    def load(cache_dir: Path | None, num_workers: int = 0, times: int = 1) -> None:
        loader = BatchLoader(
            utterances,
            labels,
            config.features,
            blank_id=tokenizer.blank_id,
            cache_dir=cache_dir,
            prefetch_batches=config.batching.prefetch_batches,
            num_workers=num_workers,
        )
        exhaust(loader.iterate(batches * times))

    def decode() -> None:
        exhaust(read_audio(utterance.audio_path, rate) for utterance in utterances)

    decode()  # from the disk into memory, so that all start alike
    compute_features(read_audio(utterances[0].audio_path, rate), config.features)  # imports what it needs
    return {
        "decode": watch.run(decode),
        "decode_and_features": watch.run(
            lambda: exhaust(compute_features(read_audio(u.audio_path, rate), config.features) for u in utterances)
        ),
        "write_cache": watch.run(lambda: exhaust(load_features(u, config.features, cache) for u in utterances)),
        "read_cache": watch.run(lambda: exhaust(load_features(u, config.features, cache) for u in utterances)),
        "loader": watch.run(lambda: load(None)),
        "loader_with_cache": watch.run(lambda: load(cache)),
        "loader_with_two_workers": watch.run(lambda: load(None, 2, NUM_PASSES), NUM_PASSES),
    }


def exhaust(items: Iterable[object]) -> None:
    """Go through everything and keep nothing."""
    for _ in items:
        pass


def choose(utterances: list[Utterance], num: int) -> list[Utterance]:
    """At most so many utterances, evenly spread over the list."""
    step = max(1, len(utterances) // num)
    return utterances[::step][:num]


# Results -------------------------------------------------------------------------------------------------------------


def make_table(lines: Sequence[dict[str, Any]]) -> str:
    """All measurements as a Markdown table, newest last."""
    rows = [
        "| date | commit | processor | utterances | read | plan | memory | features | audio | decoding | and features "
        "| from cache | loader | loader from cache | gain of two workers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        scale, audio = line["scale"], line["audio"]
        commit = line["commit"] + ("+" if line["dirty"] else "")
        names = ("decode", "decode_and_features", "read_cache", "loader", "loader_with_cache")
        rates = [f"{audio[name]['hours_per_core_hour']:.0f}" if audio else "" for name in names]
        cells = [
            *(line["date"], commit, line["cpu"], f"{scale['num_utterances']:,}", f"{scale['read_seconds']} s"),
            *(f"{scale['plan_seconds_of_slowest_rank']} s", f"{scale['peak_memory_mb']} MB", line["features"]),
            *(f"{line['audio_minutes']:g} min" if audio else "", *rates, _describe_gain(audio)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _describe_gain(audio: dict[str, dict[str, float]]) -> str:
    """Two cores with a worker each against one with the thread, by processor time; by the clock in brackets."""
    if "loader_with_two_workers" not in audio:
        return ""
    one, two = audio["loader"], audio["loader_with_two_workers"]
    by_processor, by_clock = (
        times * two[key] / one[key] if one[key] else math.nan  # of too few recordings to be measured
        for times, key in ((2, "hours_per_core_hour"), (1, "hours_per_hour"))
    )
    return f"{by_processor:.2f} ({by_clock:.2f})"


def put_table(readme: str, table: str) -> str:
    """Replace what stands between the markers.

    Raises:
        OutputError: the markers are missing.
    """
    if BEGIN not in readme or END not in readme:
        raise OutputError(f"the README has no place for the table; put these lines into it: {BEGIN} and {END}")
    before, rest = readme.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def run(config: Config, manifest: str | None, num_utterances: int) -> dict[str, Any]:
    """Both parts; one line of results."""
    chosen = choose(read_manifest(manifest), num_utterances) if manifest else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_fresh_process(generate_manifest, folder / "large.jsonl", NUM_UTTERANCES, config.seed)
        scale = in_fresh_process(measure_scale, folder / "large.jsonl", config)
        from mindaudio_ds2.machine import runtime  # after the measurement of memory, which a large parent would spoil

        audio = measure_audio(chosen, config, folder / "cache") if chosen else {}
    environment = runtime.describe_environment()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": environment["commit"],
        "dirty": environment["dirty"],
        "cpu": environment["cpu"],
        "features": f"{config.features.kind} {config.features.num_bins}",
        "scale": scale,
        "audio_minutes": round(sum(utterance.duration_seconds for utterance in chosen) / 60, 1),
        "audio_format": sorted({Path(utterance.audio_path).suffix for utterance in chosen}),
        "audio": audio,
    }


@exit_on_error
def main() -> None:
    """Parse the command line, measure, append, show."""
    default = Path(__file__).resolve().parents[2] / "hparams" / "deepspeech2.yaml"
    config, options = parse_command_line(__doc__ or "", sys.argv[1:], add_options, default)
    assert config is not None
    line = json.dumps(run(config, options.manifest, options.num_utterances))
    results = FOLDER / "loading.jsonl"
    old = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    write_text(results, "\n".join([*old, line]) + "\n")
    readme = FOLDER / "README.md"
    table = make_table([json.loads(each) for each in [*old, line]])
    write_text(readme, put_table(readme.read_text(encoding="utf-8"), table))
    print(line)


if __name__ == "__main__":
    main()
