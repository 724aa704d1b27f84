from pathlib import Path

import pytest

from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import ManifestError, OutputError


def collect(**counts: int) -> Problems:
    problems = Problems()
    for kind, count in counts.items():
        for number in range(count):
            problems.add(kind, f"{kind} number {number}")
    return problems


def test_nothing_wrong_is_false_and_says_nothing() -> None:
    problems = Problems()
    assert not problems
    assert (problems.num, problems.counts, problems.summary()) == (0, {}, "")
    problems.check(0, 0.0, "nothing to do")


def test_problems_are_counted_by_kind_in_the_order_they_were_met() -> None:
    problems = collect(empty=2, cut=1)
    problems.add("empty", "a third")
    assert problems
    assert problems.num == 4
    assert list(problems.counts.items()) == [("empty", 3), ("cut", 1)]


def test_the_summary_lists_the_first_of_each_kind_and_counts_the_others() -> None:
    expected = "empty: 3\n  empty number 0\n  empty number 1\n  and 1 more\ncut: 2\n  cut number 0\n  cut number 1"
    assert collect(empty=3, cut=2).summary(max_listed=2) == expected
    assert "more" not in collect(empty=10).summary()
    assert "and 1 more" in collect(empty=11).summary()
    assert collect(empty=50).summary(max_listed=0).count("\n") == 50


def test_one_entry_may_stand_for_many_utterances() -> None:
    problems = collect(empty=1)
    problems.add("chapter without transcripts", "84/121123 has 29 files", num=29)
    assert problems.num == 30
    assert problems.counts == {"empty": 1, "chapter without transcripts": 29}
    assert problems.summary().splitlines()[-2:] == ["chapter without transcripts: 29", "  84/121123 has 29 files"]


@pytest.mark.parametrize(("num_total", "max_share"), [(1000, 0.003), (3, 1.0), (4, 0.75)])
def test_a_share_up_to_the_limit_is_accepted(num_total: int, max_share: float) -> None:
    problems = collect(empty=3)
    problems.check(num_total, max_share, "mend them")
    assert problems.num == 3


@pytest.mark.parametrize(("num_total", "max_share"), [(1000, 0.0029), (1000, 0.0), (3, 0.99), (0, 0.5), (0, 0.0)])
def test_a_larger_share_is_an_error_with_summary_and_remedy(num_total: int, max_share: float) -> None:
    with pytest.raises(ManifestError, match="mend them") as caught:
        collect(empty=3).check(num_total, max_share, "mend them")
    assert "empty: 3\n  empty number 0" in f"{caught.value}"


def test_all_are_written_and_an_old_list_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "new" / "problems.txt"
    problems = collect(empty=30)
    problems.write(path)
    assert path.read_text() == problems.summary(max_listed=0) + "\n"
    assert len(path.read_text().splitlines()) == 31
    Problems().write(path)
    assert not path.exists()


def test_a_list_that_cannot_be_written_or_removed_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "problems.txt").mkdir()
    for problems in (Problems(), collect(empty=1)):
        with pytest.raises(OutputError, match=r"problems\.txt"):
            problems.write(tmp_path / "problems.txt")
