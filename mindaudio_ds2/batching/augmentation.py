"""What is done to each utterance of a training set in an epoch, drawn from seed, epoch and utterance alone."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.augment import (
    Waveform,
    add_noise,
    change_gain,
    change_speed,
    clip_peaks,
    measure_power,
    reverberate,
    shift_later,
    surround,
)
from mindaudio_ds2.audio.codecs import filter_band, pass_codec, pass_telephone, require_codecs
from mindaudio_ds2.audio.draws import Draw, SyntheticNoiseDraw, draw_augmentation, make_generator
from mindaudio_ds2.audio.sound_pool import SoundPool
from mindaudio_ds2.audio.spec_augment import mask_features, warp_frequency, warp_time
from mindaudio_ds2.audio.synthetic import make_babble, make_noise, make_room_response
from mindaudio_ds2.audio.tempo import change_tempo
from mindaudio_ds2.batching.additions import Additions
from mindaudio_ds2.batching.feature_cache import read_utterance
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance

NUM_BABBLE_VOICES = (3, 7)
"""Fewest and most utterances that are heard at once in babble."""

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
        labels: (L,) int32, where others are joined to it or its units are drawn; None for its own.
    """

    waveform: WaveformChange | None
    views: tuple[FeatureChange, ...]
    labels: NDArray[np.int32] | None = None


UNCHANGED = Changes(None, (lambda features: features,))
"""An utterance as it is."""


class Augmenter:
    """Draws and makes the changes to training utterances.

    Args:
        config: the whole run.
        utterances: that are trained on.
        labels: (L,) int32 for each of them.

    Raises:
        ConfigError, ManifestError, AudioError: `augmentation.rir_path`, `noise_path` or `codecs` cannot be used.
    """

    def __init__(self, config: Config, utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]]) -> None:
        assert len(utterances) == len(labels)
        self.config = config
        self.utterances = utterances
        self.labels = labels
        rate_hz, augmentation = config.features.sample_rate_hz, config.augmentation
        self.rirs = SoundPool(augmentation.rir_path, rate_hz, "augmentation.rir_path")
        self.noises = SoundPool(augmentation.noise_path, rate_hz, "augmentation.noise_path")
        self.additions = Additions(config, utterances, labels)
        self._by_id = sorted(range(len(utterances)), key=lambda index: utterances[index].id)
        if augmentation.codec_probability:
            require_codecs(augmentation.codecs)

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
        num_joined, silence = self.additions.limit(index, draw.num_joined, draw.silence)
        draw = dataclasses.replace(draw, num_joined=num_joined, silence=silence)
        members = self.additions.list_members(index, num_joined)
        if max(draw.speed, draw.speed * draw.tempo) > 1 and not self.additions.fits(members, draw.speed * draw.tempo):
            draw = dataclasses.replace(draw, speed=1.0, tempo=1.0)
        return draw

    def _draw_freely(self, epoch: int, index: int, view: int) -> Draw:
        generator = self._make_generator(epoch, index, view)
        return draw_augmentation(self.config.augmentation, generator, len(self.rirs), len(self.noises))

    def make_changes(self, epoch: int, index: int) -> Changes:
        """What `draw` says, ready to be done.

        Args:
            epoch: counts from 0.
            index: position of the utterance.
        """
        draw = self.draw(epoch, index)
        members = self.additions.list_members(index, draw.num_joined)
        return Changes(
            waveform=partial(self._change_recording, draw=draw, members=members) if draw.changes_waveform else None,
            views=tuple(
                partial(self.change_features, draw=self.draw(epoch, index, view), epoch=epoch, index=index, view=view)
                for view in range(self.config.training.num_views)
            ),
            labels=self._make_labels(epoch, draw, members),
        )

    def _make_labels(self, epoch: int, draw: Draw, members: Sequence[int]) -> NDArray[np.int32] | None:
        if self.additions.units.is_on:
            return self.additions.draw_labels(epoch, members, draw.speed * draw.tempo)[0]
        return self.additions.join_labels(members) if draw.num_joined else None

    def count_undrawn(self, epoch: int) -> int:
        """Utterances that keep the likeliest split in an epoch, because CTC could not align the one that was drawn."""
        return sum(not self._can_align(epoch, index) for index in self._tight) if self.additions.units.is_on else 0

    def _can_align(self, epoch: int, index: int) -> bool:
        draw = self.draw(epoch, index)
        members = self.additions.list_members(index, draw.num_joined)
        return self.additions.draw_labels(epoch, members, draw.speed * draw.tempo)[1]

    @cached_property
    def _tight(self) -> list[int]:
        """Positions of the utterances that have splits which CTC could not align; few, where speech is not hurried."""
        config, additions = self.config.augmentation, self.additions
        num_more = config.join_max_utterances - 1 if config.join_probability else 0
        chains = (additions.list_members(index, num_more) for index in range(len(self.utterances)))
        return [
            chain[0]
            for chain in chains
            if any(additions.may_draw_too_many(chain[: count + 1], config.most_speed) for count in range(len(chain)))
        ]

    def _change_recording(self, waveform: Waveform, draw: Draw, members: Sequence[int]) -> Waveform:
        others = [read_utterance(self.utterances[member], self.config.features) for member in members[1:]]
        return self.change_waveform(np.concatenate([waveform, *others]), draw)

    def change_waveform(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Do what was drawn to a recording, in the order of nature: a voice, in a room, with noise, at a microphone.

        Args:
            waveform: (num_samples,) float32 at the rate of the features; of joined utterances, one after the other.
            draw: what to do.

        Returns:
            Another waveform, float32; its samples may exceed 1, because features need no limit.

        Raises:
            AudioError, ManifestError: a file of noise, an impulse response or other speech cannot be used.
        """
        rate_hz = self.config.features.sample_rate_hz
        if draw.speed != 1:
            waveform = change_speed(waveform, draw.speed, rate_hz)
        if draw.tempo != 1:
            waveform = change_tempo(waveform, draw.tempo, rate_hz)
        if draw.shift_seconds:
            waveform = shift_later(waveform, round(draw.shift_seconds * rate_hz), rate_hz)
        return self._transmit(self._place_in_room(waveform, draw), draw)

    def _place_in_room(self, waveform: Waveform, draw: Draw) -> Waveform:
        rate_hz = self.config.features.sample_rate_hz
        power = None
        if draw.silence:
            power = measure_power(waveform)
            waveform = surround(waveform, draw.silence, rate_hz)
        if draw.rir is not None:
            waveform = reverberate(waveform, self.rirs.read(draw.rir))
        elif room := draw.synthetic_rir:
            generator = np.random.default_rng(room.seed)
            response = make_room_response(room.reverberation_seconds, room.direct_db, rate_hz, generator)
            waveform = reverberate(waveform, response)
        if draw.noise:
            noise = self.noises.read(draw.noise.index)
            waveform = add_noise(waveform, noise, draw.noise.place, draw.noise.snr_db, power)
        if draw.synthetic_noise:
            noise = self._make_noise(draw.synthetic_noise, len(waveform))
            waveform = add_noise(waveform, noise, 0.0, draw.synthetic_noise.snr_db, power)
        return waveform

    def _make_noise(self, draw: SyntheticNoiseDraw, num_samples: int) -> Waveform:
        generator = np.random.default_rng(draw.seed)
        if draw.kind != "babble":
            return make_noise(draw.kind, num_samples, generator)
        num_voices = int(generator.integers(NUM_BABBLE_VOICES[0], NUM_BABBLE_VOICES[1] + 1))
        chosen = (self._by_id[int(generator.integers(len(self._by_id)))] for _ in range(num_voices))
        voices = [read_utterance(self.utterances[index], self.config.features) for index in chosen]
        return make_babble(voices, num_samples, generator)

    def _transmit(self, waveform: Waveform, draw: Draw) -> Waveform:
        rate_hz = self.config.features.sample_rate_hz
        if draw.gain_db:
            waveform = change_gain(waveform, draw.gain_db)
        if draw.clip_db:
            waveform = clip_peaks(waveform, draw.clip_db)
        if draw.low_pass_hz is not None:
            waveform = filter_band(waveform, rate_hz, 0.0, draw.low_pass_hz)
        if draw.is_telephone:
            waveform = pass_telephone(waveform, rate_hz)
        if draw.codec:
            waveform = pass_codec(waveform, rate_hz, draw.codec.name, draw.codec.kbps)
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
