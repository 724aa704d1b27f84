"""The voices: Kokoro-82M with 28 English styles and their blends, and hibari with other pitches and vocal tracts.

Both speak misaki's phonemes, which hibari's own lexicons give (Apache-2.0), American and British. Kokoro's weights are
two downloads, see `downloads.py`; hibari's are in its wheel.
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from mindaudio_ds2.errors import DeepSpeechError
from recipes.english.downloads import need

SAMPLE_RATE_HZ = 16000
VOICE_RATE_HZ = 24000
KOKORO_VOICES = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river"),
    *("af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx"),
    *("am_puck", "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george"),
    "bm_lewis",
)
"""The first letter is the accent (American, British), the second the sex."""

BLEND_PROBABILITY = 0.5
KOKORO_SPEED = (0.8, 1.2)
HIBARI_SPEED = (0.8, 1.25)
HIBARI_PITCH = (0.5, 1.3)
"""Factors of the voice's own pitch, about 200 Hz: from a low man's to a child's."""
FORMANT_SLACK = 0.08
MOST_TOKENS = 500


class SynthesisError(DeepSpeechError):
    """A voice is missing or cannot say a text. Says what to install, or which text."""


@dataclass(frozen=True)
class Request:
    """How one utterance is spoken, drawn from its seed.

    Attributes:
        text: with punctuation.
        voice: a Kokoro style, two of them joined by `+`, or `hibari`.
        share: of the first style in a blend (0 to 1).
        speed: factor of the voice's own.
        pitch: factor of the voice's own; hibari only.
        formants: factor of its resonances; hibari only.
        seed: of breath noise.
    """

    text: str
    voice: str
    share: float
    speed: float
    pitch: float
    formants: float
    seed: int

    def to_row(self) -> dict[str, Any]:
        """For the record of a block."""
        return asdict(self)


class Engine(Protocol):
    """Draws how a text is said, and says it."""

    name: str

    def draw(self, text: str, index: int, rng: random.Random) -> Request:
        """How utterance `index` is said."""

    def speak(self, request: Request) -> NDArray[np.float32]:
        """`(num_samples,)` float32 at `SAMPLE_RATE_HZ`."""


class KokoroEngine:
    """Kokoro-82M, int8, in onnxruntime with one thread.

    Args:
        model: the ONNX file.
        styles: folder of `<voice>.bin`, float32 (510, 1, 256): a style for each number of tokens.
    """

    name = "kokoro"

    def __init__(self, model: Path, styles: Path) -> None:
        self._session = open_session(model)
        self._styles = {voice: _read_style(styles / f"{voice}.bin") for voice in KOKORO_VOICES}
        to_phonemes = need("hibari.g2p").G2P
        self._phonemes = {"a": to_phonemes(), "b": to_phonemes(british=True)}
        self._vocabulary: dict[str, int] = need("hibari").Hibari().vocab  # Kokoro's own, see hibari's NOTICE

    def draw(self, text: str, index: int, rng: random.Random) -> Request:
        """The voices take turns; every other one is blended with another of its accent."""
        voice, share = KOKORO_VOICES[index % len(KOKORO_VOICES)], 1.0
        if rng.random() < BLEND_PROBABILITY:
            others = [other for other in KOKORO_VOICES if other[0] == voice[0] and other != voice]
            voice, share = f"{voice}+{rng.choice(others)}", round(rng.uniform(0.4, 0.7), 3)
        speed = round(rng.uniform(*KOKORO_SPEED), 3)
        return Request(text, voice, share, speed, 1.0, 1.0, rng.randrange(2**31))

    def speak(self, request: Request) -> NDArray[np.float32]:
        """See `Engine`.

        Raises:
            SynthesisError: the text has more than `MOST_TOKENS` phonemes, or none.
        """
        first, _, second = request.voice.partition("+")
        phonemes = self._phonemes[first[0]](request.text)
        tokens = [self._vocabulary[symbol] for symbol in phonemes if symbol in self._vocabulary]
        if not 0 < len(tokens) <= MOST_TOKENS:
            raise SynthesisError(f"{request.text!r} has {len(tokens)} phonemes; Kokoro takes 1 to {MOST_TOKENS}")
        style = self._styles[first][len(tokens)]
        if second:
            style = request.share * style + (1 - request.share) * self._styles[second][len(tokens)]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style.astype(np.float32),
            "speed": np.array([request.speed], np.float32),
        }
        (speech,) = self._session.run(None, inputs)
        return _resample(np.asarray(speech, np.float32))


class HibariEngine:
    """hibari's one voice made many: its vocoder is a source and a filter, and both are changed before they meet."""

    name = "hibari"

    def __init__(self) -> None:
        self._voice = need("hibari").Hibari()

    def draw(self, text: str, index: int, rng: random.Random) -> Request:
        """Pitch by chance, evenly in semitones; the vocal tract goes along as far as it does between people."""
        low, high = np.log(HIBARI_PITCH)
        pitch = float(np.exp(rng.uniform(low, high)))
        formants = pitch**0.25 * rng.uniform(1 - FORMANT_SLACK, 1 + FORMANT_SLACK)  # men: half the pitch, 16 % lower
        speed = round(rng.uniform(*HIBARI_SPEED), 3)
        return Request(text, "hibari", 1.0, speed, round(pitch, 3), round(formants, 3), rng.randrange(2**31))

    def speak(self, request: Request) -> NDArray[np.float32]:
        """See `Engine`."""
        rng = np.random.default_rng(request.seed)
        parts = [self._speak_sentence(phonemes, request, rng) for phonemes in self._voice.phonemize(request.text)]
        if not parts:
            raise SynthesisError(f"hibari says nothing for {request.text!r}")
        return _resample(np.concatenate(parts))

    def _speak_sentence(self, phonemes: str, request: Request, rng: np.random.Generator) -> NDArray[np.float32]:
        ids = np.asarray([self._voice.ids(phonemes)], np.int64)
        outputs = self._voice.sess.run(None, {"ids": ids, "speed": np.asarray([request.speed], np.float32)})
        *spectra, pitch = (output[0] for output in outputs)
        warped = [warp(spectrum, request.formants) for spectrum in spectra]
        speech: NDArray[np.float32] = need("hibari.dsp").synth(*warped, pitch * request.pitch, rng)
        return speech


def warp(spectrum: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Move what stands at frequency f to `factor` f, in `(num_bins, num_frames)`; the top is held where none is."""
    bins = np.minimum(np.rint(np.arange(len(spectrum)) / factor).astype(int), len(spectrum) - 1)
    return np.ascontiguousarray(spectrum[bins])


def open_session(model: Path) -> Any:
    """An onnxruntime session with one thread."""
    onnxruntime = need("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _read_style(path: Path) -> NDArray[np.float32]:
    return np.fromfile(path, np.float32).reshape(-1, 1, 256)


def _resample(speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 16 kHz, and to a peak of at most 0.9."""
    resampled: NDArray[np.float32] = soxr.resample(speech, VOICE_RATE_HZ, SAMPLE_RATE_HZ).astype(np.float32)
    return resampled * min(1.0, 0.9 / max(float(np.abs(resampled).max()), 1e-9))
