import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import ManifestError

pytest.importorskip("ctranslate2", reason="comparing with others needs the extra [english]")
pytest.importorskip("whisper_normalizer", reason="comparing with others needs the extra [english]")

from recipes.english.label import find_recordings, label
from recipes.english.peers import choose, describe, run_peer, score, score_own
from recipes.english.recognisers import Recogniser, open_peer


def utter(name: str, transcript: str, path: str = "/nowhere.flac") -> Utterance:
    return Utterance(name, path, 0.5, transcript)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Utterance]:
    """Three tones of half a second, of 1, 2 and 3 tenths of full scale."""
    made = []
    for number in (1, 2, 3):
        soundfile.write(tmp_path / f"{number}.flac", number / 10 * np.sin(np.arange(8000) / 4), 16000)
        made.append(utter(f"u{number}", f"NUMBER {number}", str(tmp_path / f"{number}.flac")))
    return made


class Loudness:
    """Says how loud a recording is, and gives up after some."""

    def __init__(self, stop_after: int = 99) -> None:
        self.num_heard, self.stop_after = 0, stop_after

    def __call__(self, samples: NDArray[np.float32]) -> str:
        if self.num_heard == self.stop_after:
            raise KeyboardInterrupt
        self.num_heard += 1
        return f"number {round(10 * float(np.abs(samples).max()))}"


def test_both_sides_are_normalised_alike() -> None:
    found = score("x", [utter("a", "MISTER SMITH'S COLOUR IS TWENTY FIVE")], ["Mr. Smith's color is 25."], 0.1, 1)
    assert (found.wer, found.cer) == (0, 0)


def test_errors_are_counted_over_all_words_and_not_averaged_by_recording() -> None:
    utterances = [utter("a", "YES"), utter("b", "THE CAT SAT ON THE MAT ALL DAY LONG")]
    found = score("x", utterances, ["NO", "the cat sat on the mat all day long"], None, None)
    assert found.wer == pytest.approx(1 / 10)
    assert found.num_words == 10


def test_references_without_words_are_an_error() -> None:
    with pytest.raises(ManifestError, match="no words"):
        score("x", [utter("a", "?")], ["hello"], None, None)


@pytest.mark.parametrize("cut", [0, 7])
def test_a_comparison_that_was_killed_goes_on_with_the_next_recording(
    recordings: list[Utterance], tmp_path: Path, cut: int
) -> None:
    record = tmp_path / "texts" / "loudness.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_peer(Recogniser("loudness", Loudness(stop_after=2), 1), recordings, record)
    if cut:  # within a line
        record.write_bytes(record.read_bytes()[:-cut])
    peer = Loudness()
    texts, factor = run_peer(Recogniser("loudness", peer, 1), recordings, record)
    assert texts == ["number 1", "number 2", "number 3"]
    assert peer.num_heard == (2 if cut else 1)
    assert len(record.read_text(encoding="utf-8").splitlines()) == 3
    assert factor >= 0


def write_own(folder: Path, ids: list[str]) -> Path:
    rows = [json.dumps({"id": name, "hypothesis": "NUMBER ONE"}) for name in ids]
    (folder / "eval_dev_utterances.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "best.ckpt").write_bytes(b"12345")
    summary = {"checkpoint": str(folder / "best.ckpt")}
    (folder / "eval_dev.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder / "eval_dev.json"


def test_a_network_of_ours_is_scored_from_what_eval_wrote(tmp_path: Path) -> None:
    found = score_own(write_own(tmp_path, ["a", "b"]), [utter("a", "NUMBER 1"), utter("b", "NUMBER TWO")])
    assert found.wer == pytest.approx(1 / 4)
    assert found.num_bytes == 5
    with pytest.raises(ManifestError, match="lacks 1 utterances"):
        score_own(write_own(tmp_path, ["a"]), [utter("a", "NUMBER 1"), utter("b", "NUMBER TWO")])


def test_a_teachers_text_is_taken_where_another_hears_the_same() -> None:
    utterances = [utter(name, "UNKNOWN") for name in "abcd"]
    taught = ["Mr. Smith's here.", "He came in 1908.", "Nothing of the kind.", ""]
    heard = ["mister smiths here", "he came in 1908", "something else altogether", ""]
    found, left_out = label(utterances, taught, heard, 0.1)
    assert [(u.id, u.transcript) for u in found] == [("a", "MR SMITH'S HERE")]
    assert left_out == {"written with digits or signs, or not at all": 2, "heard otherwise by the two": 1}


def test_recordings_to_label_are_named_by_reader_and_nobody_held_out_is_among_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seconds in (("103-1-0000", 1), ("26-1-0000", 31)):
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(seconds * 16000), 16000)
    (tmp_path / "104-1-0000.flac").write_bytes(b"nothing")
    assert [(u.id, u.speaker) for u in find_recordings(tmp_path)] == [("103-1-0000", "103")]
    said = capsys.readouterr().out
    assert "104-1-0000" in said
    assert "lasts 31.0 s" in said
    soundfile.write(tmp_path / "61-1-0000.flac", np.zeros(16000), 16000)
    with pytest.raises(ManifestError, match="61-1-0000"):
        find_recordings(tmp_path)


def test_a_limit_takes_recordings_evenly() -> None:
    utterances = [utter(f"{number}", "X") for number in range(10)]
    assert [u.id for u in choose(utterances, 5)] == ["0", "2", "4", "6", "8"]
    assert choose(utterances, None) == choose(utterances, 99) == utterances


def test_the_table_has_a_line_a_recogniser() -> None:
    table = describe([score("mine", [utter("a", "CATS DOGS")], ["cats"], 0.25, 38_000_000)])
    assert table.splitlines()[2] == "| mine | 1 | 2 | 50.00 % | 55.56 % | 0.250 | 38 MB |"


def test_pocketsphinx_hears_most_of_a_sentence(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed")
    chapters = sorted((shared_data / "mini_librispeech" / "LibriSpeech" / "test-mini").glob("*/*/*.trans.txt"))
    if not chapters:
        pytest.skip("no LibriSpeech in the folder of real speech")
    name, _, transcript = chapters[0].read_text(encoding="utf-8").partition("\n")[0].partition(" ")
    samples, _ = soundfile.read(chapters[0].with_name(f"{name}.flac"), dtype="float32")
    peer = open_peer("pocketsphinx", tmp_path)
    assert score("x", [utter(name, transcript)], [peer.transcribe(samples)], None, peer.num_bytes).wer < 0.7
    assert 20e6 < peer.num_bytes < 60e6
