import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import ConfigError, ManifestError
from recipes.english import readers, separation
from recipes.english.prepare import mix, prepare_real
from recipes.english.readers import choose_part, refuse_held_out, split_by_overlap
from recipes.english.sentences import LETTERS, MOST_WORDS, describe, draw_passage, punctuate, read_sentences
from recipes.english.separation import measure_overlap
from recipes.english.sources import find_sources, read_sources, write_as_librispeech

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN", "ELEVEN", "TWELVE"]


def utter(name: str, transcript: str = "HELLO", speaker: str = "", seconds: float = 1.0) -> Utterance:
    return Utterance(name, f"/audio/{name}.flac", seconds, transcript, speaker or name.partition("-")[0])


def write_sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 1600), 16000)


def write_tree(subset: Path, transcripts: dict[str, str]) -> None:
    """A tree of LibriSpeech's shape from transcripts by ids."""
    for name, transcript in transcripts.items():
        reader, chapter, _ = name.split("-")
        write_sound(subset / reader / chapter / f"{name}.flac")
        with (subset / reader / chapter / f"{reader}-{chapter}.trans.txt").open("a", encoding="utf-8") as lines:
            lines.write(f"{name} {transcript}\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Small copies of all corpora: somebody of every part, and a train utterance that says what a dev reader says."""
    libri = tmp_path / "source" / "LibriSpeech"
    write_tree(
        libri / "train-clean-5",
        {
            "32-1-0000": "SOMETHING OF ITS OWN",
            "32-1-0001": " ".join(WORDS[:9]),
            "19-5-0000": " ".join(["OH", *WORDS[1:9]]),
            "226-7-0000": "A TEST",
            "1970-2-0000": "NEVER TO BE HEARD",
        },
    )
    write_tree(libri / "dev-clean-20", {"84-3-0000": "FOR CHOOSING", "1272-4-0000": "FOR LEARNING"})
    write_tree(libri / "test-clean", {"61-9-0000": "FOR A FINAL SCORE"})
    ljspeech = tmp_path / "source" / "LJSpeech-1.1"
    write_sound(ljspeech / "wavs" / "LJ001-0001.wav")
    rows = ["LJ001-0001|Dr. 'Who'|Doctor 'Who', isn't it?", "LJ001-0002|is not|there"]
    (ljspeech / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "source"


def write_arctic(folder: Path) -> None:
    """Two takes of a sentence by one reader, another by a second."""
    for name in ("bdl/arctic_a0001_1", "bdl/arctic_a0001_2", "slt/arctic_b0002"):
        write_sound(folder / f"{name}.wav")
    lines = ["( arctic_a0001 \"Author, of the 'trail'.\" )", '( arctic_b0002 "He isn\'t." )', "( damaged"]
    (folder / "cmuarctic.data").write_text("\n".join(lines), encoding="utf-8")


def write_speechocean(folder: Path) -> None:
    """A speaker whose number is a held-out reader's of LibriSpeech, and one more."""
    for half, speaker, text in (("train", "1970", "WE CALL IT BEAR"), ("test", "0003", "ZERO FIVE")):
        write_sound(folder / "WAVE" / f"{speaker}.WAV")
        (folder / half).mkdir()
        rows = {"text": text, "wav.scp": f"WAVE/{speaker}.WAV", "utt2spk": speaker}
        for name, value in rows.items():
            (folder / half / name).write_text(f"{speaker}1\t{value}\n", encoding="utf-8")


def write_common_voice(folder: Path) -> None:
    """A release with a judged and an unjudged table, and version 1, whose table names no speakers."""
    columns = ("client_id", "path", "sentence", "up_votes", "down_votes")
    tables = {
        "validated": [("ab" * 64, "common_voice_en_1.mp3", 'He said "Well, come".', "2", "0")],
        "other": [
            ("cd" * 64, "common_voice_en_2.mp3", "Voted down.", "0", "1"),
            ("cd" * 64, "common_voice_en_3.mp3", "In 1984.", "0", "0"),
            ("cd" * 64, "common_voice_en_4.mp3", "Not here.", "0", "0"),
        ],
    }
    for name in ("r1/clips/common_voice_en_1", "r1/clips/common_voice_en_2", "r1/clips/common_voice_en_3"):
        write_sound(folder / f"{name}.wav")
    for name, rows in tables.items():
        lines = ["\t".join(row) for row in [columns, *rows]]
        (folder / "r1" / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    write_sound(folder / "v1" / "cv-valid-dev" / "sample-000000.wav")
    lines = ["filename,text,up_votes,down_votes", 'cv-valid-dev/sample-000000.mp3,"be careful, said he",1,0']
    (folder / "v1" / "cv-valid-dev.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def prepared(source: Path, tmp_path: Path) -> Path:
    prepare_real(source, tmp_path / "made")
    return tmp_path / "made"


def name_ids(path: Path) -> set[str]:
    return {utterance.id for utterance in read_manifest(path)}


def test_every_reader_is_in_one_part_only(prepared: Path) -> None:
    assert name_ids(prepared / "train_real.jsonl") == {"32-1-0000", "1272-4-0000", "LJ001-0001"}
    assert name_ids(prepared / "dev.jsonl") == {"19-5-0000", "84-3-0000"}
    assert name_ids(prepared / "test_mini.jsonl") == {"226-7-0000"}
    assert name_ids(prepared / "test_clean.jsonl") == {"61-9-0000"}


def test_the_lists_of_readers_share_nobody() -> None:
    lists = (readers.NEVER, readers.TEST_MINI, readers.DEV, readers.TEST_CLEAN)
    assert len(frozenset().union(*lists)) == sum(map(len, lists))
    assert len(readers.TEST_CLEAN) == 40


@pytest.mark.parametrize("reader", ["1970", "6848", "61", "226", "19", "84"])
def test_nobody_held_out_gets_into_training(reader: str) -> None:
    assert choose_part(reader) != "train_real"
    with pytest.raises(ManifestError, match="held out"):
        refuse_held_out([utter("32-1-0000"), utter(f"{reader}-1-0000")])
    with pytest.raises(ManifestError, match="held out"):
        refuse_held_out([utter("new-name", speaker=reader)])
    with pytest.raises(ManifestError, match="held out"):
        refuse_held_out([utter(f"{reader}-1-0000", speaker="somebody")])


def test_the_mix_refuses_a_synthetic_manifest_with_a_held_out_reader(prepared: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "false.jsonl", [utter("6848-1-0000", "IN DISGUISE")])
    with pytest.raises(ManifestError, match="6848"):
        mix(prepared, [tmp_path / "false.jsonl"], None, 0.4, seed=1)
    assert not (prepared / "train.jsonl").exists()


def test_seven_words_of_dev_do_not_get_into_training_and_six_do() -> None:
    held_out = [utter("19-1-0000", " ".join(WORDS))]
    seven, six = utter("a", " ".join(["NO", *WORDS[2:9], "NO"])), utter("b", " ".join(["NO", *WORDS[2:8], "NO"]))
    assert split_by_overlap([seven, six], held_out) == ([six], [seven])


def test_the_mix_leaves_out_synthetic_text_of_dev_and_repeats_real_speech_to_its_share(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real_seconds = sum(u.duration_seconds for u in read_manifest(prepared / "train_real.jsonl"))
    spoken = [utter(f"kokoro-1-{n:06d}", f"SAYING {WORDS[n]}", "af_heart", real_seconds) for n in range(4)]
    overlapping = utter("kokoro-1-000009", " ".join(["OH", *WORDS[1:9]]), "af_heart")
    write_manifest(tmp_path / "spoken.jsonl", [*spoken, overlapping])
    mix(prepared, [tmp_path / "spoken.jsonl"], None, 0.4, seed=1)
    mixed = read_manifest(prepared / "train.jsonl")
    assert {u.id for u in mixed if u.speaker == "af_heart"} == {u.id for u in spoken}
    shares = [sum(u.duration_seconds for u in mixed if (u.speaker == "af_heart") is made) for made in (False, True)]
    assert shares[0] / sum(shares) == pytest.approx(3 / 7)  # twice would be a third, below 40 %
    assert "1 utterances left out, which share seven words" in capsys.readouterr().out


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_real_speech_is_below_one(prepared: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="--real_share"):
        mix(prepared, [], None, share, seed=1)


def test_what_is_missing_is_named_and_odd_counts_are_said(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "LJSpeech-1.1").rename(source / "elsewhere")
    read_sources(find_sources(source), Problems())
    said = capsys.readouterr().out
    assert "missing: LJSpeech-1.1" in said
    assert "has 1 utterances, not 2620" in said


def test_what_cannot_be_used_is_counted_by_kind(tmp_path: Path) -> None:
    write_tree(tmp_path / "train-clean-5", {"32-1-0000": "GOOD", "32-1-0001": "SILENT", "32-1-0002": "BAD 2"})
    chapter = tmp_path / "train-clean-5" / "32" / "1"
    (chapter / "32-1-0001.flac").unlink()
    write_sound(chapter / "32-1-0003.flac")
    write_sound(tmp_path / "train-clean-5" / "33" / "2" / "33-2-0000.flac")  # a chapter without its transcripts
    problems = Problems()
    assert [u.id for u in read_sources(find_sources(tmp_path), problems)] == ["32-1-0000"]
    assert problems.counts == {
        "transcript without audio": 1,
        "audio without a transcript": 1,
        "transcript with characters other than A to Z, apostrophe and space": 1,
        "chapter without its .trans.txt": 1,
    }


def test_the_whole_dev_clean_makes_its_half_needless(source: Path) -> None:
    write_tree(source / "dev-clean", {"84-3-0000": "FOR CHOOSING"})
    assert "dev-clean-20" not in find_sources(source)


def test_a_folder_without_corpora_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none of train-clean-5"):
        find_sources(tmp_path)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Doctor 'Who', isn't it?", "DOCTOR WHO ISN'T IT"),
        ("the prisoners' cells; a café-owner", "THE PRISONERS CELLS A CAFE OWNER"),
        ("in 1863", None),
        ("- - -", None),
    ],
)
def test_other_transcripts_are_written_as_librispeech_writes(text: str, written: str | None) -> None:
    assert write_as_librispeech(text) == written


def overlap_of(train: Sequence[Utterance], texts: Sequence[str] = ()) -> separation.Overlap:
    return measure_overlap("dev", [utter("19-5-0000", " ".join(WORDS))], train, texts)


def test_every_kind_of_overlap_is_counted() -> None:
    assert overlap_of([utter("32-1-0000")], ["A SENTENCE"]).is_none
    assert overlap_of([utter("19-6-0000")]).readers == 1
    assert overlap_of([utter("19-5-0009", speaker="x")]).chapters == 1
    assert overlap_of([utter("32-1-0000", " ".join(WORDS[3:10]))]).train_runs == 1
    assert overlap_of([utter("32-1-0000")], [" ".join(WORDS[3:10])]).text_runs == 1
    assert overlap_of([utter("6848-1-0000")]).never_readers == 1


def test_the_separation_script_ends_with_an_error_where_something_overlaps(prepared: Path) -> None:
    command = [sys.executable, str(ROOT / "recipes/english/separation.py"), "--held_out", str(prepared / "dev.jsonl")]
    good = subprocess.run([*command, "--train", str(prepared / "train_real.jsonl")], capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    bad = subprocess.run([*command, "--train", str(prepared / "dev.jsonl")], capture_output=True, text=True)
    assert bad.returncode == ManifestError.exit_status
    assert "overlaps with what is learnt" in bad.stderr


def test_passages_follow_the_text_and_keep_their_length() -> None:
    sentences = [f"{WORDS[n % 12]} SAID SOMETHING {WORDS[n % 7]}" for n in range(100)]
    text = " ".join(sentences)
    for seed in range(50):
        passage = " ".join(draw_passage(sentences, random.Random(seed)))
        assert passage in text
        assert 1 <= len(passage.split()) <= MOST_WORDS


def test_punctuation_changes_no_word() -> None:
    passage = ["I SAID THAT I'D COME AND I DID BUT WHEN I CAME IT WAS LATE", "I'M SORRY", "WELL"]
    for seed in range(20):
        written = punctuate(passage, random.Random(seed))
        assert written.replace(",", "").replace(".", "").upper().split() == " ".join(passage).split()
        assert written[0].isupper()
        assert written.endswith(".")
        assert " i " not in written


def test_text_with_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A LINE\nLINE 2\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="1 of 2 lines"):
        read_sentences([tmp_path / "text.txt"])


def test_letter_shares_add_up() -> None:
    found = describe(["ABBA CAN'T", "A"])
    shares = found["letter_shares"]
    assert isinstance(shares, dict)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert shares["A"] == pytest.approx(4 / 10)
    assert set(shares) == LETTERS - {" "}
    assert (found["num_words"], found["num_different_words"]) == (3, 3)


def test_other_corpora_train_and_their_readers_of_dev_and_test_are_left_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arctic(source / "cmu_arctic")
    write_speechocean(source / "speechocean762")
    write_tree(source / "LibriSpeech" / "train-clean-100", {"19-198-0000": "FOR DEV", "26-1-0000": "FOR LEARNING TOO"})
    write_tree(source / "LibriSpeech" / "train-clean-100", {"226-1-0000": "FOR TEST", "27-1-0000": "AND THIS"})
    prepare_real(source, tmp_path / "made")
    found = {u.id: u.transcript for u in read_manifest(tmp_path / "made" / "train_real.jsonl")}
    assert {name: text for name, text in found.items() if name[0] in "as"} == {
        **dict.fromkeys(("arctic-bdl-a0001_1", "arctic-bdl-a0001_2"), "AUTHOR OF THE TRAIL"),
        **{"arctic-slt-b0002": "HE ISN'T", "speechocean-19701": "WE CALL IT BEAR", "speechocean-00031": "ZERO FIVE"},
    }
    assert {"19-198-0000", "226-1-0000", "26-1-0000", "27-1-0000"} & found.keys() == {"26-1-0000", "27-1-0000"}
    assert name_ids(tmp_path / "made" / "dev.jsonl") == {"19-5-0000", "84-3-0000"}
    assert "2 utterances left out, of readers of dev and test" in capsys.readouterr().out


def test_common_voice_trains_where_nobody_has_voted_a_clip_down(source: Path) -> None:
    write_common_voice(source / "common_voice")
    problems = Problems()
    found = {u.id: u for u in read_sources(find_sources(source), problems) if u.id.startswith("cv-")}
    assert {name: (u.transcript, u.speaker) for name, u in found.items()} == {
        "cv-r1-common_voice_en_1": ("HE SAID WELL COME", f"cv-{'ab' * 8}"),
        "cv-v1-sample-000000": ("BE CAREFUL SAID HE", "cv1"),
    }
    assert problems.num == 1


def test_a_corpus_without_its_table_is_named(source: Path) -> None:
    (source / "cmu_arctic").mkdir()
    with pytest.raises(ManifestError, match=r"cmuarctic\.data cannot be read"):
        read_sources(find_sources(source), Problems())


def test_speech_with_a_teachers_text_trains_unless_it_is_known_or_held_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path / "labelled.jsonl", [utter("103-1-0000", "HEARD"), utter("32-1-0000", "HEARD OTHERWISE")])
    prepare_real(source, tmp_path / "made", [tmp_path / "labelled.jsonl"])
    found = {u.id: u.transcript for u in read_manifest(tmp_path / "made" / "train_real.jsonl")}
    assert (found["103-1-0000"], found["32-1-0000"]) == ("HEARD", "SOMETHING OF ITS OWN")
    assert "1 utterances train, 1 left out" in capsys.readouterr().out
    write_manifest(tmp_path / "labelled.jsonl", [utter("61-1-0000", "HEARD")])
    with pytest.raises(ManifestError, match="held out"):
        prepare_real(source, tmp_path / "other", [tmp_path / "labelled.jsonl"])
