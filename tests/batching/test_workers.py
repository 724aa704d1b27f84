"""Processes that load: the same batches, the same errors, and nobody left behind."""

import functools
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2 import errors
from mindaudio_ds2.batching import workers as workers_module
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.loading import Source
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.batching.workers import Workers
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import AudioError, ManifestError, TrainingError
from tests.tiny_corpus import make_config

ROOT = Path(__file__).resolve().parents[2]
NUM_UTTERANCES = 10
BATCHES = [BatchSpec((index, (index + 3) % NUM_UTTERANCES), 1) for index in range(NUM_UTTERANCES)]


@pytest.fixture
def source(tmp_path: Path, corpus: Path) -> Source:
    generator = np.random.default_rng(0)
    utterances = []
    for number in range(NUM_UTTERANCES):
        num_samples = int(generator.integers(2000, 6000))
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, generator.normal(0, 0.1, num_samples).clip(-1, 1), 8000)
        utterances.append(Utterance(f"u{number}", str(path), num_samples / 8000, "A"))
    labels = [np.arange(1 + number % 4, dtype=np.int32) for number in range(NUM_UTTERANCES)]
    return Source(utterances, labels, make_config(corpus, tmp_path, {}).features, 0, None)


def spoil(utterance: Utterance) -> None:
    Path(utterance.audio_path).write_text("no sound")


def without_numbers(raised: pytest.ExceptionInfo[Exception]) -> str:
    return re.sub(r"opening \d+", "opening", str(raised.value))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_the_end_of(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"{[pid for pid in pids if is_alive(pid)]} are left behind"
        time.sleep(0.02)


def assert_same(found: Any, expected: Any) -> None:
    for name in ("features", "feature_lengths", "labels", "label_lengths", "indices"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("num_workers", [1, 3, 64])
def test_any_number_of_workers_loads_the_same_batches(
    num_workers: int, source: Source, corpus: Path, tmp_path: Path
) -> None:
    changes = {"augmentation.speed_probability": 0.5, "augmentation.gain_probability": 0.5, "training.epochs": 2}
    augmenter = Augmenter(make_config(corpus, tmp_path, changes), source.utterances, source.labels)
    augment = functools.partial(augmenter.make_changes, 3)
    batches = BATCHES[: 3 if num_workers == 64 else NUM_UTTERANCES]
    workers = Workers(source, batches, augment, num_workers)
    try:
        for position, batch in enumerate(batches):
            assert_same(workers.receive(position), source.load(batch, augment))
        assert len(workers.pids) == min(num_workers, len(batches))
    finally:
        workers.stop()
    wait_for_the_end_of(workers.pids)


def test_errors_of_workers_are_those_of_this_process_at_their_place(source: Source) -> None:
    spoil(source.utterances[5])
    soundfile.write(source.utterances[7].audio_path, np.zeros(16000), 8000)
    workers = Workers(source, BATCHES[:8], None, 2)
    try:
        for position in (0, 1):
            workers.receive(position)
        for position, kind in ((2, AudioError), (3, None), (4, ManifestError), (5, AudioError), (6, None)):
            if kind is None:
                workers.receive(position)
                continue
            with pytest.raises(kind) as raised:
                workers.receive(position)
            with pytest.raises(kind) as expected:
                source.load(BATCHES[position])
            assert without_numbers(raised) == without_numbers(expected), "all but the numbers of open files"
    finally:
        workers.stop()


def test_every_error_of_ours_survives_the_way_between_processes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    for kind in kinds:
        arguments = ("a text", 5) if kind in (errors.LongAudioError, errors.Interrupted) else ("a text",)
        error = kind(*arguments)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (kind, "a text", vars(error))


def test_what_a_worker_logs_is_logged_here(source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached = Source(source.utterances, source.labels, source.config, source.blank_id, tmp_path / "cache")
    cached.load(BATCHES[0])
    for entry in (tmp_path / "cache").rglob("*.npz"):
        entry.write_bytes(b"damaged")
    workers = Workers(cached, BATCHES[:1], None, 1)
    try:
        with caplog.at_level(logging.WARNING):
            assert_same(workers.receive(0), source.load(BATCHES[0]))
    finally:
        workers.stop()
    assert len([text for text in caplog.messages if "are unusable" in text]) == 2


def test_a_worker_that_was_killed_is_named(source: Source) -> None:
    workers = Workers(source, BATCHES, None, 2)
    try:
        workers.receive(0)
        for pid in workers.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            TrainingError, match=r"status -9 .*batching\.num_workers"
        ):  # all that is in the pipes is taken
            [workers.receive(position) for position in range(1, len(BATCHES))]
    finally:
        workers.stop()


def test_a_defect_in_a_worker_comes_with_its_traceback(source: Source) -> None:
    broken = Source(source.utterances, source.labels[:1], source.config, source.blank_id, None)
    workers = Workers(broken, BATCHES[:2], None, 1)
    try:
        with pytest.raises(RuntimeError, match="loading.py(.|\n)*IndexError"):
            workers.receive(0)
    finally:
        workers.stop()


PARENT = """
import pickle, sys, time
sys.path.insert(0, {root!r})
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.batching.workers import Workers
source = pickle.loads(sys.stdin.buffer.read())
workers = Workers(source, [BatchSpec((0,) * 200, 1)] * 50, None, 2)
workers.receive(0)
print(*workers.pids, flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "ending"),
    [
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGINT),
        ("time.sleep(60)", signal.SIGTERM),
        ("raise ValueError", None),
        ("import os; os._exit(3)", None),
        ("workers.receive(1)", None),
    ],
)
def test_no_worker_outlives_its_parent(source: Source, then: str, ending: signal.Signals | None) -> None:
    program = PARENT.format(root=str(ROOT), then=then)
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(pickle.dumps(source))
    parent.stdin.close()
    pids = [int(text) for text in parent.stdout.readline().split()]
    assert len(pids) == 2
    if ending:
        assert all(map(is_alive, pids)), "they have work for long"
        parent.send_signal(ending)
    parent.wait(timeout=20)
    wait_for_the_end_of(pids)


def test_a_worker_imports_no_mindspore() -> None:
    code = "import sys, mindaudio_ds2.batching.workers as w; print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert "mindaudio_ds2.batching.workers" in workers_module.START


def test_the_loader_hands_over_what_workers_load(source: Source, mindspore_cpu: None) -> None:
    from mindaudio_ds2.batching.dataset import BatchLoader

    def load(num_workers: int) -> list[Any]:
        loader = BatchLoader(
            source.utterances,
            source.labels,
            source.config,
            blank_id=0,
            cache_dir=None,
            prefetch_batches=2,
            num_workers=num_workers,
        )
        return [(b.features.asnumpy().copy(), b.labels.asnumpy().copy(), b.indices) for b in loader.iterate(BATCHES, 1)]

    alone, together = load(0), load(2)
    assert len(alone) == len(together) == len(BATCHES) - 1
    for (features, labels, indices), (other_features, other_labels, other_indices) in zip(alone, together, strict=True):
        assert features.tobytes() == other_features.tobytes()
        assert labels.tobytes() == other_labels.tobytes()
        assert indices == other_indices


@pytest.mark.parametrize("ending", ["break", "error in a worker", "end"])
def test_no_worker_outlives_the_loop(source: Source, mindspore_cpu: None, ending: str) -> None:
    from mindaudio_ds2.batching import dataset

    started: list[int] = []

    class Watched(Workers):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.extend(self.pids)

    if ending == "error in a worker":
        spoil(source.utterances[4])
    loader = dataset.BatchLoader(
        source.utterances, source.labels, source.config, blank_id=0, cache_dir=None, prefetch_batches=2, num_workers=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "Workers", Watched)
        try:
            for _ in loader.iterate(BATCHES):
                if ending == "break":
                    break
        except AudioError:
            assert ending == "error in a worker"
    assert len(started) == 2
    wait_for_the_end_of(started)
