"""What a network hears in one utterance: its features, and beneath them the probabilities of the labels."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.text.tokenizer import Tokenizer

LEAST_PROBABILITY = 0.05
"""Labels that are never as likely have no row in the picture."""

COLOR_RANGE = (-2.0, 3.0)
"""Normalised features that are black and white, as in `mindaudio-ds2 show_augmentation`."""

MOST_STRIP_SECONDS = 6.0
"""A longer utterance is drawn in several strips below each other, so that single frames can be seen on paper."""

WIDTH_INCHES, SPECTROGRAM_INCHES, INCHES_PER_LABEL = 10.0, 1.8, 0.16
BLANK = "blank"


@dataclass(frozen=True, eq=False)
class Heard:
    """One utterance as the network takes and understands it.

    Attributes:
        features: (T, F) float32.
        probabilities: (S, V) float32; each row sums to 1.
        hypothesis: by greedy decoding.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    hypothesis: str


class Listener:
    """A checkpoint's network.

    Args:
        checkpoint_path: a checkpoint of ours.

    Raises:
        CheckpointError: it cannot be used.
    """

    def __init__(self, checkpoint_path: Path) -> None:
        from mindaudio_ds2.machine import runtime

        backend = runtime.start("CPU", 0, "auto")
        from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
        from mindaudio_ds2.model.deepspeech2 import Recognizer

        checkpoint = load_checkpoint(checkpoint_path)
        network = restore_network(checkpoint, str(checkpoint_path), backend)
        self.config: Config = checkpoint.config
        self._recognizer = Recognizer(network).prepare(self.config.features.num_bins)

    def hear(self, utterance: Utterance) -> Heard:
        """Recognise one utterance.

        Raises:
            AudioError, ManifestError: its audio cannot be used.
        """
        from mindspore import Tensor

        features = load_features(utterance, self.config.features, None)
        lengths = np.array([len(features)], dtype=np.int32)
        log_probs, lengths = self._recognizer.hear(Tensor(features[None]), Tensor(lengths), 1)
        tokenizer = Tokenizer(self.config.text)
        (hypothesis,) = decode_greedy(log_probs, lengths, tokenizer, self.config.seconds_per_output_frame)
        return Heard(features, np.exp(log_probs[0, : lengths[0]]), hypothesis.text)


def choose_labels(probabilities: NDArray[np.float32], blank_id: int) -> list[int]:
    """Labels that are anywhere likely enough to be seen, in the order of their ids, after them the blank."""
    likely = np.flatnonzero(probabilities.max(axis=0) >= LEAST_PROBABILITY)
    return [*(int(label) for label in likely if label != blank_id), blank_id]


def draw(heard: Heard, config: Config) -> Any:
    """A spectrogram above the probabilities of its labels, over the same seconds.

    Returns:
        A matplotlib `Figure`.

    Raises:
        OutputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise OutputError(f"drawing needs {error.name}; `pip install -e '.[plots]'` brings it") from error

    tokenizer = Tokenizer(config.text)
    labels = choose_labels(heard.probabilities, tokenizer.blank_id)
    names = [_name(tokenizer.symbols[label]) for label in labels]
    seconds = len(heard.features) * config.features.hop_seconds
    num_strips = math.ceil(seconds / MOST_STRIP_SECONDS)
    heights = [SPECTROGRAM_INCHES, max(1.0, INCHES_PER_LABEL * len(labels))]
    size = (WIDTH_INCHES, num_strips * (sum(heights) + 0.5))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2 * num_strips, 1, gridspec_kw={"height_ratios": heights * num_strips})
    low, high = COLOR_RANGE
    for strip, (above, below) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
        _show(above, heard.features.T, config.features.hop_seconds, cmap="magma", vmin=low, vmax=high, origin="lower")
        above.set_ylabel("bin")
        above.tick_params(labelbottom=False)
        shown = heard.probabilities[:, labels].T
        _show(below, shown, config.seconds_per_output_frame, cmap="Blues", vmin=0, vmax=1, origin="upper")
        below.set_yticks(np.arange(len(labels)) + 0.5, names, fontsize=7, parse_math=False)
        below.set_ylabel("probability of a label")
        for axis in (above, below):
            axis.set_xlim(strip * seconds / num_strips, (strip + 1) * seconds / num_strips)
    axes[-1].set_xlabel("seconds")
    return figure


def _show(axis: Any, image: NDArray[np.float32], frame_seconds: float, *, origin: str, **style: Any) -> None:
    """Frame t stands around the time t * frame_seconds."""
    num_rows, num_frames = image.shape
    rows = (0, num_rows) if origin == "lower" else (num_rows, 0)
    extent = (-frame_seconds / 2, (num_frames - 0.5) * frame_seconds, *rows)
    axis.imshow(image, origin=origin, aspect="auto", extent=extent, interpolation="nearest", **style)


def _name(symbol: str) -> str:
    return {"": BLANK, " ": "space"}.get(symbol, symbol)
