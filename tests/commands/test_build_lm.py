"""The command that builds language models."""

import gzip
import sys
from pathlib import Path

import pytest

from mindaudio_ds2.commands import build_lm
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.decoding.language_model import LanguageModel
from tests.decoding.beam_cases import ARPA

LINES = [
    "The cat sat on the mat, and the dog ate it.",
    "A dog sat on a mat.",
    "The mat is where the cat has sat all of the long day.",
    "It’s the dog’s mat.",
] * 40


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run_command(*arguments: str) -> tuple[int, str]:
        command = ["build_lm", *arguments, "--output", str(tmp_path / "out.lm")]
        monkeypatch.setattr(sys, "argv", command)
        status = 0
        try:
            build_lm.main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run_command


def test_text_becomes_a_model_in_the_alphabet(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    status, said = run(str(tmp_path / "text.gz"), "--order", "3")
    assert status == 0, said
    assert "perplexity" in said
    model = LanguageModel(tmp_path / "out.lm")
    model.verify()
    assert model.metadata["letter_case"] == "upper"
    assert {"CAT", "IT'S", "DOG'S"} <= set(model.words)
    assert model.score_sentence("THE CAT SAT") > model.score_sentence("SAT THE CAT")


def test_what_overlaps_with_a_test_is_left_out_and_counted(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = [*LINES, "HE SAID ONE TWO THREE", "FOUR FIVE SIX SEVEN EIGHT"]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    heard = "ONE TWO THREE FOUR FIVE SIX SEVEN"
    write_manifest(tmp_path / "test.jsonl", [Utterance("a", str(tmp_path / "a.wav"), 1.0, heard, "s")])
    status, said = run(str(tmp_path / "text.txt"), "--exclude", str(tmp_path / "test.jsonl"))
    assert status == 0, said
    assert "2 lines left out that share seven words with 1 transcripts" in said
    assert "FIVE" not in LanguageModel(tmp_path / "out.lm").words


def test_rare_words_are_cut_and_the_share_is_said(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    status, said = run(str(tmp_path / "text.txt"), "--words", "5")
    assert status == 0, said
    model = LanguageModel(tmp_path / "out.lm")
    assert list(model.words[3:]) == ["A", "CAT", "MAT", "SAT", "THE"]  # CAT, DOG and ON are equally frequent
    share = 600 / 1272  # of three lines 40 times and of the first, which is held out eight times, 32 times
    assert f"cut:         {share:.2%} of the words are not among the 5 most frequent" in said
    assert "vocabulary:  5 words" in said
    assert (model.metadata["words"], model.metadata["cut_share"]) == (5, round(share, 6))


@pytest.mark.parametrize("number", ["0", "-1"])
def test_no_words_at_all_are_refused(number: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    status, said = run(str(tmp_path / "text.txt"), "--words", number)
    assert (status, "must be 1 or more" in said) == (2, True)
    assert run("--arpa", str(tmp_path / "text.txt"), "--words", "5")[0] == 2


def test_neither_its_text_nor_its_tests_are_written_over(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "out.lm"  # the output of every run here
    path.write_text("\n".join(LINES), encoding="utf-8")
    for arguments in ((str(path),), ("--arpa", str(path)), ("other.txt", "--exclude", str(path))):
        status, said = run(*arguments)
        assert (status, "is one of the inputs" in said) == (2, True)
    assert path.read_text(encoding="utf-8") == "\n".join(LINES)


def test_an_arpa_file_is_converted(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.arpa").write_text(ARPA)
    status, said = run("--arpa", str(tmp_path / "a.arpa"))
    assert status == 0, said
    assert LanguageModel(tmp_path / "out.lm").counts == (6, 5, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no words"),
        (b"\xff\xfe\x00", "UTF-8"),
        ("то же самое на русском\n" * 30, "another language"),
        ("The cat sat.\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        ("The cat sat.\n".encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8"),
        ("Un caf\xe9 noir.\n".encode("latin-1"), "iconv -f WINDOWS-1252 -t UTF-8"),
        (gzip.compress("Un caf\xe9 noir.\n".encode("latin-1"), mtime=0), "iconv -f WINDOWS-1252 -t UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00\xff", "zip archive or an office document"),
        (b"RIFF\x00\x01\xffWAVE", "binary and no text"),
    ],
)
def test_useless_text_is_refused_and_leaves_nothing(content, message, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, said = run(str(tmp_path / "text.txt"))
    assert (status, message in said) == (2, True), said
    assert not list(tmp_path.glob("*.lm"))


def test_a_text_of_one_line_makes_a_model_that_nothing_judges(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.txt").write_text("\ufeff" + " ".join(LINES), encoding="utf-8")
    status, said = run(str(tmp_path / "text.txt"))
    assert status == 0, said
    assert "held out:    none of 1 lines; to be judged, a text wants 20, a sentence each" in said
    assert "CAT" in LanguageModel(tmp_path / "out.lm").words


def test_an_arpa_file_in_another_letter_case_is_named_as_the_user_did(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.arpa").write_text(ARPA.replace("A", "a").replace("B", "b"))
    status, said = run("--arpa", str(tmp_path / "a.arpa"))
    assert (status, f"{tmp_path / 'a.arpa'} is of another alphabet or letter case" in said) == (2, True), said
    assert ".partial" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.arpa"]


def test_a_link_stays_and_leads_to_the_model(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    (tmp_path / "out.lm").symlink_to("there.lm")
    assert run(str(tmp_path / "text.txt"))[0] == 0
    assert (tmp_path / "out.lm").is_symlink()
    LanguageModel(tmp_path / "there.lm").verify()


def test_text_and_arpa_together_are_refused(run) -> None:  # type: ignore[no-untyped-def]
    assert run()[0] == 2
    assert run("a.txt", "--arpa", "b.arpa")[0] == 2


def test_what_an_arpa_file_was_made_of_cannot_be_excluded(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.arpa").write_text(ARPA)
    status, said = run("--arpa", str(tmp_path / "a.arpa"), "--exclude", "dev.jsonl")
    assert (status, "leave it out" in said) == (2, True), said
    assert not list(tmp_path.glob("*.lm"))
