import json
import random
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import ConfigError

pytest.importorskip("hibari", reason="synthetic English needs the extra [english]")
pytest.importorskip("ctranslate2", reason="synthetic English needs the extra [english]")
pytest.importorskip("whisper_normalizer", reason="synthetic English needs the extra [english]")

from recipes.english import speak as recipe
from recipes.english.listener import measure_disagreement
from recipes.english.speak import Cache, Settings, Speaker, speak
from recipes.english.voices import KOKORO_VOICES, HibariEngine, KokoroEngine, Request, SynthesisError, warp

DOWNLOADS = Path(__file__).resolve().parents[2] / "data" / "english" / "downloads"
SENTENCES = ["THE CAT SAT ON THE MAT", "AND THE DOG LOOKED ON", "NOBODY SAID A WORD", "IT WAS LATE"]
SETTINGS = Settings(1, "beeper", 1, "no text", 0.1)
TEXT = "The story I have to tell is strange and short."


class Beeper:
    """An engine that takes a tenth of a second a word, and knows one word too many."""

    name = "beeper"

    def __init__(self, stop_after: int = 10**9) -> None:
        self.num_spoken, self.stop_after = 0, stop_after

    def draw(self, text: str, index: int, rng: random.Random) -> Request:
        return Request(text, "beep", 1.0, 1.0, 1.0, 1.0, rng.randrange(2**31))

    def speak(self, request: Request) -> NDArray[np.float32]:
        if self.num_spoken == self.stop_after:
            raise KeyboardInterrupt
        if request.text.startswith("Nobody"):
            raise SynthesisError("speechless")
        self.num_spoken += 1
        noise = np.random.default_rng(request.seed).uniform(-0.1, 0.1, 1600 * len(request.text.split()))
        return noise.astype(np.float32)


class Echo:
    """A listener that understands something else where a clip has 3, 6, 9 ... words, and says nothing else."""

    def transcribe(self, clips: list[NDArray[np.float32]]) -> list[str]:
        return ["SOMETHING ELSE ALTOGETHER" if len(clip) // 1600 % 3 == 0 else "" for clip in clips]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "BLOCK_SIZE", 8)
    # The fake listener does not know the text: it is judged by what it says.
    monkeypatch.setattr(recipe, "measure_disagreement", lambda transcript, heard: 1.0 if heard else 0.0)


def make(folder: Path, engine: Beeper, hours: float = 30 / 3600) -> Cache:
    cache = Cache(folder, SETTINGS)
    speaker = Speaker(engine, Echo(), SENTENCES, cache, SETTINGS)  # type: ignore[arg-type]
    speak(speaker, cache, hours)
    return cache


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stop_after", [0, 7])
def test_speech_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path: Path, stop_after: int) -> None:
    make(tmp_path / "whole", Beeper())
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", Beeper(stop_after))
    survivor = Beeper()
    make(tmp_path / "killed", survivor)
    assert read_files(tmp_path / "killed") == read_files(tmp_path / "whole")
    num_clips = len(list((tmp_path / "whole").rglob("*.flac")))
    assert survivor.num_spoken == num_clips - stop_after  # nothing is said twice


def test_more_hours_add_to_fewer(tmp_path: Path) -> None:
    make(tmp_path / "grown", Beeper(), hours=10 / 3600)
    fewer = {u.id for u in read_manifest(tmp_path / "grown" / "manifest.jsonl")}
    make(tmp_path / "grown", Beeper(), hours=60 / 3600)
    assert fewer < {u.id for u in read_manifest(tmp_path / "grown" / "manifest.jsonl")}


def test_what_is_understood_otherwise_or_cannot_be_said_is_left_out_and_counted(tmp_path: Path) -> None:
    cache = make(tmp_path, Beeper())
    rows: list[dict[str, Any]] = [row for block in range(99) for row in cache.read_block(block) or []]
    kept = {u.id for u in read_manifest(tmp_path / "manifest.jsonl")}
    unspoken = {row["id"] for row in rows if row["transcript"].startswith("NOBODY")}
    misheard = {row["id"] for row in rows if row["id"] not in unspoken and round(row["duration_seconds"] * 10) % 3 == 0}
    assert unspoken
    assert misheard
    assert kept == {row["id"] for row in rows} - unspoken - misheard
    counts = json.loads((tmp_path / "statistics.json").read_text(encoding="utf-8"))
    assert counts["left_out_by_reason"] == {
        "cannot be spoken": len(unspoken),
        "understood otherwise": len(misheard),
    }
    assert counts["num_kept"] == len(kept)


def test_a_cache_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    make(tmp_path, Beeper())
    with pytest.raises(ConfigError, match="choose another --output"):
        Cache(tmp_path, Settings(1, "beeper", 2, "no text", 0.1))


def test_disagreement_is_about_sounds_and_not_spelling() -> None:
    assert measure_disagreement("MISTER DARCY'S COLOUR WAS TWENTY FIVE", "Mr. Darcy's color was 25.") == 0
    assert measure_disagreement("EVERY DAY", "Everyday.") == 0
    assert measure_disagreement("THE CAT SAT", "the cat said") == pytest.approx(2 / 9)
    assert measure_disagreement("THE CAT SAT", "") == 1


def hibari_says(**changes: float) -> NDArray[np.float32]:
    values = {"share": 1.0, "speed": 1.0, "pitch": 1.0, "formants": 1.0}
    return HibariEngine().speak(Request(TEXT, "hibari", seed=1, **{**values, **changes}))


def compare_pitch(speech: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How many times as high the other is: median over the frames in which both are voiced."""
    assert len(speech) == len(other)
    (pitch, voiced, _), (other_pitch, other_voiced, _) = (
        librosa.pyin(each, fmin=40, fmax=500, sr=16000) for each in (speech, other)
    )
    both = voiced & other_voiced
    assert both.sum() > 20
    return float(np.median(other_pitch[both] / pitch[both]))


def test_pitch_changes_alone() -> None:
    assert compare_pitch(hibari_says(), hibari_says(pitch=0.6)) == pytest.approx(0.6, rel=0.03)


def test_formants_change_and_pitch_does_not() -> None:
    usual, long_tract = hibari_says(), hibari_says(formants=0.8)
    assert compare_pitch(usual, long_tract) == pytest.approx(1, rel=0.03)
    centroids = [librosa.feature.spectral_centroid(y=speech, sr=16000).mean() for speech in (usual, long_tract)]
    assert centroids[1] < 0.93 * centroids[0]


def test_speed_changes_the_length() -> None:  # all but the silence at the ends
    assert len(hibari_says(speed=1.25)) == pytest.approx(len(hibari_says()) / 1.25, rel=0.08)


def test_the_same_request_gives_the_same_samples() -> None:
    np.testing.assert_array_equal(hibari_says(), hibari_says())


def test_warping_moves_a_peak_to_its_factor() -> None:
    spectrum = np.zeros((601, 2), np.float32)
    spectrum[200] = 1
    assert warp(spectrum, 1.2)[:, 0].argmax() == pytest.approx(240, abs=1)
    np.testing.assert_array_equal(warp(spectrum, 1.0), spectrum)


def test_voices_take_turns_and_blends_keep_their_accent() -> None:
    engine = KokoroEngine.__new__(KokoroEngine)  # drawing needs no weights
    requests = [engine.draw(TEXT, index, random.Random(index)) for index in range(2 * len(KOKORO_VOICES))]
    assert [request.voice.split("+")[0] for request in requests] == [*KOKORO_VOICES, *KOKORO_VOICES]
    blends = [request for request in requests if "+" in request.voice]
    assert 0.25 < len(blends) / len(requests) < 0.75
    for request in blends:
        first, second = request.voice.split("+")
        assert first != second
        assert first[0] == second[0]
        assert 0.4 <= request.share <= 0.7


def test_whisper_understands_both_engines(tmp_path: Path) -> None:
    if not (DOWNLOADS / "kokoro.onnx").exists() or not (DOWNLOADS / "whisper-tiny.en").exists():
        pytest.skip("the weights of voices and listener are not in data/english/downloads; speak.py fetches them")
    from recipes.english.downloads import find_kokoro, find_whisper
    from recipes.english.listener import Listener

    kokoro = KokoroEngine(*find_kokoro(DOWNLOADS))
    clips = [
        hibari_says(pitch=0.8, formants=0.95),
        kokoro.speak(Request(TEXT, "am_michael+am_puck", 0.5, 1.0, 1.0, 1.0, 1)),
    ]
    heard = Listener(find_whisper(DOWNLOADS)).transcribe(clips)
    assert [measure_disagreement(TEXT, text) for text in heard] == [0, 0]
    soundfile.write(tmp_path / "kokoro.flac", clips[1], 16000)
    assert 2 < soundfile.info(tmp_path / "kokoro.flac").duration < 5
