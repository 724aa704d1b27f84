"""Live streams against whole recordings: a checkpoint and an ONNX file, random cuts, other sample rates."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.audio.feature_stream import FeatureStream
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.resampling import StreamResampler, resample
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.errors import AudioError, ConfigError
from mindaudio_ds2.streaming.events import Event
from mindaudio_ds2.transcribe import Recognizer
from tests.streaming.babbler import RATE_HZ, Babbler, make_features, make_sound

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def checkpoint(mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt nothing, and is sure of what it says: many words, none of which means anything."""
    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from tests import cells

    config = read_config(ROOT / "hparams" / "an4.yaml")
    features = make_features()
    model = dataclasses.replace(cells.SMALL, bidirectional=False, conv_stride_time=[2, 2], rnn_hidden_size=24)
    text = dataclasses.replace(config.text, characters="ABCD ")
    config = dataclasses.replace(config, features=features, model=model, text=text)
    network = build_network(config)
    generator = np.random.default_rng(5)
    cells.write(network, {"head.weight": 2 * generator.standard_normal(network.head.weight.shape)})
    heard = compute_features(make_sound(9.0), features)
    network.set_train(True)
    cells.run(network, heard[None], np.array([len(heard)], np.int32))
    for norm in network.batch_norms():  # what is left of the first statistics is taken out again
        mean, variance = norm.next_mean.asnumpy() / 0.1, (norm.next_variance.asnumpy() - 0.9) / 0.1
        cells.write(norm, {"moving_mean": mean, "moving_variance": variance})
    path = tmp_path_factory.mktemp("stream") / "forward.ckpt"
    save_checkpoint(path, config, network.weights(), {}, {})
    return path


@pytest.fixture(scope="module", params=["babbler", "checkpoint", "onnx"])
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    if request.param == "babbler":
        return Recognizer(Babbler())
    checkpoint: Path = request.getfixturevalue("checkpoint")
    if request.param == "checkpoint":
        return Recognizer.load(checkpoint)
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.export.onnx_model import OnnxForm, build_onnx

    loaded, path = load_checkpoint(checkpoint), checkpoint.with_suffix(".onnx")
    onnx.save(build_onnx(loaded, OnnxForm(input="features", is_stream=True), {}), path)
    return Recognizer.load(path)


def cut(sound: NDArray[Any], seed: int) -> list[NDArray[Any]]:
    generator = np.random.default_rng(seed)
    num_cuts = int(generator.integers(1, 40))
    return np.split(sound, np.sort(generator.integers(0, len(sound) + 1, num_cuts)))


def run(recognizer: Recognizer, chunks: list[NDArray[Any]], rate_hz: int = RATE_HZ, **options: Any) -> list[Event]:
    stream = recognizer.stream(rate_hz, **options)
    return [event for chunk in chunks for event in stream.feed(chunk)] + stream.finish()


def list_texts(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in events if event.kind != "partial"]


def test_side_by_side_each_stream_hears_what_it_hears_alone(recognizer: Recognizer) -> None:
    """Begun at different times, in chunks of different lengths, some of which cannot be."""
    from mindaudio_ds2.streaming.stream import Stream

    sounds = [make_sound(seconds) for seconds in (9.0, 5.0, 7.0, 3.0)]
    alone = [list_texts(run(recognizer, cut(sound, i))) for i, sound in enumerate(sounds)]
    streams = [recognizer.stream(RATE_HZ) for _ in sounds]
    assert all(isinstance(stream, Stream) for stream in streams)
    chunks = [cut(sound, i) for i, sound in enumerate(sounds)]
    heard: list[list[Event]] = [[] for _ in sounds]
    for turn in range(max(map(len, chunks)) + len(streams)):
        numbers = [i for i in range(len(streams)) if 0 <= turn - 2 * i < len(chunks[i])]
        now = [chunks[i][turn - 2 * i] for i in numbers]
        if numbers and turn % 3 == 0:
            refused = recognizer.stream(RATE_HZ)
            bad: Any = np.full(100, np.nan, np.float32)
            *found, error = Stream.feed_together([*(streams[i] for i in numbers), refused], [*now, bad])  # type: ignore[list-item]
            assert isinstance(error, AudioError)
        else:
            found = Stream.feed_together([streams[i] for i in numbers], now)  # type: ignore[misc]
        for i, events in zip(numbers, found, strict=True):
            assert isinstance(events, list)
            heard[i] += events
    together = [list_texts(events + stream.finish()) for events, stream in zip(heard, streams, strict=True)]
    assert together == alone
    assert len(alone[0]) > 4


def test_any_cut_gives_the_text_of_the_whole(recognizer: Recognizer) -> None:
    sound = make_sound(9.0)
    (expected, *_) = recognizer.decoder.decode(recognizer.network.recognize([sound])[0][0])
    assert len(expected.words) > 4
    whole = list_texts(run(recognizer, [sound], endpointing=None))
    utterances = list_texts(run(recognizer, [sound]))
    for seed in range(3):
        events = run(recognizer, cut(sound, seed), endpointing=None)
        assert list_texts(events)[-1] == whole[-1]
        words = [word for event in events if event.kind == "final" for word in event.words]
        assert [word.text for word in words] == [word.text for word in expected.words]
        for ours, theirs in zip(words, expected.words, strict=True):
            assert ours.start_seconds == pytest.approx(theirs.start_seconds)
            assert ours.end_seconds == pytest.approx(min(theirs.end_seconds, 9.0))
            assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-3)
        assert list_texts(run(recognizer, cut(sound, seed))) == utterances


def test_log_probabilities_of_a_stream_are_those_of_the_whole(recognizer: Recognizer) -> None:
    sound = make_sound(5.0)
    expected = recognizer.network.recognize([sound])[0][0]
    for seed in range(3):
        features, network = FeatureStream(recognizer.network.features), recognizer.network.start_stream()
        parts = [network.feed(features.feed(chunk)) for chunk in cut(sound, seed)]
        parts += [network.feed(features.finish()), network.finish()]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-3)


def test_words_come_within_the_latency_that_is_stated(recognizer: Recognizer) -> None:
    """Every output frame is there once so much sound behind it is, and not before half of that."""
    stride_seconds = recognizer.network.seconds_per_output_frame
    latency = recognizer.stream().latency_seconds
    features, network = FeatureStream(recognizer.network.features), recognizer.network.start_stream()
    sound, num_frames, lags = make_sound(6.0), 0, []
    for start in range(0, len(sound), 80):
        found = len(network.feed(features.feed(sound[start : start + 80])))
        lags += [(start + 80) / RATE_HZ - (num_frames + i) * stride_seconds for i in range(found)]
        num_frames += found
    assert latency - 2 * stride_seconds < max(lags[20:]) <= latency + 80 / RATE_HZ


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
def test_other_rates_and_sixteen_bits_are_converted_in_the_stream(rate_hz: int, recognizer: Recognizer) -> None:
    sound = (make_sound(6.0, rate_hz) * 32767).astype(np.int16)
    expected = recognizer.transcribe(sound, rate_hz)
    for seed in range(2):
        events = run(recognizer, cut(sound, seed), rate_hz, endpointing=None)
        assert " ".join(event.text for event in events if event.kind == "final") == expected.text


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (44100, 16000), (48000, 16000), (22050, 8000)])
def test_a_resampled_stream_is_the_resampled_whole(from_hz: int, to_hz: int) -> None:
    for num_samples in (0, 1, 999, 50001):
        sound = make_sound(2.0, from_hz)[:1].repeat(num_samples) + 0.1 * np.sin(np.arange(num_samples) / 9)
        sound = sound.astype(np.float32)
        due = -(-num_samples * to_hz // from_hz)
        expected = resample(sound, from_hz, to_hz, due) if num_samples else sound
        for seed in range(3):
            stream = StreamResampler(from_hz, to_hz)
            parts = [stream.feed(chunk) for chunk in cut(sound, seed)]
            np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), expected, atol=1e-5)


def test_streams_side_by_side_do_not_hear_each_other(recognizer: Recognizer) -> None:
    one, other = make_sound(6.0), make_sound(6.0)[::-1].copy()
    expected = [list_texts(run(recognizer, [sound])) for sound in (one, other)]
    streams = recognizer.stream(), recognizer.stream()
    events: list[list[Event]] = [[], []]
    for start in range(0, len(one), 5000):
        for stream, sound, heard in zip(streams, (one, other), events, strict=True):
            heard += stream.feed(sound[start : start + 5000])
    found = [list_texts([*heard, *stream.finish()]) for stream, heard in zip(streams, events, strict=True)]
    assert [[text for kind, text in texts if kind == "final"] for texts in found] == [
        [text for kind, text in texts if kind == "final"] for texts in expected
    ]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((10, 2), np.float32), "one channel"),
        (np.zeros(10, np.int32), "int16"),
        (np.array([0.0, np.nan], np.float32), "not finite"),
        (np.full(10, 300.0, np.float32), "not scaled"),
        ([0.0] * 10, "np.asarray"),
        (b"\0\0", "np.frombuffer"),
    ],
)
@pytest.mark.parametrize("is_whole", [False, True], ids=["forward-only", "whole"])
def test_samples_that_cannot_be_are_refused(
    is_whole: bool, samples: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_whole:
        monkeypatch.setattr(Babbler, "streaming", None)
    stream = Recognizer(Babbler()).stream()
    with pytest.raises(AudioError, match=message):
        stream.feed(samples)
    stream.feed(np.zeros(100, np.float32))
    assert stream.num_samples == 100


def test_a_finished_stream_hears_no_more(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    assert stream.finish() == []
    for call in (stream.finish, lambda: stream.feed(np.zeros(10, np.float32))):
        with pytest.raises(AudioError, match="finished"):
            call()


@pytest.mark.parametrize("is_whole", [False, True], ids=["forward-only", "whole"])
def test_a_rate_or_an_end_that_cannot_be_is_refused(is_whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_whole:
        monkeypatch.setattr(Babbler, "streaming", None)
    recognizer = Recognizer(Babbler())
    for rate_hz in (float("nan"), 0, 7, True, 16000.5, "16000", -8000):
        with pytest.raises(AudioError, match="from 4000 to 192000"):
            recognizer.stream(rate_hz)  # type: ignore[arg-type]
    for endpointing in (1, "x", True):
        with pytest.raises(ConfigError, match=r"give an Endpointing\(silence_seconds, max_seconds\)"):
            recognizer.stream(endpointing=endpointing)  # type: ignore[arg-type]
    assert recognizer.stream(8000.0).rate_hz == 8000  # type: ignore[arg-type]


def test_features_of_a_stream_do_not_depend_on_the_level_that_follows_later(recognizer: Recognizer) -> None:
    """What was given is never taken back: half of the sound has the same first frames as all of it."""
    sound, config = make_sound(4.0), recognizer.network.features
    stream = FeatureStream(config)
    half = stream.feed(sound[: len(sound) // 2])
    np.testing.assert_allclose(half, compute_features(sound, config)[: len(half)], atol=1e-4)


def test_a_network_that_needs_the_whole_is_given_segments(recognizer: Recognizer) -> None:
    network = recognizer.network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(network), "streaming", None)
        assert not recognizer.stream().is_incremental


def test_a_packed_network_streams_by_its_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mindspore_cpu: None
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from mindaudio_ds2.commands.pack_model import pack
    from mindaudio_ds2.machine.backend import STOCK

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    options: dict[str, Any] = {"weights": "fp32", "manifest": None, "max_wer_loss": 0.0, "licence": "CC0"}
    pack(Namespace(checkpoint=checkpoint, folder=tmp_path / "live", training_data="noise", **options), STOCK)
    packed, chunks = Recognizer.load("live"), cut(make_sound(9.0), 3)
    assert type(packed.network).__module__ == "mindaudio_ds2.portable.stream"
    assert packed.stream(RATE_HZ).is_incremental
    assert list_texts(run(packed, chunks)) == list_texts(run(Recognizer.load(checkpoint), chunks))
