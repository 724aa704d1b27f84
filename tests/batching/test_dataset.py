import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config import BatchingConfig
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import AudioError, ManifestError, OutputError
from mindaudio_ds2.network_config import FeatureConfig

ROOT = Path(__file__).resolve().parents[2]
NUM_UTTERANCES = 24
PREFETCH_BATCHES = 2
CONFIG = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "utterance", [], [])
BLANK_ID = 9

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Loader = Any  # BatchLoader; importing it up here would start MindSpore before `runtime.start`


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    generator = np.random.default_rng(0)
    found = []
    for number in range(NUM_UTTERANCES):
        num_samples = int(generator.integers(1600, 9600))
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, generator.normal(0, 0.1, num_samples).clip(-1, 1), 16000)
        found.append(Utterance(f"u{number}", str(path), num_samples / 16000, "A"))
    return found


@pytest.fixture
def batches(utterances: list[Utterance]) -> tuple[BatchSpec, ...]:
    config = BatchingConfig([8.0], 3, 20.0, 1, False, PREFETCH_BATCHES, 0)
    durations = [utterance.duration_seconds for utterance in utterances]
    return plan_evaluation(durations, config, num_frames=CONFIG.num_frames)


@pytest.fixture
def make_loader(utterances: list[Utterance]) -> Callable[..., Loader]:
    from mindaudio_ds2.batching.dataset import BatchLoader

    labels = [np.arange(number % 4, dtype=np.int32) for number in range(NUM_UTTERANCES)]

    def make(cache_dir: Path | None = None) -> Loader:
        return BatchLoader(
            utterances, labels, CONFIG, blank_id=BLANK_ID, cache_dir=cache_dir, prefetch_batches=PREFETCH_BATCHES
        )

    return make


class Recorder:
    """Stands in for `load_features`, counts its calls and runs something at one of them."""

    def __init__(self, original: Callable[..., NDArray[np.float32]]) -> None:
        self.original = original
        self.ids: list[str] = []
        self.before: Callable[[str], None] = lambda utterance_id: None

    def __call__(self, utterance: Utterance, *arguments: Any) -> NDArray[np.float32]:
        self.ids.append(utterance.id)
        self.before(utterance.id)
        return self.original(utterance, *arguments)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(load_features)
    monkeypatch.setattr("mindaudio_ds2.batching.loading.load_features", recorder)
    return recorder


def assert_same(tensors: Any, expected: Any) -> None:
    for name in ("features", "feature_lengths", "labels", "label_lengths"):
        found = getattr(tensors, name).asnumpy()
        assert found.dtype == getattr(expected, name).dtype
        assert np.array_equal(found, getattr(expected, name)), name
    assert list(tensors.indices) == expected.indices.tolist()


@pytest.mark.parametrize("has_cache", [False, True])
def test_the_network_gets_what_was_planned_and_collated(
    has_cache: bool, make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], tmp_path: Path
) -> None:
    loader = make_loader(tmp_path / "cache" if has_cache else None)
    for _ in range(2):
        found = list(loader.iterate(batches))
        gc.collect()  # tensors share memory with arrays that nobody else holds any more
        assert len(found) == len(batches)
        for tensors, batch in zip(found, batches, strict=True):
            assert tensors.indices == batch.indices
            assert tensors.features.shape == (len(batch.indices), batch.num_padded_frames, CONFIG.num_bins)
            assert_same(tensors, make_loader().load(batch))


def test_tensors_are_mindspores_float32_and_int32(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...]
) -> None:
    import mindspore as ms

    tensors = next(make_loader().iterate(batches))
    assert isinstance(tensors.features, ms.Tensor)
    assert tensors.features.dtype == ms.float32
    assert {t.dtype for t in (tensors.feature_lengths, tensors.labels, tensors.label_lengths)} == {ms.int32}


@pytest.mark.parametrize("skip_batches", [0, 1, 5, 8, 9])
def test_a_run_goes_on_at_any_batch_without_loading_those_before(
    skip_batches: int, make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], recorder: Recorder
) -> None:
    found = list(make_loader().iterate(batches, skip_batches))
    assert [tensors.indices for tensors in found] == [batch.indices for batch in batches[skip_batches:]]
    assert recorder.ids == [f"u{index}" for batch in batches[skip_batches:] for index in batch.indices]


@pytest.mark.parametrize("has_cache", [False, True])
def test_each_utterance_is_changed_as_its_own_changes_say(
    has_cache: bool, make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], tmp_path: Path
) -> None:
    from mindaudio_ds2.batching.augmentation import Changes

    def augment(index: int) -> Changes:
        """Every third utterance is said twice; every one has its own number in its first frame."""

        def mark(features: NDArray[np.float32]) -> NDArray[np.float32]:
            marked = features.copy()
            marked[0] = index
            return marked

        return Changes(None if index % 3 else lambda waveform: np.tile(waveform, 2), (mark,))

    loader = make_loader(tmp_path / "cache" if has_cache else None)
    plain = {tensors.indices: tensors.feature_lengths.asnumpy() for tensors in loader.iterate(batches)}
    for tensors in loader.iterate(batches, augment=augment):
        features, lengths = tensors.features.asnumpy(), tensors.feature_lengths.asnumpy()
        assert features.shape[1] == lengths.max(), "a batch is as long as its longest utterance came to be"
        for row, index in enumerate(tensors.indices):
            assert (features[row, 0] == index).all()
            expected = plain[tensors.indices][row]
            assert lengths[row] in ((2 * expected - 1, 2 * expected) if index % 3 == 0 else (expected,))


@pytest.mark.parametrize("shape", [None, BatchShape(5, 90, 7)], ids=["open", "fixed"])
def test_second_views_come_behind_all_first_ones(make_loader: Callable[..., Loader], shape: BatchShape | None) -> None:
    from mindaudio_ds2.batching.augmentation import UNCHANGED, Changes

    loader, spec = make_loader(), BatchSpec((3, 8, 5), 90, shape)
    halves = Changes(None, (lambda features: features, lambda features: features / 2))
    one, both = (loader.load(spec, lambda _, changes=changes: changes) for changes in (UNCHANGED, halves))
    assert both.features.tobytes() == np.concatenate([one.features, one.features / 2]).tobytes()
    for name in ("feature_lengths", "labels", "label_lengths"):
        array = getattr(one, name)
        assert np.array_equal(getattr(both, name), np.concatenate([array, array]))
        assert len(array) == (5 if shape else 3)
    assert both.indices.tolist() == [3, 8, 5]


def test_nothing_is_changed_unless_it_is_asked_for(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], utterances: list[Utterance]
) -> None:
    for batch in batches:
        loaded = make_loader().load(batch)
        for row, index in enumerate(batch.indices):
            expected = load_features(utterances[index], CONFIG, None)
            assert loaded.features[row, : len(expected)].tobytes() == expected.tobytes()


def test_no_batches_give_nothing(make_loader: Callable[..., Loader]) -> None:
    assert list(make_loader().iterate(())) == []


def test_batches_are_loaded_ahead_but_not_without_limit(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], recorder: Recorder
) -> None:
    most_ahead = PREFETCH_BATCHES + 1
    is_ahead = threading.Event()
    finished: list[int] = []
    loader = make_loader()
    load = loader.load

    def load_and_count(*arguments: Any) -> Any:
        result = load(*arguments)
        finished.append(1)
        if len(finished) == 1 + most_ahead:
            is_ahead.set()
        return result

    loader.load = load_and_count
    for num_taken, _ in enumerate(loader.iterate(batches), start=1):
        assert is_ahead.wait(timeout=10), "nothing is loaded while the step runs"
        assert len(finished) <= num_taken + most_ahead


def test_unusable_audio_raises_its_own_error_when_its_batch_is_due(
    make_loader: Callable[..., Loader],
    batches: tuple[BatchSpec, ...],
    utterances: list[Utterance],
    capfd: pytest.CaptureFixture[str],
) -> None:
    spoiled = utterances[batches[4].indices[1]]
    Path(spoiled.audio_path).write_text("no sound")
    steps = make_loader().iterate(batches)
    assert [next(steps).indices for _ in range(4)] == [batch.indices for batch in batches[:4]]
    with pytest.raises(AudioError) as caught:
        next(steps)
    assert repr(spoiled.id) in str(caught.value)
    assert spoiled.audio_path in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_duration_raises_its_own_error(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], utterances: list[Utterance]
) -> None:
    utterance = utterances[batches[0].indices[0]]
    soundfile.write(utterance.audio_path, np.zeros(16000), 16000)
    with pytest.raises(ManifestError, match=repr(utterance.id)):
        list(make_loader().iterate(batches))


def test_a_cache_that_cannot_be_written_raises_its_own_error(
    make_loader: Callable[..., Loader],
    batches: tuple[BatchSpec, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from mindaudio_ds2.batching import feature_cache

    def fail(path: Path, write: object) -> None:
        raise OutputError(f"cannot write {path}")

    monkeypatch.setattr(feature_cache, "write_atomically", fail)
    with pytest.raises(OutputError, match=str(tmp_path / "cache")):
        list(make_loader(tmp_path / "cache").iterate(batches))


def test_a_defect_arrives_as_it_is_with_its_traceback(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], recorder: Recorder
) -> None:
    def divide(utterance_id: str) -> None:
        if utterance_id == f"u{batches[2].indices[0]}":
            raise ZeroDivisionError("a defect")

    recorder.before = divide
    with pytest.raises(ZeroDivisionError, match="a defect") as caught:
        list(make_loader().iterate(batches))
    assert any(entry.name == "divide" for entry in caught.traceback)


def test_the_loader_can_be_used_again_after_an_error(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], utterances: list[Utterance]
) -> None:
    path = Path(utterances[batches[1].indices[0]].audio_path)
    sound = path.read_bytes()
    path.write_text("no sound")
    loader = make_loader()
    with pytest.raises(AudioError):
        list(loader.iterate(batches))
    path.write_bytes(sound)
    assert len(list(loader.iterate(batches))) == len(batches)


def count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux shows them")
@pytest.mark.parametrize("ending", ["break", "exception", "error in the loader", "end"])
def test_no_thread_stays_behind_however_the_loop_ends(
    ending: str, make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...], recorder: Recorder
) -> None:
    def fail(utterance_id: str) -> None:
        if ending == "error in the loader":
            raise AudioError(utterance_id)

    def walk() -> None:
        for _ in make_loader().iterate(batches):
            if ending == "break":
                break
            if ending == "exception":
                raise KeyboardInterrupt

    list(make_loader().iterate(batches))  # MindSpore keeps some threads of its own from the first time on
    before = count_threads()
    recorder.before = fail
    for _ in range(5):
        with contextlib.suppress(KeyboardInterrupt, AudioError):
            walk()
    gc.collect()
    assert count_threads() == before


def test_the_settings_of_other_data_sets_are_left_alone(
    make_loader: Callable[..., Loader], batches: tuple[BatchSpec, ...]
) -> None:
    import mindspore.dataset as ds

    before = ds.config.get_prefetch_size()
    steps: Iterator[Any] = make_loader().iterate(batches)
    next(steps)
    assert ds.config.get_prefetch_size() == before != PREFETCH_BATCHES


UNFINISHED = """
import sys
import numpy as np
from mindaudio_ds2.machine import runtime
runtime.start("CPU", seed=1)
from mindaudio_ds2.batching.dataset import BatchLoader
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.corpus.manifest import Utterance
config = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "utterance", [], [])
utterance = Utterance("u", sys.argv[1], float(sys.argv[2]), "A")
loader = BatchLoader([utterance], [np.zeros(1, np.int32)], config, blank_id=0, cache_dir=None, prefetch_batches=2)
steps = loader.iterate([BatchSpec((0,) * 8, 1)] * 1000)
next(steps)
sys.exit(7)
"""


def test_a_program_that_ends_in_the_middle_of_an_epoch_ends_quietly(utterances: list[Utterance]) -> None:
    program = [sys.executable, "-c", UNFINISHED, utterances[0].audio_path, str(utterances[0].duration_seconds)]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    shown = ended.stderr.replace("starting MindSpore\n", "")  # said where that takes five seconds
    assert (ended.returncode, ended.stdout, shown) == (7, "", "")
