"""What the page computes while one speaks, against the package's streams on the same numbers."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.browser.features import plan_features
from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.network_config import FeatureConfig, TextConfig
from mindaudio_ds2.portable.stream import OnnxStream, OnnxStreamingNetwork
from mindaudio_ds2.streaming.events import ENDPOINTING, Event
from mindaudio_ds2.streaming.utterances import UtteranceStream
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.transcribe import Recognizer
from tests.browser.node import needs_node, run_node
from tests.tiny_corpus import RATE_HZ, speak
from tests.tone_network import ToneNetwork

pytestmark = needs_node

CONFIGS = {
    "log_mel": FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 80, "corpus", [-5.0] * 80, [2.5] * 80),
    "log_spectrogram": FeatureConfig(
        8000, "log_spectrogram", "hamming", 0.02, 0.01, 162, 80, "corpus", [-4.0] * 82, np.linspace(2, 4, 82).tolist()
    ),
}
SECONDS_PER_FRAME = 0.04


def make_sound(rate_hz: int, seconds: float) -> NDArray[np.float32]:
    """Noise of changing level on an offset, with digital silence in it."""
    generator = np.random.default_rng(7)
    samples = (
        generator.normal(0, 0.05, round(seconds * rate_hz))
        * np.repeat(generator.uniform(0, 1, 40) ** 3, -(-round(seconds * rate_hz) // 40))[: round(seconds * rate_hz)]
    )
    samples[len(samples) // 2 : len(samples) // 2 + rate_hz // 2] = 0
    sound: NDArray[np.float32] = (samples + 0.01).astype(np.float32)
    return sound


@pytest.mark.parametrize("kind", CONFIGS)
def test_features_are_those_of_the_whole_for_any_cut(tmp_path: Path, kind: str) -> None:
    config = CONFIGS[kind]
    sounds = [make_sound(config.sample_rate_hz, seconds) for seconds in (0.0002, 0.05, 7)]
    expression = """value.sounds.flatMap((samples) => value.sizes.map((size) => {
      const stream = new FeatureStream(value.plan), all = Float32Array.from(samples), found = [];
      for (let i = 0; i < all.length; i += size) found.push(...stream.feed(all.subarray(i, i + size)));
      return [...found, ...stream.finish()].map((frame) => [...frame]);
    }))"""
    value = {"plan": plan_features(config), "sounds": [sound.tolist() for sound in sounds], "sizes": [777, 10**6]}
    found = run_node(tmp_path, "features.js", "FeatureStream", expression, value)
    for sound, *own in zip(sounds, found[::2], found[1::2], strict=True):
        for frames in own:
            np.testing.assert_allclose(np.array(frames), compute_features(sound, config), atol=2e-4)


def test_a_network_is_given_the_same_chunks(tmp_path: Path) -> None:
    """Frames, their numbers and the states of each call, for sounds from nothing to long ones."""
    states = {"context_0": [1, 1, 2, 5], "context_lookahead": [1, 4, 9], "hidden_0": [1, 1, 3]}
    chunks = [[], [3], [40], [60], [61, 3], [1] * 70, [7, 64, 2, 33], [100, 1]]
    stride = 4
    expression = """Promise.all(value.chunks.map(async (sizes) => {
      const calls = [];
      const compute = async ({ features, first_frame, num_frames, ...states }) => {
        const sum = features.data.reduce((one, other) => one + other, 0);
        const held = Object.values(states).map(({ data }) => data[0]);
        calls.push([features.dims, sum, Number(first_frame.data[0]), Number(num_frames.data[0]), held]);
        const next = Object.entries(states).map(([name, state]) => (
          [`next_${name}`, { ...state, data: state.data.map((x) => x + 1) }]
        ));
        return { logprobs: { data: new Float32Array(0) }, ...Object.fromEntries(next) };
      };
      const stream = new NetworkStream(compute, value.plan);
      for (const size of sizes) await stream.feed(Array.from({ length: size }, () => Float32Array.of(1, 2)));
      await stream.finish();
      return calls;
    }))"""
    value = {"chunks": chunks, "plan": {"states": states, "time_stride": stride, "features": {"mean": [0, 0]}}}
    found = run_node(tmp_path, "stream.js", "NetworkStream", expression, value)

    class Network(OnnxStreamingNetwork):
        def __init__(self) -> None:
            self.features: Any = SimpleNamespace(num_bins=2)
            self.description: Any = SimpleNamespace(time_stride=stride)
            self.tokenizer: Any = SimpleNamespace(size=3)
            self.state_shapes = states
            self.calls: list[Any] = []

        def run(self, streams: Sequence[OnnxStream], chunks: Sequence[NDArray[Any]], num_frames: int) -> list[Any]:
            (stream,), (chunk,) = streams, chunks
            held = [stream.states[name].ravel()[0] for name in states]
            self.calls.append([[1, *chunk.shape], float(chunk.sum()), stream.num_fed, num_frames, held])
            stream.states = {name: state + 1 for name, state in stream.states.items()}
            stream.num_fed += len(chunk)
            return [np.zeros((0, 3), np.float32)]

    expected = []
    for sizes in chunks:
        network = Network()
        stream = OnnxStream(network)
        for size in sizes:
            stream.feed(np.tile(np.array([1, 2], np.float32), (size, 1)))
        stream.finish()
        expected.append(network.calls)
    assert max(map(len, expected)) > 3
    assert found == expected


def make_log_probs(tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Words, pauses that end utterances, and one that is too long."""
    generator = np.random.default_rng(11)
    labels: list[int] = []
    for seconds, pause in ((2, 0.5), (3, 1.2), (0, 2), (45, 1), (1, 0.1)):
        number = round(seconds / SECONDS_PER_FRAME)
        labels += generator.choice(tokenizer.size, number, p=[0.3, 0.3, 0.25, 0.15]).tolist()
        labels += [tokenizer.blank_id] * round(pause / SECONDS_PER_FRAME)
    scores = generator.normal(0, 0.5, (len(labels), tokenizer.size))
    scores[np.arange(len(labels)), labels] += 4
    log_probs: NDArray[np.float32] = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_probs


def to_message(event: Event) -> dict[str, Any]:
    if event.kind == "final":
        words = [
            {
                "text": word.text,
                "start": pytest.approx(word.start_seconds),
                "end": pytest.approx(word.end_seconds),
                "confidence": pytest.approx(word.confidence),
            }
            for word in event.words
        ]
        return {"type": "final", "words": words}
    return {"type": "partial", "text": event.text} if event.kind == "partial" else {"type": "endpoint"}


@pytest.mark.parametrize("size", [1, 13, 10**6])
def test_words_and_ends_of_utterances_come_at_the_same_frames(tmp_path: Path, size: int) -> None:
    tokenizer = Tokenizer(TextConfig("AB ", "first", "keep", "error"))
    log_probs = make_log_probs(tokenizer)
    duration = len(log_probs) * SECONDS_PER_FRAME - 0.05
    expression = """(() => {
      const stream = new UtteranceStream(value.about), messages = [];
      for (let i = 0; i < value.rows.length; i += value.size) {
        messages.push(stream.feed(Float32Array.from(value.rows.slice(i, i + value.size).flat())));
      }
      return [...messages, stream.finish(value.duration)];
    })()"""
    value = {
        "about": {"labels": ["", "A", "B", " "], "secondsPerFrame": SECONDS_PER_FRAME},
        "rows": log_probs.tolist(),
        "size": size,
        "duration": duration,
    }
    found = run_node(tmp_path, "utterances.js", "UtteranceStream", expression, value)
    stream = UtteranceStream(GreedyDecoder(tokenizer, SECONDS_PER_FRAME), tokenizer, SECONDS_PER_FRAME, ENDPOINTING)
    events = [stream.feed(log_probs[i : i + size]) for i in range(0, len(log_probs), size)]
    events.append(stream.finish(duration))
    assert sum(event.kind == "endpoint" for chunk in events for event in chunk) >= 5
    assert found == [[to_message(event) for event in chunk] for chunk in events]


def test_live_speech_is_heard_in_the_same_segments(tmp_path: Path) -> None:
    """With pauses, and without one for so long that segments overlap, and that each is cut again."""
    generator = np.random.default_rng(2)
    texts = ["BAD CAB", "".join(generator.choice(list("ABCD"), 260)), "D A " * 70, "CAB"]
    pause = np.zeros(round(1.1 * RATE_HZ))
    sound = np.concatenate([part for text in texts for part in (speak(text, len(text)), pause)]).astype(np.float32)
    (tmp_path / "runtime").mkdir()
    shutil.copy(Path(__file__).with_name("tone_runtime.js"), tmp_path / "runtime" / "ort.js")
    expression = """(async () => {
      const { hearTones } = await import("./runtime/ort.js");
      const network = { about: value.about, recognize: async (samples) => hearTones(samples) };
      const stream = new SegmentStream(network), all = Float32Array.from(value.sound), messages = [];
      for (let i = 0; i < all.length; i += 3210) messages.push(...await stream.feed(all.subarray(i, i + 3210)));
      return [...messages, ...await stream.finish()];
    })()"""
    network = ToneNetwork(longest_seconds=8.0)
    labels = ["", *"ABCD "]
    about = {"rate": RATE_HZ, "labels": labels, "secondsPerFrame": 0.02, "longestSeconds": network.longest_seconds}
    value = {"about": about, "sound": sound.tolist()}
    found = run_node(tmp_path, "recognition.js", "SegmentStream", expression, value)
    stream = Recognizer(network).stream()
    events = [event for i in range(0, len(sound), 3210) for event in stream.feed(sound[i : i + 3210])]
    events += stream.finish()
    assert len(events) > 6
    assert found == [to_message(event) for event in events]
