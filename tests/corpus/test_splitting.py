import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.splitting import divide, find_doubts, make_table
from mindaudio_ds2.errors import ManifestError


def make(speakers: list[str], per_speaker: int = 10, seconds: float = 4.0) -> list[Utterance]:
    return [
        Utterance(f"{place}-{number}", "x.wav", seconds, f"sentence {place} {number}", speaker)
        for place, speaker in enumerate(speakers)
        for number in range(per_speaker)
    ]


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=6, max_size=30), st.integers(0, 5))
def test_every_utterance_is_in_exactly_one_part_in_its_order(speakers: list[str], seed: int) -> None:
    utterances = make(speakers, per_speaker=2)
    splits = divide(utterances, 0.2, 0.2, seed)
    assert sorted(u.id for u in splits.utterances) == sorted(u.id for u in utterances)
    for members in splits.by_name.values():
        assert members == [u for u in utterances if u in members]
        assert members


@given(st.integers(4, 12), st.integers(0, 20))
def test_whole_speakers_are_kept_together_from_four_on(num_speakers: int, seed: int) -> None:
    splits = divide(make([f"s{i}" for i in range(num_speakers)]), 0.1, 0.1, seed)
    assert splits.strangers == ("dev", "test")
    train, dev, test = ({u.speaker for u in members} for members in splits.by_name.values())
    assert not train & dev
    assert not train & test
    assert not dev & test


@given(st.integers(3, 12), st.integers(0, 20))
def test_train_keeps_at_least_half_whoever_speaks(num_speakers: int, seed: int) -> None:
    """Three speakers of a third each once left a third to train on."""
    splits = divide(make([f"s{i}" for i in range(num_speakers)], 20), 0.1, 0.1, seed)
    assert len(splits.train) >= 0.48 * len(splits.utterances)
    assert "test" in splits.strangers
    assert not {u.speaker for u in splits.train} & {u.speaker for u in splits.test}


def test_dev_taken_from_voices_of_train_is_said() -> None:
    doubts = find_doubts(divide(make(["a", "b", "c"], 20), 0.1, 0.1, 1), 0.1, 0.1)
    assert any(doubt.startswith("Dev is divided by utterance: 3 speakers") for doubt in doubts)


@pytest.mark.parametrize("speakers", [["", ""], ["a", ""], ["a", "b"]])
def test_fewer_speakers_are_divided_by_utterance_and_that_is_said(speakers: list[str]) -> None:
    splits = divide(make(speakers, 50), 0.1, 0.1, 1)
    assert splits.strangers == ()
    assert [len(members) for members in splits.by_name.values()] == [80, 10, 10]
    (doubt,) = find_doubts(splits, 0.1, 0.1)
    assert "better than a stranger's" in doubt


def test_the_same_seed_divides_alike_whatever_the_order() -> None:
    utterances = make([""], 100)
    one, other = divide(utterances, 0.1, 0.1, 1), divide(utterances[::-1], 0.1, 0.1, 1)
    assert {u.id for u in one.test} == {u.id for u in other.test}
    assert {u.id for u in one.dev} == {u.id for u in other.dev}
    assert {u.id for u in one.test} != {u.id for u in divide(utterances, 0.1, 0.1, 2).test}


@pytest.mark.parametrize("num", [1, 2])
def test_too_few_utterances_are_an_error(num: int) -> None:
    with pytest.raises(ManifestError, match="too few to be divided"):
        divide(make([""], num), 0.1, 0.1, 1)


def test_repeated_sentences_and_far_off_shares_are_doubted() -> None:
    utterances = [
        Utterance(f"{speaker}{number}", "x.wav", 3.0, ("Go.", "Stop.")[number % 2], speaker)
        for speaker in "abc"
        for number in range(10)
    ]
    doubts = find_doubts(divide(utterances, 0.1, 0.1, 1), 0.1, 0.1)
    assert any("10 of test's 10 sentences also stand in train" in doubt for doubt in doubts)
    assert sum("% of the hours instead of 10 %" in doubt for doubt in doubts) == 1, (
        "test is a whole speaker, dev is not"
    )


def test_utterances_without_a_speaker_among_others_are_counted() -> None:
    doubts = find_doubts(divide(make(["a", "b", "c", "d", "", ""], 10), 0.15, 0.15, 1), 0.15, 0.15)
    assert any(doubt.startswith("20 utterances have no speaker") for doubt in doubts)


def test_the_table_adds_up() -> None:
    rows = make_table(divide(make(["a", "b", "c", "d"], 9, seconds=100.0), 0.25, 0.25, 1)).splitlines()
    assert [row.split()[:5] for row in rows[1:]] == [
        ["train", "18", "0.50", "50.0", "%"],
        ["dev", "9", "0.25", "25.0", "%"],
        ["test", "9", "0.25", "25.0", "%"],
    ]
