"""What makes training utterances longer by more than a factor, and their labels others than those of their transcripts:
known before an epoch is planned."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.draws import SilenceDraw, draw_additions, make_generator
from mindaudio_ds2.batching.plan import count_frames_to_align
from mindaudio_ds2.batching.unit_draws import UnitDraws
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.text.tokenizer import Tokenizer


class Additions:
    """Who follows whom, and how long each utterance is planned to be in an epoch.

    Speed, tempo and shift are not planned for: they move a length by a small and known share.

    Args:
        config: the whole run.
        utterances: that are trained on.
        labels: (L,) int32 for each of them.
    """

    def __init__(self, config: Config, utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]]) -> None:
        self.config = config
        self.utterances = utterances
        self.labels = labels
        self.durations = [utterance.duration_seconds for utterance in utterances]
        self.tokenizer = Tokenizer(config.text)
        self.joint = " " if " " in config.text.characters else ""
        self.units = UnitDraws(config)
        self._planned_epoch, self._planned = -1, list[tuple[float, int, bool]]()
        self._next = _find_next(utterances) if config.augmentation.join_probability else {}

    def list_members(self, index: int, num_joined: int) -> tuple[int, ...]:
        """Positions of an utterance and of those that follow it; fewer where the speaker has no more."""
        members = [index]
        while len(members) <= num_joined and members[-1] in self._next:
            members.append(self._next[members[-1]])
        return tuple(members)

    def join_labels(self, members: Sequence[int]) -> NDArray[np.int32]:
        """Labels of joined utterances, a space between each two where the alphabet has one; (L,) int32."""
        if len(members) == 1:
            return self.labels[members[0]]
        return self.tokenizer.encode(self._join_transcripts(members))

    def draw_labels(self, epoch: int, members: Sequence[int], factor: float) -> tuple[NDArray[np.int32], bool]:
        """Labels of joined utterances in an epoch, where `augmentation.unit_sampling` is on.

        Args:
            epoch: counts from 0.
            members: positions, of `list_members`.
            factor: by which they are said faster.

        Returns:
            (L,) int32, and whether they were drawn; where CTC could not align these, they are those of `join_labels`.
        """
        drawn = self.units.draw(epoch, self.utterances[members[0]].id, self._join_transcripts(members))
        if count_frames_to_align(drawn) <= self._count_frames(members, max(factor, 1.0)):
            return drawn, True
        return self.join_labels(members), False

    def may_draw_too_many(self, members: Sequence[int], factor: float) -> bool:
        """Whether there is a split of joined utterances that CTC could not align when they are said faster."""
        longest = self.units.list_longest(self._join_transcripts(members))
        return count_frames_to_align(longest) > self._count_frames(members, factor)

    def _join_transcripts(self, members: Sequence[int]) -> str:
        return self.joint.join(self.utterances[member].transcript for member in members)

    def fits(self, members: Sequence[int], factor: float) -> bool:
        """Whether CTC can still align the labels of joined utterances when they are said faster by a factor."""
        return self._count_frames(members, factor) >= count_frames_to_align(self.join_labels(members))

    def _count_frames(self, members: Sequence[int], factor: float) -> int:
        seconds = sum(self.durations[member] for member in members) / factor
        return self.config.model.num_output_frames(self.config.features.num_frames(seconds))

    def limit(self, index: int, num_joined: int, silence: SilenceDraw | None) -> tuple[int, SilenceDraw | None]:
        """What of the additions that were drawn for an utterance is within the limits."""
        members = self.list_members(index, num_joined)
        while len(members) > 1 and not self._may_join(members):
            members = members[:-1]
        if silence is None:
            return len(members) - 1, None
        wanted = silence.before_seconds + silence.after_seconds
        room = self.config.data.max_duration_seconds - sum(self.durations[member] for member in members)
        share = min(1.0, max(0.0, room) / wanted) if wanted else 0.0
        if share == 0:
            return len(members) - 1, None
        before, after = share * silence.before_seconds, share * silence.after_seconds
        return len(members) - 1, dataclasses.replace(silence, before_seconds=before, after_seconds=after)

    def _may_join(self, members: Sequence[int]) -> bool:
        seconds = sum(self.durations[member] for member in members)
        return seconds <= self.config.augmentation.join_max_seconds and self.fits(members, 1.0)

    def plan_seconds(self, epoch: int) -> list[float]:
        """How long each utterance is in an epoch, before speed, tempo and shift (seconds)."""
        return [seconds for seconds, _, _ in self._plan(epoch)] if self.is_on else self.durations

    def _plan(self, epoch: int) -> list[tuple[float, int, bool]]:
        """Of each utterance, the seconds, how many others follow it, and whether there is silence around."""
        if self._planned_epoch == epoch:
            return self._planned
        planned = []
        for index, utterance in enumerate(self.utterances):
            generator = make_generator(self.config.seed, epoch, utterance.id)
            num_joined, silence = self.limit(index, *draw_additions(self.config.augmentation, generator))
            seconds = sum(self.durations[member] for member in self.list_members(index, num_joined))
            around = silence.before_seconds + silence.after_seconds if silence else 0.0
            planned.append((seconds + around, num_joined, bool(silence)))
        self._planned_epoch, self._planned = epoch, planned
        return planned

    @property
    def is_on(self) -> bool:
        """Whether anything is ever added."""
        return bool(self.config.augmentation.join_probability or self.config.augmentation.silence_probability)

    def list_reachable(self) -> tuple[list[float], list[int]]:
        """Seconds and numbers of labels of all that may be planned, in whatever epoch, for `FixedShapes`."""
        if not self.is_on:
            return self.durations, [self._count_labels((index,)) for index in range(len(self.utterances))]
        augmentation, longest = self.config.augmentation, self.config.data.max_duration_seconds
        most_silence = 2 * augmentation.silence_range_seconds[1] if augmentation.silence_probability else 0.0
        edges = np.asarray(self.config.batching.bucket_edges_seconds)
        durations, counts = [], []
        for index in range(len(self.utterances)):
            members = self.list_members(index, augmentation.join_max_utterances - 1)
            for count in range(1, len(members) + 1):
                if count > 1 and not self._may_join(members[:count]):
                    break
                seconds = sum(self.durations[member] for member in members[:count])
                most = max(seconds, min(longest, seconds + most_silence))
                reached = sorted({seconds, *edges[(edges > seconds) & (edges < most)].tolist(), most})
                durations += reached
                counts += [self._count_labels(members[:count])] * len(reached)
        return durations, counts

    def _count_labels(self, members: Sequence[int]) -> int:
        """Most labels of joined utterances in whatever epoch."""
        if self.units.is_on:
            return len(self.units.list_longest(self._join_transcripts(members)))
        return len(self.join_labels(members))

    def describe_epoch(self, epoch: int) -> str:
        """What is added in an epoch, behind a line of the log; empty where nothing ever is."""
        if not self.is_on:
            return ""
        seconds, joined, silent = zip(*self._plan(epoch), strict=True)
        return (
            f"; {sum(map(bool, joined))} of {len(joined)} utterances joined to others, {sum(silent)} with silence "
            f"around: {sum(seconds) / 3600:.2f} h instead of {sum(self.durations) / 3600:.2f}"
        )


def _find_next(utterances: Sequence[Utterance]) -> dict[int, int]:
    """For the position of each utterance, that of its speaker's next one by id; none for unknown speakers."""
    by_speaker: dict[str, list[int]] = {}
    for index in sorted(range(len(utterances)), key=lambda index: utterances[index].id):
        if utterances[index].speaker:
            by_speaker.setdefault(utterances[index].speaker, []).append(index)
    return {before: after for own in by_speaker.values() for before, after in zip(own, own[1:], strict=False)}
