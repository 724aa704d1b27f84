import importlib.metadata
import json
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import OutputError
from recipes.synthetic import prepare as recipe
from recipes.synthetic.prepare import SynthesisError, build_corpus

espeakng_loader = pytest.importorskip("espeakng_loader", reason="the built-in corpus needs the extra [demo]")

SPLITS = ("train", "dev", "test")
RATE_HZ = 16000


def build_small(output: Path, seed: int = 1, num_train: int = 20, num_processes: int = 2) -> Path:
    build_corpus(
        output,
        seed,
        num_train_utterances=num_train,
        num_dev_utterances=8,
        num_test_utterances=16,
        num_processes=num_processes,
    )
    return output


def read_files(folder: Path) -> dict[str, bytes]:
    return {f"{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_splits(folder: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(folder / f"{split}.jsonl") for split in SPLITS}


@pytest.fixture(autouse=True, scope="module")
def several_blocks() -> Iterator[None]:
    """Blocks so small that even these corpora have several to a split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "UTTERANCES_PER_PROCESS", 12)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus that tests read, and copy where they want to change it."""
    return build_small(tmp_path_factory.mktemp("synthetic") / "a")


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_processes(corpus: Path, tmp_path: Path) -> None:
    two = read_files(corpus)
    assert read_files(build_small(tmp_path / "a", num_processes=1)) == two
    assert read_files(build_small(tmp_path / "b", num_processes=3)) == two
    assert sum(name.endswith(".flac") for name in two) == 20 + 8 + 16


def test_another_seed_gives_another_corpus(corpus: Path, tmp_path: Path) -> None:
    ours, other = read_splits(corpus), read_splits(build_small(tmp_path / "a", seed=2))
    assert [u.speaker for u in ours["test"]] == [u.speaker for u in other["test"]]
    assert [u.transcript for u in ours["test"]] != [u.transcript for u in other["test"]]
    assert {(corpus / path).read_bytes() for path in read_files(corpus)}.isdisjoint(read_files(tmp_path / "a").values())


def test_dev_and_test_do_not_change_with_the_size_of_train(corpus: Path, tmp_path: Path) -> None:
    first, second = read_files(corpus), read_files(build_small(tmp_path / "a", num_train=5))
    kept = [name for name in second if "train" not in name and name != recipe.STAMP_NAME]
    assert len(kept) == 2 + 8 + 16
    assert {name: first[name] for name in kept} == {name: second[name] for name in kept}


def test_no_voice_is_heard_in_two_splits(corpus: Path) -> None:
    speakers = {split: {u.speaker for u in utterances} for split, utterances in read_splits(corpus).items()}
    assert {split: names - set(recipe.VOICES[split]) for split, names in speakers.items()} == dict.fromkeys(
        SPLITS, set()
    )
    assert [len(names) for names in speakers.values()] == [20, len(recipe.VOICES["dev"]), len(recipe.VOICES["test"])]
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    assert not speakers["dev"] & speakers["test"]


def test_no_relative_of_a_voice_is_in_another_split() -> None:
    families = [{re.sub(r"(?<=[a-z]{2})\d+$", "", voice.lower()) for voice in recipe.VOICES[s]} for s in SPLITS]
    assert sum(len(family) for family in families) == len(set.union(*families))


def test_every_voice_stands_once_and_exists() -> None:
    voices = [voice for split in SPLITS for voice in recipe.VOICES[split]]
    assert len(voices) == len(set(voices))
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    assert {path.name for path in folder.iterdir()} >= set(voices)


def test_no_sentence_of_several_words_comes_twice(corpus: Path) -> None:
    transcripts = [u.transcript for utterances in read_splits(corpus).values() for u in utterances]
    several = [transcript for transcript in transcripts if " " in transcript]
    assert len(several) == len(set(several))
    assert set(transcripts) - set(several) <= {*recipe.COMMANDS, *recipe.ONES, *recipe.TENS, *recipe.LETTERS}


def test_audio_is_what_the_manifest_says(corpus: Path) -> None:
    for utterances in read_splits(corpus).values():
        for utterance in utterances:
            info = soundfile.info(utterance.audio_path)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE_HZ, 1)
            assert utterance.duration_seconds == info.frames / RATE_HZ
            assert f"{corpus}/audio/{utterance.id.split('-')[0]}/{utterance.id}.flac" == utterance.audio_path


def test_no_utterance_is_empty_clipped_or_like_another(corpus: Path) -> None:
    contents = set()
    for utterances in read_splits(corpus).values():
        for utterance in utterances:
            waveform = read_audio(utterance.audio_path, RATE_HZ)
            assert 0.19 < np.abs(waveform).max() < 0.99
            levels = np.sqrt(np.mean(waveform[: len(waveform) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
            assert np.mean(levels > levels.max() / 30) > 0.2  # speech, not a click in a pause
            assert 0.4 < utterance.duration_seconds < 8
            contents.add(Path(utterance.audio_path).read_bytes())
    assert len(contents) == 20 + 8 + 16


def test_every_transcript_is_in_the_usual_alphabet(corpus: Path) -> None:
    text = " ".join(u.transcript for utterances in read_splits(corpus).values() for u in utterances)
    assert set(text) <= set("'ABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    assert text == " ".join(text.split())


def test_numbers_are_spelled_as_they_are_read() -> None:
    values = {word: number for number, word in enumerate(recipe.ONES)}
    values |= {word: 10 * number for number, word in enumerate(recipe.TENS) if word}
    for number in range(1000):
        total = 0
        for word in recipe.spell_number(number).split():
            total = total * 100 if word == "HUNDRED" else total + values[word]
        assert total == number
    assert recipe.spell_number(345) == "THREE HUNDRED FORTY FIVE"
    assert len({recipe.spell_number(number) for number in range(1000)}) == 1000


def test_days_are_spelled_as_they_are_read() -> None:
    expected = (
        "FIRST SECOND THIRD FOURTH FIFTH SIXTH SEVENTH EIGHTH NINTH TENTH ELEVENTH TWELFTH THIRTEENTH FOURTEENTH "
        "FIFTEENTH SIXTEENTH SEVENTEENTH EIGHTEENTH NINETEENTH TWENTIETH"
    )
    assert [recipe.spell_ordinal(day) for day in range(1, 21)] == expected.split(" ")
    assert [recipe.spell_ordinal(day) for day in (21, 22, 30, 31)] == [
        "TWENTY FIRST",
        "TWENTY SECOND",
        "THIRTIETH",
        "THIRTY FIRST",
    ]


def test_sentences_cover_every_letter_digit_month_and_command() -> None:
    rng = random.Random(5)
    words = {word for _ in range(3000) for word in recipe.draw_sentence(rng).split()}
    assert words >= {
        *recipe.COMMANDS,
        *recipe.LETTERS,
        *recipe.ONES,
        *filter(None, recipe.TENS),
        *recipe.MONTHS,
        "O'CLOCK",
    }
    assert words - {word.strip("'") for word in words} == set()
    assert len(words) < 150


def test_a_finished_corpus_is_left_alone(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    build_small(corpus)
    assert "holds this corpus already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


@pytest.mark.parametrize("damage", ["cut audio", "lost audio", "cut manifest", "lost manifest", "cut stamp"])
def test_a_damaged_corpus_is_made_anew(corpus: Path, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(corpus, tmp_path / "a"))
    kind, what = damage.split()
    names = {"audio": "audio/train/train-00003.flac", "manifest": "dev.jsonl", "stamp": recipe.STAMP_NAME}
    path = folder / names[what]
    if kind == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    build_small(folder)
    assert read_files(folder) == read_files(corpus)


def test_an_interrupted_corpus_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_small(tmp_path / "a")
    assert not (tmp_path / "a/train.jsonl").exists()
    build_small(tmp_path / "a")
    assert [len(utterances) for utterances in read_splits(tmp_path / "a").values()] == [20, 8, 16]


def test_other_settings_replace_the_corpus_without_leftovers(corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(corpus, tmp_path / "a"))
    build_small(folder, num_train=5)
    assert read_files(folder) == read_files(build_small(tmp_path / "b", num_train=5))


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/mine.wav").write_text("mine")
    with pytest.raises(OutputError, match="holds files that are not of this corpus; choose another folder"):
        build_small(tmp_path)
    assert list(read_files(tmp_path)) == ["audio/mine.wav"]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another folder"):
        build_small(tmp_path / "file")


def test_a_missing_synthesizer_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--output", f"{tmp_path / 'a'}"])
    with pytest.raises(SystemExit, match="2"):
        recipe.main()
    assert "pip install 'mindaudio_ds2[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_failing_synthesizer_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "ACCENTS", ("nowhere",))
    with pytest.raises(SynthesisError, match="has no voice 'nowhere"):
        build_small(tmp_path / "a")


def test_the_command_line_sets_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--seed 3 --num_train_utterances 4 --num_dev_utterances 2 --num_test_utterances 3 --num_processes 1"
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--output", f"{tmp_path / 'a'}", *arguments.split()])
    recipe.main()
    assert [len(utterances) for utterances in read_splits(tmp_path / "a").values()] == [4, 2, 3]
    assert json.loads((tmp_path / "a" / recipe.STAMP_NAME).read_text())["seed"] == 3
    assert "train: 4 utterances" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_an_impossible_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--num_dev_utterances", value])
    with pytest.raises(SystemExit, match="2"):
        recipe.main()
    assert "--num_dev_utterances" in capsys.readouterr().err
