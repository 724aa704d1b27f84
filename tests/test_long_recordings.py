"""Recordings longer than anything in the training set, from the file to the words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio import decoding
from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.errors import AudioError, ConfigError
from mindaudio_ds2.segmentation import sources
from mindaudio_ds2.segmentation.detectors import EnergyDetector
from mindaudio_ds2.segmentation.sources import Hearing, Samples
from mindaudio_ds2.transcribe import Recognizer
from mindaudio_ds2.transcript_formats import as_json
from mindaudio_ds2.transcription import Transcription
from tests.tiny_corpus import RATE_HZ, draw_transcript, speak
from tests.tone_network import ToneNetwork

Load = Callable[..., Any]


@pytest.fixture
def load() -> Load:
    """Makes a `Recognizer` whose network has learnt from up to 1.6 s."""

    def make(vad: str = "energy", channels: Any = "mix", choice: DecoderChoice | None = None) -> Any:
        return Recognizer(ToneNetwork(1.6), choice, Hearing(vad, channels))

    return make


def hush(seconds: float, seed: int = 0) -> NDArray[np.float64]:
    noise: NDArray[np.float64] = 0.003 * np.random.default_rng((seed, 1)).standard_normal(round(seconds * RATE_HZ))
    return noise


def talk(count: int, first: int = 5000) -> tuple[NDArray[np.float64], str]:
    """Utterances with pauses between them, and their words, without double letters, which are one tone."""
    said = [re.sub(r"(.)\1+", r"\1", draw_transcript(seed)) for seed in range(first, first + count)]
    parts = [hush(1.0)]
    for number, transcript in enumerate(said):
        parts += [speak(transcript, seed=first + number), hush(0.7 + 0.2 * (number % 4), number)]
    return np.concatenate(parts), " ".join(" ".join(said).split())


def test_less_than_anybody_says_is_silence(load: Load) -> None:
    found = load().transcribe(np.full(1, 0.5, np.float32), RATE_HZ)
    assert found.text == ""
    assert (len(found.recognized), len(found.silences)) == (0, 1)
    assert "no speech was found" in found.notes[-1]


@pytest.mark.parametrize("vad", ["energy", "none"])
@pytest.mark.parametrize("seconds", [0.01, 1.0, 1.5, 1.7, 60.0])
@pytest.mark.parametrize("value", [0.0, 0.001, 0.5])
def test_digital_silence_never_reaches_the_network(
    load: Load, tmp_path: Path, vad: str, seconds: float, value: float
) -> None:
    recognizer = load(vad)
    waveform = np.full(round(2 * seconds * RATE_HZ), value, np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, 2 * RATE_HZ)
    for source in (tmp_path / "a.wav", Samples(waveform, 2 * RATE_HZ)):
        (found,) = recognizer.transcribe([source])
        assert (found.problem, found.text, found.words, found.recognized) == ("", "", (), ())
        assert found.silences[0].start_seconds == 0
        assert found.silences[-1].end_seconds == pytest.approx(seconds)
        assert sum("no speech was found in it" in note for note in found.notes) == 1
    assert recognizer.network.num_batches == 0


def test_a_silent_channel_is_named_and_many_share_a_line(load: Load, tmp_path: Path) -> None:
    call = np.zeros((RATE_HZ, 6))
    soundfile.write(tmp_path / "none.wav", call, RATE_HZ)
    said = speak("BAD", seed=1)[:RATE_HZ]
    call[: len(said), 1] = said
    soundfile.write(tmp_path / "call.wav", call, RATE_HZ)

    def say(name: str, channels: Any) -> list[str]:
        notes = load(channels=channels).run([tmp_path / name]).notes
        return [note.rpartition(" found in ")[2] for note in notes if "no speech" in note]

    assert say("call.wav", "split") == ["channels 1, 3-6"]
    assert say("call.wav", 2) == say("call.wav", "mix") == []
    assert say("call.wav", 3) == ["channel 3"]
    assert say("none.wav", "split") == say("none.wav", "mix") == ["it"]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silero hears 16 kHz only; the tests' network hears 8."""
    monkeypatch.setitem(sources.DETECTORS, "silero", EnergyDetector)


@pytest.mark.usefixtures("stand_in")
def test_silero_finds_the_speech_in_short_recordings_too(load: Load) -> None:
    sound = np.concatenate([hush(0.7), speak("BAD", seed=1), hush(0.4, 1)])[: round(1.5 * RATE_HZ)]
    (whole,) = load().transcribe([Samples(sound, RATE_HZ)])
    (found,) = load("silero").transcribe([Samples(sound, RATE_HZ)])
    assert whole.silences == ()
    assert found.text == whole.text == "BAD"
    assert found.silences[0].start_seconds == 0
    assert 0.2 < found.recognized[0].start_seconds <= found.words[0].start_seconds
    assert found.words[0].start_seconds == pytest.approx(whole.words[0].start_seconds, abs=0.05)
    require_every_second(found)


@pytest.mark.usefixtures("stand_in")
def test_the_next_best_of_a_single_segment_have_their_times_in_the_recording(load: Load) -> None:
    sound = np.concatenate([hush(0.7), speak("BAD", seed=1), hush(0.4, 1)])[: round(1.5 * RATE_HZ)]
    recognizer = load("silero", choice=DecoderChoice("beam", BeamSettings(num_best=3)))
    recognizer.network.is_unsure = True
    found = recognizer.transcribe(sound, RATE_HZ)
    assert len(found.recognized) == 1
    assert len(found.others) == 2
    for other in found.others:
        assert other.words[0].start_seconds == pytest.approx(found.words[0].start_seconds, abs=0.1)


def require_every_second(found: Transcription) -> None:
    """What was recognised and the silences hold all of the recording, and share nothing."""
    spans = sorted([*found.recognized, *found.silences])
    assert spans[0].start_seconds == 0
    assert spans[-1].end_seconds == pytest.approx(found.duration_seconds, abs=1e-4)
    for one, other in zip(spans[:-1], spans[1:], strict=True):
        assert one.end_seconds == other.start_seconds


def test_a_checkpoint_knows_the_longest_recording_that_it_was_trained_on(learned_run: Path) -> None:
    from mindaudio_ds2.checkpoint import Checkpoint, find_longest_seconds, load_checkpoint
    from mindaudio_ds2.corpus.manifest import read_manifest
    from mindaudio_ds2.recognition import CheckpointNetwork

    checkpoint = load_checkpoint(learned_run / "last.ckpt")
    durations = [each.duration_seconds for each in read_manifest(checkpoint.config.data.train_manifest)]
    assert (
        CheckpointNetwork(learned_run / "last.ckpt").longest_seconds
        == find_longest_seconds(checkpoint)
        == max(durations)
    )
    older = Checkpoint(checkpoint.config, checkpoint.weights)
    assert find_longest_seconds(older) == checkpoint.config.data.max_duration_seconds


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_the_words_of_a_long_recording_are_those_of_its_parts(load: Load, tmp_path: Path, kind: str) -> None:
    waveform, text = talk(30)
    soundfile.write(tmp_path / "talk.wav", waveform, RATE_HZ)
    found = load(choice=DecoderChoice(kind)).transcribe(tmp_path / "talk.wav")
    assert found.text == text
    assert len(found.recognized) >= 25
    assert len(found.silences) >= 25
    require_every_second(found)
    starts = [word.start_seconds for word in found.words]
    assert starts == sorted(starts)
    for word in found.words:
        assert any(span.start_seconds <= word.start_seconds < span.end_seconds for span in found.recognized)


def test_blocks_of_any_size_give_the_same_words_at_the_same_times(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "talk.flac", talk(12)[0], RATE_HZ)
    found = []
    for size in (1 << 20, 5000, 333):
        monkeypatch.setattr(decoding, "BLOCK_SAMPLES", size)
        found.append(load().transcribe(tmp_path / "talk.flac"))
    assert found[0] == found[1] == found[2]


def test_samples_are_cut_like_their_file(load: Load, tmp_path: Path) -> None:
    waveform = talk(8)[0].astype(np.float32)
    soundfile.write(tmp_path / "talk.wav", waveform, RATE_HZ, subtype="FLOAT")
    file, samples = load().transcribe([tmp_path / "talk.wav", Samples(waveform, RATE_HZ)])
    assert (file.words, file.recognized, file.silences) == (samples.words, samples.recognized, samples.silences)


def test_segments_of_many_recordings_share_batches(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for number in range(3):
        waveform, text = talk(6, first=6000 + 100 * number)
        soundfile.write(tmp_path / f"{number}.wav", waveform, RATE_HZ)
        texts.append(text)
    recognizer = load()
    together = recognizer.transcribe([tmp_path])
    sizes = recognizer.network.batch_sizes
    assert sum(sizes) == sum(len(each.recognized) for each in together)
    assert len(sizes) <= 3, "18 segments, of which 16 at most share a batch"
    alone = [recognizer.transcribe(tmp_path / f"{number}.wav") for number in range(3)]
    assert [each.text for each in together] == [each.text for each in alone]
    for text, each in zip(texts, together, strict=True):
        assert each.text == text


def test_without_cutting_a_long_recording_is_heard_whole_with_a_warning(load: Load, tmp_path: Path) -> None:
    waveform = talk(4)[0]
    soundfile.write(tmp_path / "talk.wav", waveform, RATE_HZ)
    found = load("none").transcribe(tmp_path / "talk.wav")
    assert found.recognized == ((0, len(waveform) / RATE_HZ),)
    assert found.silences == ()
    assert any("has learnt from up to" in note and "talk.wav" in note for note in found.notes)
    short = speak("BAD", seed=1)
    assert load("none").transcribe(short, RATE_HZ).notes == ()


def test_two_sides_of_a_call_are_heard_apart(load: Load, tmp_path: Path) -> None:
    (one, first), (other, second) = talk(6), talk(6, first=7000)
    length = max(len(one), len(other))
    call = np.stack([np.pad(each, (0, length - len(each))) for each in (one, other)], axis=1)
    soundfile.write(tmp_path / "call.wav", call, RATE_HZ)
    left, right = load(channels="split").transcribe([tmp_path / "call.wav"])
    assert (left.channel, right.channel) == (1, 2)
    assert (left.text, right.text) == (first, second)
    (only,) = load(channels=2).transcribe([tmp_path / "call.wav"])
    assert (only.channel, only.text) == (2, right.text)
    with pytest.raises(AudioError, match="2 channels to hear apart"):
        load(channels="split").transcribe(tmp_path / "call.wav")
    with pytest.raises(AudioError, match="number 3 is asked for"):
        load(channels=3).transcribe(tmp_path / "call.wav")
    assert load(channels="split").run([tmp_path / "call.wav"]).audio_seconds == length / RATE_HZ


def test_three_hours_of_silence_are_a_listed_silence_and_a_note(load: Load, tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "silence.flac", "w", RATE_HZ, 1) as file:
        for _ in range(3):
            file.write(np.zeros(3600 * RATE_HZ, np.int16))
    found = load().transcribe(tmp_path / "silence.flac")
    assert (found.text, found.words, found.recognized) == ("", (), ())
    (row,) = json.loads(as_json([found]))
    assert row["silences"] == [{"start_seconds": 0, "end_seconds": 10800}]
    assert any("only zeros" in note for note in found.notes)
    assert any("no speech" in note for note in found.notes)


def test_music_alone_is_recognised_to_its_end(load: Load, tmp_path: Path) -> None:
    times = np.arange(20 * RATE_HZ) / RATE_HZ
    tones = 220 * 2 ** ((times * 3).astype(int) % 12 / 12)
    soundfile.write(
        tmp_path / "music.wav", 0.3 * np.sin(2 * np.pi * tones * times) * np.exp(-6 * (times % (1 / 3))), RATE_HZ
    )
    found = load().transcribe(tmp_path / "music.wav")
    require_every_second(found)
    assert sum(end - start for start, end in found.recognized) > 19


def test_eight_channels_at_96_khz_are_heard_together_and_apart(load: Load, tmp_path: Path) -> None:
    waveform = np.concatenate([speak("BAD CAB", seed=5, rate_hz=96000), np.zeros(3 * 96000)])
    soundfile.write(tmp_path / "a.wav", np.repeat(waveform[:, None], 8, axis=1), 96000, subtype="PCM_24")
    assert load().transcribe(tmp_path / "a.wav").text == "BAD CAB"
    apart = load(channels="split").transcribe([tmp_path / "a.wav"])
    assert [(each.channel, each.text) for each in apart] == [(number, "BAD CAB") for number in range(1, 9)]


def test_a_long_recording_that_ends_in_the_middle_is_a_problem_and_the_others_go_on(load: Load, tmp_path: Path) -> None:
    for name in ("a.flac", "b.flac"):
        soundfile.write(tmp_path / name, talk(4)[0], RATE_HZ)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    bad, good = load().transcribe([tmp_path])
    assert "cut off" in bad.problem
    assert good.text


def test_a_detector_that_cannot_work_is_an_error_before_anything_is_read(load: Load) -> None:
    with pytest.raises(ConfigError, match="8000"):
        load("silero")
    with pytest.raises(ConfigError, match="energy, silero, none"):
        load("loudness")
