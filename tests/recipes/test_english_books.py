"""Sentences out of books, on made-up ones."""

import gzip
import random
import sys
from pathlib import Path

import pytest

from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from recipes.english.books import main as run_books
from recipes.english.gutenberg import list_sentences
from recipes.english.sentences import read_sentences

COMMON = ["the", "of", "and", "to", "in", "that", "he", "was", "it", "his", "with", "as", "had", "for"]
NAMES = [first + last for first in "bcdfgklmnprstvw" for last in ("alder", "ove", "ink", "umber", "ersey", "oster")]
HELD_OUT = "HE WENT DOWN TO THE OLD HARBOUR BEFORE THE LAST SHIP LEFT IT FOR THE OTHER SHORE OF THE GREAT SEA"


def invent(seed: int, num_sentences: int = 60, common: list[str] = COMMON) -> list[str]:
    """Sentences of words drawn by halves from frequent and rare ones, as they are printed."""
    rng = random.Random(seed)
    sentences = []
    for _ in range(num_sentences):
        words = [rng.choice(rng.choice((common, NAMES))) for _ in range(rng.randint(5, 14))]
        sentences.append(" ".join(words).capitalize() + ".")
    return sentences


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    held_out = tmp_path / "dev.jsonl"
    write_manifest(held_out, [Utterance("a", str(tmp_path / "a.wav"), 1.0, HELD_OUT, "s")])

    def run_recipe(books: dict[str, list[str]], *options: str) -> tuple[list[str], dict[str, dict[str, str]]]:
        (tmp_path / "books").mkdir(exist_ok=True)
        for name, sentences in books.items():
            (tmp_path / "books" / f"{name}.txt").write_text("\n".join(sentences), encoding="utf-8")
        arguments = [str(tmp_path / "books"), "--output", str(tmp_path / "out.txt.gz"), "--held_out", str(held_out)]
        monkeypatch.setattr(sys, "argv", ["books.py", *arguments, *options])
        run_books()
        names, *rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()]
        table = {row[0].removesuffix(".txt"): dict(zip(names, row, strict=True)) for row in rows}
        return gzip.decompress((tmp_path / "out.txt.gz").read_bytes()).decode().splitlines(), table

    return run_recipe


def test_sentences_are_written_as_in_librispeech() -> None:
    text = (
        """Produced by a volunteer

*** START OF THIS PROJECT GUTENBERG EBOOK A STORY ***

CHAPTER II

“I’ll see Mr. Bœuf,” said Mrs. Day;
"and St. Ives, too!"  Dr. J. Fox's _café_ was shut. [Illustration: a door] Why?

It cost 12 pounds. That was in Louis XIV's time. 'Tis the boys' St.

*** END OF THIS PROJECT GUTENBERG EBOOK A STORY ***
"""
        + "Anybody may copy it. " * 10
    )
    head, _, tail = text.partition("*** END")
    sentences, num_strange = list_sentences(head + "And so on. " * 30 + "\n*** END" + tail)
    assert sentences[:5] == [
        "I'LL SEE MISTER BOEUF SAID MISSUS DAY AND SAINT IVES TOO",
        "DOCTOR J FOX'S CAFE WAS SHUT",
        "WHY",
        "TIS THE BOYS ST",
        "AND SO ON",
    ]
    assert set(sentences[5:]) == {"AND SO ON"}
    assert num_strange == 3  # the chapter, the pounds, the king


def test_books_are_kept_or_left_out_for_a_reason(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "novel.txt").write_text(
        "\n".join(sentence.upper().rstrip(".") for sentence in invent(7, 2000)), encoding="utf-8"
    )
    printed = HELD_OUT.capitalize() + "."
    runs = " ".join(HELD_OUT.split()[2:10]).capitalize() + "."
    lines, table = run(
        {
            "good": [*invent(1), runs, *invent(2)],
            "read": [*invent(3), printed, *invent(4)],
            "foreign": invent(5, common=["der", "und", "in"]),
            "novel": invent(7, 2000),
            "empty": ["1. 2. 3."],
        },
        "--novels",
        str(tmp_path / "novel.txt"),
    )
    assert {name: row["fate"] for name, row in table.items()} == {
        "good": "kept",
        "read": "held out",
        "foreign": "foreign",
        "novel": "repeated",
        "empty": "empty",
    }
    assert lines == [sentence.upper().rstrip(".") for sentence in [*invent(1), *invent(2)]]
    assert (table["good"]["left_out_held_out"], table["good"]["held_out_runs"]) == ("1", "2")
    assert read_sentences([tmp_path / "out.txt.gz"]) == lines


def test_the_second_of_two_like_books_is_left_out_and_all_is_repeatable(run) -> None:  # type: ignore[no-untyped-def]
    first = run({"a": invent(1, 2000), "b": [*invent(1, 1500), *invent(2, 500)]})
    assert sorted(row["fate"] for row in first[1].values()) == ["kept", "repeated"]
    assert run({}) == first


def test_no_more_books_are_read_than_needed(run) -> None:  # type: ignore[no-untyped-def]
    books = {str(number): invent(number) for number in range(6)}
    _, table = run(books, "--max_words", "1000")
    kept = [int(row["words"]) for row in table.values()]
    assert sum(kept) >= 1000 > sum(kept[:-1])
    assert list(run(books, "--max_words", "1000", "--seed", "5")[1]) != list(table)


def test_a_folder_without_books_is_refused(run, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit):
        run({})
    assert "name a folder of plain texts" in capsys.readouterr().err


def test_odd_entries_are_no_books_and_no_book_is_written_over(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "books" / "folder.txt").mkdir(parents=True)
    (tmp_path / "books" / "nowhere.txt").symlink_to(tmp_path / "nowhere")
    assert set(run({"good": invent(1), "tab\there": invent(2)})[1]) == {"good", r"tab\there"}
    good = tmp_path / "books" / "good.txt"
    before = good.read_bytes()
    with pytest.raises(SystemExit):
        run({}, "--output", str(good))
    assert good.read_bytes() == before
