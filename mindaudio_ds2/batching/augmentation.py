"""What is done to each utterance of a training set in an epoch, drawn from seed, epoch and utterance alone."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.augment import (
    Draw,
    Waveform,
    add_noise,
    change_gain,
    change_speed,
    draw_augmentation,
    make_generator,
    reverberate,
    shift_later,
)
from mindaudio_ds2.audio.sound_pool import SoundPool
from mindaudio_ds2.audio.spec_augment import mask_features, warp_frequency, warp_time
from mindaudio_ds2.batching.plan import count_frames_to_align
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance

WaveformChange = Callable[[Waveform], Waveform]
"""From a waveform (num_samples,) to another, of another length."""

FeatureChange = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From features (T, F) to others of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What is done to one utterance in one epoch.

    Attributes:
        waveform: before features are computed; None where the recording stays as it is.
        views: afterwards, to a copy each: one, or two where the network is to be consistent about them.
    """

    waveform: WaveformChange | None
    views: tuple[FeatureChange, ...]


UNCHANGED = Changes(None, (lambda features: features,))
"""An utterance as it is."""


class Augmenter:
    """Draws and makes the changes to training utterances.

    Args:
        config: the whole run.
        utterances: that are trained on.
        labels: (L,) int32 for each of them.

    Raises:
        ConfigError, ManifestError, AudioError: `augmentation.rir_path` or `noise_path` cannot be used, see `SoundPool`.
    """

    def __init__(self, config: Config, utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]]) -> None:
        assert len(utterances) == len(labels)
        self.config = config
        self.utterances = utterances
        self.labels = labels
        rate_hz, augmentation = config.features.sample_rate_hz, config.augmentation
        self.rirs = SoundPool(augmentation.rir_path, rate_hz, "augmentation.rir_path")
        self.noises = SoundPool(augmentation.noise_path, rate_hz, "augmentation.noise_path")

    def draw(self, epoch: int, index: int, view: int = 0) -> Draw:
        """What happens to an utterance in an epoch; the same whenever it is asked.

        Args:
            epoch: counts from 0.
            index: position of the utterance.
            view: 0, or 1 for the second one, which differs in vocal tract length and masks. Its words are said in the
                same frames, and its recording is not changed once more.
        """
        draw = self._draw_freely(epoch, index, 0)
        if view:
            other = self._draw_freely(epoch, index, view)
            draw = dataclasses.replace(draw, vtlp=other.vtlp, is_masked=other.is_masked)
        return draw if self.fits(index, draw.speed) else dataclasses.replace(draw, speed=1.0)

    def _draw_freely(self, epoch: int, index: int, view: int) -> Draw:
        generator = self._make_generator(epoch, index, view)
        return draw_augmentation(self.config.augmentation, generator, len(self.rirs), len(self.noises))

    def fits(self, index: int, speed: float) -> bool:
        """Whether CTC can still align an utterance's labels when it is said faster by a factor."""
        if speed <= 1:  # the utterance is trained on, so its labels fit
            return True
        num_frames = self.config.features.num_frames(self.utterances[index].duration_seconds / speed)
        return self.config.model.num_output_frames(num_frames) >= count_frames_to_align(self.labels[index])

    def make_changes(self, epoch: int, index: int) -> Changes:
        """What `draw` says, ready to be done.

        Args:
            epoch: counts from 0.
            index: position of the utterance.
        """
        draw = self.draw(epoch, index)
        return Changes(
            waveform=(lambda waveform: self.change_waveform(waveform, draw)) if draw.changes_waveform else None,
            views=tuple(
                partial(self.change_features, draw=self.draw(epoch, index, view), epoch=epoch, index=index, view=view)
                for view in range(self.config.training.num_views)
            ),
        )

    def change_waveform(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Do what was drawn to a recording, in the order of nature: a voice, in a room, with noise, at a microphone.

        Args:
            waveform: (num_samples,) float32 at the rate of the features.
            draw: what to do.

        Returns:
            Another waveform, float32; its samples may exceed 1, because features need no limit.

        Raises:
            AudioError: a file of noise or of an impulse response cannot be used.
        """
        rate_hz = self.config.features.sample_rate_hz
        if draw.speed != 1:
            waveform = change_speed(waveform, draw.speed, rate_hz)
        if draw.shift_seconds:
            waveform = shift_later(waveform, round(draw.shift_seconds * rate_hz), rate_hz)
        if draw.rir is not None:
            waveform = reverberate(waveform, self.rirs.read(draw.rir))
        if draw.noise:
            waveform = add_noise(waveform, self.noises.read(draw.noise.index), draw.noise.place, draw.noise.snr_db)
        if draw.gain_db:
            waveform = change_gain(waveform, draw.gain_db)
        return waveform

    def change_features(
        self, features: NDArray[np.float32], draw: Draw, epoch: int, index: int, view: int = 0
    ) -> NDArray[np.float32]:
        """Do what was drawn to features.

        Args:
            features: (T, F) float32.
            draw: what to do.
            epoch, index, view: whose masks; their sizes and places are drawn here.

        Returns:
            (T, F) float32; the features themselves where nothing is done.
        """
        if draw.vtlp != 1:
            features = warp_frequency(features, draw.vtlp, self.config.features)
        if draw.time_warp:
            features = warp_time(features, draw.time_warp)
        if draw.is_masked:
            features = mask_features(features, self.config.augmentation, self._make_generator(epoch, index, view))
        return features

    def describe(self) -> str:
        """One line for the log: what happens to which share of the utterances, and what limits it."""
        config = self.config.augmentation
        num_frequency_masks = config.num_frequency_masks * (config.max_frequency_mask_share > 0)
        num_time_masks = config.num_time_masks * (config.max_time_mask_share > 0)
        num_masks, masks = num_frequency_masks + num_time_masks, f"{num_frequency_masks} + {num_time_masks}"
        parts = [
            _describe("speed", config.speed_probability, "{:g} to {:g}".format(*config.speed_range)),
            _describe("shift", config.shift_probability, f"up to {config.max_shift_seconds:g} s"),
            _describe("rooms", config.rir_probability * bool(self.rirs), f"{len(self.rirs)} impulse responses"),
            _describe("noise", config.noise_probability * bool(self.noises), self._describe_noise()),
            _describe("gain", config.gain_probability, "{:g} to {:g} dB".format(*config.gain_range_db)),
            _describe("vocal tract", config.vtlp_probability, "{:g} to {:g}".format(*config.vtlp_range)),
            _describe("time warp", config.time_warp_probability, f"up to {config.max_time_warp_share:g}"),
            _describe("masks", config.mask_probability * bool(num_masks), masks),
        ]
        fastest = config.speed_range[1]
        num_dense = sum(not self.fits(index, fastest) for index in range(len(self.utterances)))
        if config.speed_probability and num_dense:
            parts.append(f"{num_dense} utterances with too many labels for {fastest:g} keep their speed")
        return ", ".join(part for part in parts if part) or "none"

    def _describe_noise(self) -> str:
        low, high = self.config.augmentation.noise_snr_range_db
        return f"{len(self.noises)} files, {sum(self.noises.durations) / 60:.1f} min, {low:g} to {high:g} dB"

    def _make_generator(self, epoch: int, index: int, view: int) -> np.random.Generator:
        return make_generator(self.config.seed, epoch, self.utterances[index].id, view)


def draw_dropout(config: Config, epoch: int, utterance_ids: Sequence[str], num_rows: int) -> NDArray[np.float32]:
    """Draw dropout between recurrent layers: the factors of their outputs, the same for all frames of an utterance.

    An utterance's factors depend on seed, epoch and its id alone; so neither a resume, nor another batch around it, nor
    the number of processes changes them. Its second view has factors of its own.

    Args:
        config: number and size of the layers, the share that is dropped, the seed, and how many views there are.
        epoch: counts from 0.
        utterance_ids: of the utterances of the batch.
        num_rows: B, of which those beyond the utterances of each view are empty.

    Returns:
        (N, B, H) float32 for N layers: 0 with the probability `rnn_dropout`, else 1 / (1 - rnn_dropout); zeros in empty
        rows.
    """
    model, num_views = config.model, config.training.num_views
    shape = (model.rnn_num_layers, model.rnn_hidden_size)
    factors = np.zeros((num_views, num_rows // num_views, *shape), np.float32)
    for view, (place, utterance_id) in itertools.product(range(num_views), enumerate(utterance_ids)):
        generator = make_generator(config.seed, epoch, f"dropout {utterance_id}", view)  # not those of its augmentation
        factors[view, place] = generator.random(shape, np.float32) >= model.rnn_dropout
    by_layer = factors.reshape((num_rows, *shape)).transpose(1, 0, 2)
    scaled: NDArray[np.float32] = np.ascontiguousarray(by_layer) / np.float32(1 - model.rnn_dropout)
    return scaled


def _describe(name: str, probability: float, how: str) -> str:
    return f"{name} {probability:.0%} ({how})" if probability else ""
