"""The door for manifests of every format, up to the words that they score."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.corpus import opening
from mindaudio_ds2.corpus.format_writers import write_any_manifest
from mindaudio_ds2.corpus.formats import FORMATS, Format
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.errors import ManifestError
from tests.tiny_corpus import evaluate_one, make_config, read_metrics, train_first_epoch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, in which everything that is measured is kept; counts are in `measured`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "SECONDS_WORTH_KEEPING", 0.0)
    return tmp_path / "cache" / "mindaudio_ds2" / "durations"


def count_measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    measure = opening.measure_durations

    def count(paths: list[Path], num_workers: int) -> Any:
        counts.append(len(paths))
        return measure(paths, num_workers)

    monkeypatch.setattr(opening, "measure_durations", count)
    return counts


def write_relative(folder: Path, kind: Format, utterances: list[Utterance]) -> Path:
    """A manifest whose paths have no folder; the recordings are links below `folder`/sound."""
    (folder / "sound").mkdir(parents=True)
    rows = []
    for utterance in utterances:
        name = Path(utterance.audio_path).name
        (folder / "sound" / name).symlink_to(utterance.audio_path)
        (folder / "sound" / name).with_suffix(".txt").write_text(utterance.transcript)
        rows.append((name, Path(name).with_suffix(".txt").name, utterance.transcript, utterance.duration_seconds))
    (folder / "lists").mkdir()
    path = folder / "lists" / "manifest"
    if kind == "deepspeech.pytorch":
        samples = [{"wav_path": name, "transcript_path": text} for name, text, _, _ in rows]
        path.write_text(json.dumps({"root_path": ".", "samples": samples}, indent=1))
    elif kind == "mindspore":
        path.write_text("".join(f"{folder}/sound/{name},{folder}/sound/{text}\n" for name, text, _, _ in rows))
        path.write_text(path.read_text().replace(f"{folder}/sound/", ""))
    elif kind == "ours":
        keys = ("id", "audio_path", "transcript", "duration_seconds")
        lines = [json.dumps(dict(zip(keys, (name, name, words, s), strict=True))) for name, _, words, s in rows]
        path.write_text("\n".join(lines))
    else:
        mark = "\t" if kind == "tensorflow" else ","
        lines = [mark.join(("wav_filename", "wav_filesize", "transcript"))]
        path.write_text("\n".join([*lines, *(mark.join((name, "1", words)) for name, _, words, _ in rows)]))
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_told_apart_and_says_the_same(kind: Format, corpus: Path, tmp_path: Path) -> None:
    wanted = read_manifest(corpus / "dev.jsonl")
    write_any_manifest(tmp_path / "dev", wanted, kind)
    found = open_manifest(tmp_path / "dev")
    assert [(u.audio_path, u.transcript, u.duration_seconds) for u in found] == [
        (u.audio_path, u.transcript, u.duration_seconds) for u in wanted
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_relative_paths_count_from_the_folder_that_is_named(kind: Format, corpus: Path, tmp_path: Path) -> None:
    path = write_relative(tmp_path, kind, read_manifest(corpus / "dev.jsonl"))
    found = open_manifest(path, tmp_path / "sound")
    assert {Path(u.audio_path).parent.name for u in found} == {"sound"}
    assert all(Path(u.audio_path).exists() for u in found)
    if kind == "ours":
        assert not Path(open_manifest(path)[0].audio_path).exists()
    else:
        with pytest.raises(ManifestError, match="5 problems among 5"):
            open_manifest(path)


def test_durations_are_measured_once(
    cache: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_relative(tmp_path, "mozilla", read_manifest(corpus / "dev.jsonl"))
    counts = count_measured(monkeypatch)
    first = open_manifest(path, tmp_path / "sound")
    assert open_manifest(path, tmp_path / "sound") == first
    assert counts == [5]
    changed = tmp_path / "sound" / "dev_0.wav"
    sound = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(sound)
    os.utime(changed, ns=(1, 1))
    assert open_manifest(path, tmp_path / "sound") == first
    assert counts == [5, 1], "only what has changed is measured again"


@pytest.mark.parametrize("damage", ["", "[1, 2]", '{"x": 5}', '{"x": ["a", 1, 2]}', "[" * 100_000])
def test_a_damaged_list_of_durations_is_made_anew(cache: Path, corpus: Path, tmp_path: Path, damage: str) -> None:
    path = write_relative(tmp_path, "mozilla", read_manifest(corpus / "dev.jsonl"))
    first = open_manifest(path, tmp_path / "sound")
    (kept,) = cache.iterdir()
    kept.write_text(damage)
    assert open_manifest(path, tmp_path / "sound") == first
    assert len(json.loads(kept.read_text())) == 5


def test_what_is_measured_in_a_moment_is_not_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_relative(tmp_path, "mozilla", read_manifest(corpus / "dev.jsonl"))
    open_manifest(path, tmp_path / "sound")
    assert not (tmp_path / "cache" / "mindaudio_ds2" / "durations").exists()


def test_rows_that_cannot_be_used_are_an_error_that_lists_them(corpus: Path, tmp_path: Path) -> None:
    path = write_relative(tmp_path, "mozilla", read_manifest(corpus / "dev.jsonl"))
    path.write_text(f"{path.read_text()}\nnowhere.wav,1,A B\nsomewhere.wav\n")
    with pytest.raises(ManifestError) as raised:
        open_manifest(path, tmp_path / "sound")
    for text in ("2 problems among 7", "nowhere.wav", "line 8", "manifest convert", str(path)):
        assert text in str(raised.value)


def test_a_damaged_line_of_our_own_format_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "audio_path"\n')
    with pytest.raises(ManifestError, match="1 unusable lines(.|\n)*line 1: not JSON"):
        open_manifest(tmp_path / "a.jsonl")


@pytest.mark.parametrize("kind", ["deepspeech.pytorch", "mozilla"])
def test_training_and_evaluation_read_foreign_manifests_as_they_are(
    kind: Format, corpus: Path, finished_run: Path, tmp_path: Path
) -> None:
    """With the losses, and the errors on dev, of the run that reads our own."""
    manifests = {}
    for split in ("train", "dev"):
        manifests[split] = write_relative(tmp_path / split, kind, read_manifest(corpus / f"{split}.jsonl"))
    (tmp_path / "sound").symlink_to(tmp_path / "train" / "sound")
    for link in (tmp_path / "dev" / "sound").iterdir():
        (tmp_path / "train" / "sound" / link.name).symlink_to(link)
    where = {"data.root": str(tmp_path / "sound"), "data.test_manifest": str(manifests["dev"])}
    changes = {**where, "data.train_manifest": str(manifests["train"]), "data.dev_manifest": str(manifests["dev"])}
    train_first_epoch(make_config(corpus, tmp_path / "run", changes))
    mine, theirs = (read_metrics(run, "step") for run in (tmp_path / "run", finished_run))
    assert len(mine) == 5
    assert [row["loss"] for row in mine] == [row["loss"] for row in theirs if row["epoch"] == 1]
    evaluation, path = evaluate_one(finished_run / "best.ckpt", where, None, str(tmp_path))
    assert evaluation.counts.num_utterances == 5
    assert evaluation.counts.wer == min(row["dev_wer"] for row in read_metrics(finished_run, "epoch"))
    assert json.loads(path.read_text())["data_root"] == str(tmp_path / "sound")
