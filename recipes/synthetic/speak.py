"""The speaking half of the built-in corpus: a worker process that turns requests into FLAC files.

eSpeak NG seeds its noise by the clock and carries a hidden state from one utterance to the next, so the same text
sounds a little different every time. A fresh process that seeds the noise itself and speaks the same requests in the
same order, however, repeats every sample. That is why `prepare.py` starts this file once for every block of utterances.
It reads a JSON list of requests from standard input.
"""

import ctypes
import json
import sys
from dataclasses import dataclass
from typing import Any

import espeakng_loader
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16000

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS, _DO_NOT_EXIT = 2, 1 << 15
_TEXT_IS_UTF8, _TEXT_HOLDS_PHONEMES = 1, 0x100
_RATE, _PITCH, _WORD_GAP = 1, 3, 7
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Request:
    """One utterance to speak.

    Attributes:
        path: the FLAC file to write, 16 kHz, 16 bit.
        text: what to say; `[[…]]` holds eSpeak phonemes.
        voice: accent and variant, such as `en-us+f2`.
        words_per_minute: speed.
        pitch: 0 to 100; 50 is the variant's own.
        word_gap_10ms: pause between words, in units of 10 ms.
        lead_seconds: pause before the speech.
        tail_seconds: pause after the speech.
        peak: largest sample of the speech; full scale is 1.
        signal_to_noise_db: level of the speech above the white noise that is laid under all of it.
        seed: where the breath of the voice and the noise come from; 1 to 2**31 - 2.
    """

    path: str
    text: str
    voice: str
    words_per_minute: int
    pitch: int
    word_gap_10ms: int
    lead_seconds: float
    tail_seconds: float
    peak: float
    signal_to_noise_db: float
    seed: int


class Synthesizer:
    """eSpeak NG, loaded once in this process."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[np.int16]] = []
        self._receive = _CALLBACK(self._keep_chunk)  # held, for ctypes does not keep it alive
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
        self.sample_rate_hz = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data_path, _DO_NOT_EXIT)
        if self.sample_rate_hz <= 0:
            raise RuntimeError(f"eSpeak NG cannot start from {espeakng_loader.get_data_path()}")
        self._library.espeak_SetSynthCallback(self._receive)

    def _keep_chunk(self, samples: Any, num_samples: int, events: Any) -> int:
        if num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        return 0

    def speak(self, request: Request) -> NDArray[np.float32]:
        """The bare speech as `(num_samples,)` float32 in [-1, 1], at `sample_rate_hz`."""
        self._chunks.clear()
        if self._library.espeak_SetVoiceByName(request.voice.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {request.voice!r}")
        for parameter, value in (
            (_RATE, request.words_per_minute),
            (_PITCH, request.pitch),
            (_WORD_GAP, request.word_gap_10ms),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(request.seed))
        text = request.text.encode() + b"\0"
        flags = _TEXT_IS_UTF8 | _TEXT_HOLDS_PHONEMES
        if self._library.espeak_Synth(text, len(text), 0, 0, 0, flags, None, None) != 0 or not self._chunks:
            raise RuntimeError(f"eSpeak NG says nothing for {request.text!r} with voice {request.voice!r}")
        return np.concatenate(self._chunks).astype(np.float32) / 32768


def render(request: Request, speech: NDArray[np.float32], rate_hz: int) -> NDArray[np.int16]:
    """Set the bare speech into its recording: rate, level, pauses and noise. Returns `(num_samples,)` int16."""
    speech = soxr.resample(speech, rate_hz, SAMPLE_RATE_HZ)
    speech = speech * (request.peak / np.abs(speech).max())
    noise_level = np.sqrt(np.mean(speech**2)) * 10 ** (-request.signal_to_noise_db / 20)
    pauses = (round(request.lead_seconds * SAMPLE_RATE_HZ), round(request.tail_seconds * SAMPLE_RATE_HZ))
    recording = np.pad(speech, pauses)
    recording = recording + noise_level * np.random.default_rng(request.seed).standard_normal(len(recording))
    samples: NDArray[np.int16] = np.clip(np.rint(recording * 32767), -32767, 32767).astype(np.int16)
    return samples


def main() -> None:
    """Speak all requests, in order."""
    synthesizer = Synthesizer()
    for row in json.load(sys.stdin):
        request = Request(**row)
        samples = render(request, synthesizer.speak(request), synthesizer.sample_rate_hz)
        soundfile.write(request.path, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")


if __name__ == "__main__":
    main()
