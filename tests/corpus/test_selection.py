import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.selection import split_by_speaker, take_hours, within_durations
from mindaudio_ds2.errors import ManifestError

DURATIONS = st.floats(0.1, 40.0)


def make(durations: list[float], speakers: list[str] | None = None) -> list[Utterance]:
    names = speakers or [f"s{number % 7}" for number in range(len(durations))]
    return [
        Utterance(f"u{number}", "x.wav", duration, "GO", name)
        for number, (duration, name) in enumerate(zip(durations, names, strict=True))
    ]


def sum_hours(utterances: list[Utterance]) -> float:
    return math.fsum(utterance.duration_seconds for utterance in utterances) / 3600


@given(st.lists(DURATIONS, max_size=30))
def test_durations_divide_into_two_parts_in_their_order(durations: list[float]) -> None:
    utterances = make(durations)
    kept, others = within_durations(utterances, 1.0, 20.0)
    assert [u.duration_seconds for u in kept] == [d for d in durations if 1.0 <= d <= 20.0]
    assert [u.duration_seconds for u in others] == [d for d in durations if not 1.0 <= d <= 20.0]


def test_the_bounds_themselves_are_within() -> None:
    kept, others = within_durations(make([1.0, 20.0, 0.999, 20.001]), 1.0, 20.0)
    assert [u.duration_seconds for u in kept] == [1.0, 20.0]
    assert len(others) == 2
    assert within_durations(make([30.0]), 0.0, math.inf)[1] == []


@given(st.lists(DURATIONS, min_size=1, max_size=40), st.floats(0, 1), st.integers(0, 9), st.randoms())
def test_the_draw_does_not_depend_on_the_order(
    durations: list[float], share: float, seed: int, rng: random.Random
) -> None:
    utterances = make(durations)
    drawn = take_hours(utterances, share * sum_hours(utterances), seed)
    assert drawn == [u for u in utterances if u in drawn]
    shuffled = rng.sample(utterances, len(utterances))
    again = take_hours(shuffled, share * sum_hours(utterances), seed)
    assert {u.id for u in again} == {u.id for u in drawn}


@given(st.lists(DURATIONS, min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_fewer_hours_are_part_of_more(durations: list[float], one: float, other: float, seed: int) -> None:
    utterances = make(durations)
    fewer, more = (
        {u.id for u in take_hours(utterances, share * sum_hours(utterances), seed)} for share in sorted((one, other))
    )
    assert fewer <= more


@given(st.lists(DURATIONS, min_size=1, max_size=40), st.floats(0, 1), st.integers(0, 9))
def test_the_draw_is_off_by_one_utterance_at_most(durations: list[float], share: float, seed: int) -> None:
    utterances = make(durations)
    hours = share * sum_hours(utterances)
    assert abs(sum_hours(take_hours(utterances, hours, seed)) - hours) <= max(durations) / 3600 + 1e-9


def test_another_seed_draws_others_and_speakers_are_mixed() -> None:
    utterances = make([4.0] * 700)
    one, other = ({u.id for u in take_hours(utterances, 0.2, seed)} for seed in (1, 2))
    assert len(one) == len(other) == 180
    assert 20 < len(one & other) < 90  # by chance 180 * 180 / 700 = 46
    counts = [sum(u.speaker == f"s{number}" for u in utterances if u.id in one) for number in range(7)]
    assert min(counts) > 10  # by chance 26 each


SPEAKERS = st.lists(st.sampled_from(["", "a", "b", "c", "d", "e", "f"]), min_size=2, max_size=40)


@given(SPEAKERS, st.floats(0.01, 0.99), st.integers(0, 9), st.randoms())
def test_speakers_are_held_out_whole_and_the_same_in_any_order(
    speakers: list[str], share: float, seed: int, rng: random.Random
) -> None:
    utterances = make([1.0 + 0.1 * number for number in range(len(speakers))], speakers)
    if len(set(speakers) - {""}) < 2:
        with pytest.raises(ManifestError, match="two"):
            split_by_speaker(utterances, share, seed)
        return
    rest, held_out = split_by_speaker(utterances, share, seed)
    assert sorted([*rest, *held_out], key=lambda u: int(u.id[1:])) == utterances
    assert rest == [u for u in utterances if u in rest]
    inside, outside = {u.speaker for u in held_out}, {u.speaker for u in rest} - {""}
    assert inside
    assert outside
    assert not inside & outside
    assert "" not in inside
    again = split_by_speaker(rng.sample(utterances, len(utterances)), share, seed)
    assert {u.speaker for u in again[1]} == inside


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_hours_come_close_to_the_share(share: float, seed: int) -> None:
    rng = random.Random(seed)
    speakers = [f"s{rng.randrange(100)}" for _ in range(2000)]
    utterances = make([rng.uniform(1, 17) for _ in speakers], speakers)
    _, held_out = split_by_speaker(utterances, share, seed)
    assert sum_hours(held_out) / sum_hours(utterances) == pytest.approx(share, abs=0.01)  # a speaker has a hundredth


def test_where_every_speaker_has_too_much_the_smallest_is_held_out() -> None:
    _, held_out = split_by_speaker(make([100.0, 90.0, 80.0], ["a", "b", "c"]), 0.01, 1)
    assert {u.speaker for u in held_out} == {"c"}
