"""Whisper tiny.en listens to synthetic speech: what it understands otherwise than written was said badly, or misread.

Whisper always hears half a minute. Here the window is only as long as a batch of clips needs, which gives the same text
in a third of the time; five seconds of silence at the end keep it from saying everything twice.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
from numpy.typing import NDArray

from recipes.english.downloads import need

FRAMES_A_SECOND = 100
SILENCE_FRAMES = 500
SHORTEST_WINDOW_FRAMES, LONGEST_WINDOW_FRAMES = 1000, 3000
BATCH_SIZE = 8
MOST_TOKENS = 120


class Listener:
    """Whisper tiny.en in CTranslate2, int8, one thread.

    Args:
        model: folder of the converted weights (`model.bin`, `tokenizer.json`).
    """

    def __init__(self, model: Path) -> None:
        models = need("ctranslate2").models
        self._whisper = models.Whisper(str(model), device="cpu", compute_type="int8", intra_threads=1)
        self._extractor = need("faster_whisper.feature_extractor").FeatureExtractor()
        tokens = need("tokenizers").Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer = need("faster_whisper.tokenizer").Tokenizer(tokens, False)

    def transcribe(self, clips: Sequence[NDArray[np.float32]]) -> list[str]:
        """What is understood of each clip of 16 kHz, at most 25 s long."""
        features = [self._extractor(clip) for clip in clips]
        order = sorted(range(len(clips)), key=lambda place: features[place].shape[1])
        texts = [""] * len(clips)
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            for place, text in zip(places, self._transcribe_batch([features[p] for p in places]), strict=True):
                texts[place] = text
        return texts

    def _transcribe_batch(self, features: Sequence[NDArray[np.float32]]) -> list[str]:
        longest = max(one.shape[1] for one in features) + SILENCE_FRAMES
        num_frames = min(max(longest, SHORTEST_WINDOW_FRAMES), LONGEST_WINDOW_FRAMES)
        window = np.stack([_pad(one[:, :num_frames], num_frames) for one in features])
        encoded = self._whisper.encode(need("ctranslate2").StorageView.from_array(window))
        prompt = [self._tokenizer.sot, self._tokenizer.no_timestamps]
        results = self._whisper.generate(encoded, [prompt] * len(features), beam_size=1, max_length=MOST_TOKENS)
        texts: list[str] = [self._tokenizer.decode(result.sequences_ids[0]).strip() for result in results]
        return texts


def _pad(features: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    missing = num_frames - features.shape[1]
    return np.pad(features, ((0, 0), (0, missing)), constant_values=features.min()).astype(np.float32)


@cache
def _load_normalizer() -> Callable[[str], str]:
    normalizer: Callable[[str], str] = need("whisper_normalizer.english").EnglishTextNormalizer()
    return normalizer


def normalize(text: str) -> str:
    """Whisper's own normalisation of English: numbers, spelling, contractions, titles and punctuation made alike."""
    return _load_normalizer()(text)


def measure_disagreement(transcript: str, heard: str) -> float:
    """Character errors by characters of the transcript, both normalised and without spaces (a fraction)."""
    reference, hypothesis = (normalize(text).replace(" ", "") for text in (transcript, heard))
    return float(jiwer.cer(reference, hypothesis)) if reference else float(bool(hypothesis))
