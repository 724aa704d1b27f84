import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2 import models
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.custom import configuration
from recipes.custom import prepare as recipe
from recipes.custom.choices import Choices
from recipes.custom.prepare import prepare
from recipes.custom.yaml_text import drop_comments, edit_yaml, quote
from tests.tiny_corpus import RATE_HZ, YAML, RunVerb, draw_transcript, read_metrics, speak, write_yaml

ROOT = Path(__file__).resolve().parent.parent.parent
BASES = sorted((ROOT / "hparams").glob("*.yaml"))


def record(path: Path, text: str, seconds: float = 2.0, rate_hz: int = 16000, seed: int | None = None) -> None:
    """Noise of its own for every path, and its text beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(map(ord, str(path))) if seed is None else seed)
    soundfile.write(path, 0.1 * generator.standard_normal(round(seconds * rate_hz)), rate_hz)
    path.with_suffix(".txt").write_text(text, encoding="utf-8")


def make_source(folder: Path, texts: list[str], speakers: str = "abcde", per_speaker: int = 8, **options: Any) -> Path:
    for speaker in speakers:
        for number in range(per_speaker):
            seed = 1000 * ord(speaker) + number
            record(folder / speaker / f"{number}.wav", texts[number % len(texts)], seed=seed, **options)
    return folder


def read_splits(output: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(output / f"{split}.jsonl") for split in ("train", "dev", "test")}


# The whole way --------------------------------------------------------------------------------------------------------


def test_recordings_are_prepared_and_trained_with_one_command_each(
    run_verb: RunVerb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        transcript = draw_transcript(number)
        path = Path("mine") / f"voice{number % 4}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speak(transcript, number), RATE_HZ)
        path.with_suffix(".txt").write_text(transcript.lower())
    base = write_yaml(tmp_path / "tiny.yaml", YAML)
    monkeypatch.setattr(
        sys, "argv", ["prepare.py", "mine", "--output", "data/tones", "--base", str(base), "--min_duration", "0.1"]
    )
    recipe.main()
    shown = capsys.readouterr().out
    assert "python train.py -c data/tones/hparams.yaml" in shown
    assert run_verb("train", "-c", "data/tones/hparams.yaml", "--training.epochs", "2") == 0
    assert len(read_metrics(tmp_path / "runs" / "tones", "epoch")) == 2
    assert run_verb("eval", "--pre_trained_model_path", "runs/tones/best.ckpt") == 0
    splits = read_splits(tmp_path / "data" / "tones")
    assert sum(map(len, splits.values())) == 40
    assert json.loads((tmp_path / "runs/tones/eval_test.json").read_text())["num_utterances"] == len(splits["test"])


def test_the_alphabet_of_another_network_can_be_taken_over_on_the_command_line(
    run_verb: RunVerb, learned_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output layer is kept with it, and begins anew without."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        path = Path("mine") / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, speak("AB BA", number), RATE_HZ)
        path.with_suffix(".txt").write_text("AB BA")
    base = write_yaml(tmp_path / "tiny.yaml", YAML)
    prepare(Choices(Path("mine"), Path("data/two"), base=base))
    assert read_config("data/two/hparams.yaml").text.characters == " AB"
    start = ("train", "-c", "data/two/hparams.yaml", "--pre_trained_model_path", learned_run / "last.ckpt")
    assert run_verb(*start, "--training.epochs", "1") == 0
    assert "NEW, untrained: head" in Path("runs/two/train.log").read_text()
    kept = ("--run_dir", "runs/kept", "--text.characters", "ABCD ")
    assert run_verb(*start, "--training.epochs", "1", *kept) == 0
    assert "NEW" not in Path("runs/kept/train.log").read_text()


# What it begins with --------------------------------------------------------------------------------------------------


@pytest.fixture
def english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of that name, as far as its card says."""
    folder = tmp_path / "models" / "english"
    folder.mkdir(parents=True)
    (folder / models.WEIGHTS).write_bytes(b"weights")
    card = {"files": {models.WEIGHTS: models.digest(folder / models.WEIGHTS)}}
    (folder / models.CARD).write_text(json.dumps(card))
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(folder.parent))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("english")
def test_english_letters_begin_with_english(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_source(tmp_path / "mine", ["Turn it on, please.", "don't"], rate_hz=8000)
    choices = Choices(source, tmp_path / "data" / "mine", remove=".,")
    prepare(choices)
    path = Path(read_splits(choices.output)["test"][0].audio_path)
    path.with_suffix(".txt").write_text("Zero")  # English knows Z
    prepare(choices)
    shown = capsys.readouterr().out
    assert f"{tmp_path}/data/mine/hparams.yaml --pre_trained_model_path english\n" in shown
    assert "cannot learn to write" not in shown
    config, base = read_config(tmp_path / "data/mine/hparams.yaml"), read_config(configuration.FROM_ENGLISH)
    assert (config.features, config.text, config.model) == (base.features, base.text, base.model)


@pytest.mark.usefixtures("english")
def test_other_letters_begin_with_random_weights_and_it_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source(tmp_path / "mine", ["über alles", "nein"])
    prepare(Choices(source, tmp_path / "data" / "mine"))
    shown = capsys.readouterr().out
    assert "random weights, not with English: the texts have Ü" in shown
    assert "--pre_trained_model_path english" not in shown
    with pytest.raises(ConfigError, match="Ü.*take --start random"):
        prepare(Choices(source, tmp_path / "data" / "mine", start="english"))


@pytest.mark.usefixtures("english")
def test_a_base_or_a_wish_for_random_weights_goes_before_english(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["on", "off"])
    for choices in (Choices(source, tmp_path / "a", start="random"), Choices(source, tmp_path / "a", base=BASES[0])):
        assert configuration.choose_base(["ON"], choices).is_english is False
    with pytest.raises(ConfigError, match="leave --base out"):
        Choices(source, tmp_path / "a", base=BASES[0], start="english")


def test_english_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(models, "PACKAGE_FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no model 'english'"):
        configuration.choose_base(["ON"], Choices(tmp_path, tmp_path / "a", start="english"))


# What is made ---------------------------------------------------------------------------------------------------------

LANGUAGES = {
    "Turkish": ["ışık söndü", "ağaç büyüdü"],
    "German": ["größe zählt", "die straße"],
    "Greek": ["ο λόγος", "του Οδυσσέα"],
    "Russian": ["ёлка горит", "объезд закрыт"],
    "Chinese": ["我喜欢语音", "今天天气"],
    "Hebrew": ["שלום עולם", "בוקר טוב"],
    "Hindi": ["नमस्ते दुनिया", "क्षमा करें"],
    "quotes": ['say "no" \\ yes', "it's # not: a - comment"],
    "hidden": ["zero\u200bwidth", "soft\u00adhyphen \u2066x"],
    "emoji": ["no 🙂", "yes"],
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("letter_case", ["upper", "lower", "keep"])
def test_any_script_gives_a_configuration_that_encodes_all_of_train(
    tmp_path: Path, language: str, letter_case: Any
) -> None:
    source = make_source(tmp_path / "mine", LANGUAGES[language], speakers="abc", per_speaker=2)
    prepare(Choices(source, tmp_path / "out", letter_case=letter_case))
    tokenizer = Tokenizer(read_config(tmp_path / "out" / "hparams.yaml").text)
    assert sorted(tokenizer.characters) == list(tokenizer.characters)
    splits = read_splits(tmp_path / "out")
    heard = [*splits["train"], *splits["dev"]]
    spoken = {c for u in heard for c in tokenizer.normalize(u.transcript)}
    assert set(tokenizer.characters) == spoken
    for utterance in read_splits(tmp_path / "out")["train"]:
        assert len(tokenizer.encode(utterance.transcript))


@pytest.mark.parametrize("base", BASES, ids=lambda path: path.stem)
def test_every_configuration_of_ours_can_be_the_base(tmp_path: Path, base: Path) -> None:
    source = make_source(tmp_path / "mine", ["go on", "stop"], rate_hz=8000)
    prepare(Choices(source, tmp_path / "my data", base=base))
    config, old = read_config(tmp_path / "my data" / "hparams.yaml"), read_config(base)
    assert (config.run_dir, config.text.characters) == ("runs/my data", " GNOPST")
    assert config.data.train_manifest == f"{tmp_path}/my data/train.jsonl"
    assert config.features.sample_rate_hz == 8000
    assert (config.data.max_duration_seconds, config.batching.bucket_edges_seconds) == (2.0, [2.0])
    assert (config.model, config.optimizer, config.schedule) == (old.model, old.optimizer, old.schedule)
    text = (tmp_path / "my data" / "hparams.yaml").read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if "#" in line]
    assert len(comments) == len(text.split("\n\n")[0].splitlines()), "the base's comments speak of another corpus"


def test_durations_and_buckets_come_from_train(tmp_path: Path) -> None:
    seconds = np.random.default_rng(1).uniform(1.0, 9.7, 600)
    train = [Utterance(f"{i}", str(tmp_path / "a.wav"), float(s), "GO ON", "") for i, s in enumerate(seconds)]
    record(tmp_path / "a.wav", "GO ON", rate_hz=44100)
    base = configuration.read_base(ROOT / "hparams" / "an4.yaml")
    values = configuration.choose_values(train, " GNO", base, Choices(tmp_path, tmp_path))
    edges = yaml.safe_load(values["batching.bucket_edges_seconds"])
    assert values["features.sample_rate_hz"] == "16000"
    assert len(edges) == 12
    assert float(values["data.max_duration_seconds"]) == edges[-1] >= seconds.max() > edges[-2]
    shares = np.histogram(seconds, [0, *edges])[0] / len(seconds)
    assert shares.min() > 0.5 / 12
    assert shares.max() < 2 / 12


def test_speakers_are_not_shared_between_splits(tmp_path: Path) -> None:
    prepare(Choices(make_source(tmp_path / "mine", ["go", "stop"]), tmp_path / "out"))
    speakers = [{u.speaker for u in members} for members in read_splits(tmp_path / "out").values()]
    assert [len(each) for each in speakers] == [3, 1, 1]
    assert len(set.union(*speakers)) == 5


def test_a_table_is_prepared_like_a_folder(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go, on!", "stop"])
    rows = [f"{path.relative_to(source)}\t{path.with_suffix('.txt').read_text()}" for path in source.rglob("*.wav")]
    (source / "all.tsv").write_text("path\tsentence\n" + "\n".join(rows))
    prepare(Choices(source / "all.tsv", tmp_path / "out", remove=",!"))
    utterances = [u for members in read_splits(tmp_path / "out").values() for u in members]
    assert {u.transcript for u in utterances} == {"go on", "stop"}
    assert len(utterances) == 40


def test_audio_beside_its_manifest_is_named_relative_to_it(tmp_path: Path) -> None:
    make_source(tmp_path / "out" / "audio", ["go", "stop"])
    prepare(Choices(tmp_path / "out" / "audio", tmp_path / "out"))
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert all(Path(u.audio_path).exists() for members in read_splits(tmp_path / "moved").values() for u in members)


def test_preparing_twice_in_the_source_itself_gives_the_same(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go", "stop"])
    (source / "a" / "orphan.txt").write_text("nobody")
    choices = Choices(source, source, max_problem_share=0.1)
    prepare(choices)
    first = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    prepare(choices)
    assert {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()} == first


def test_a_changed_configuration_is_kept_when_a_new_one_is_made(tmp_path: Path) -> None:
    choices = Choices(make_source(tmp_path / "mine", ["go", "stop"]), tmp_path / "out", start="random")
    prepare(choices)
    hparams = choices.output / "hparams.yaml"
    changed = hparams.read_text(encoding="utf-8").replace("epochs: 40", "epochs: 7")
    hparams.write_text(changed, encoding="utf-8")
    prepare(choices)
    assert (choices.output / "hparams.previous.yaml").read_text(encoding="utf-8") == changed
    assert read_config(hparams).training.epochs == 40


# What is wrong --------------------------------------------------------------------------------------------------------


def test_everything_wrong_is_in_one_report_and_stops_past_the_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source(tmp_path / "mine", ["go", "stop"])
    shutil.copy(source / "a" / "1.wav", source / "b" / "2.wav")
    (source / "a" / "2.txt").unlink()
    (source / "a" / "3.wav").unlink()
    (source / "a" / "4.wav").write_bytes((source / "a" / "5.wav").read_bytes()[:900])
    (source / "a" / "5.txt").write_text(" ")
    record(source / "c" / "long.wav", "go", seconds=31.0)
    record(source / "c" / "short.wav", "go", seconds=0.1)
    record(source / "c" / "wrong.wav", "far more words than anybody can say in so little time", seconds=1.0)
    kinds = (
        *(
            "audio without text",
            "text without audio",
            "audio that cannot be used",
            "empty text",
            "the same sound twice",
        ),
        *("outside of 0.2 to 30 s", "text too long for its audio"),
    )
    with pytest.raises(ManifestError) as raised:
        prepare(Choices(source, tmp_path / "out"))
    assert not (tmp_path / "out" / "train.jsonl").exists()
    report = (tmp_path / "out" / "problems.log").read_text(encoding="utf-8")
    for kind in kinds:
        assert kind in str(raised.value)
        assert kind in report
    prepare(Choices(source, tmp_path / "out", max_problem_share=0.2))
    assert "8 cannot be used and are left out" in capsys.readouterr().out
    assert sum(map(len, read_splits(tmp_path / "out").values())) == 35


def test_an_old_report_does_not_outlive_its_problems(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go", "stop"])
    (source / "orphan.txt").write_text("nobody")
    with pytest.raises(ManifestError, match="orphan"):
        prepare(Choices(source, tmp_path / "out"))
    (source / "orphan.txt").unlink()
    prepare(Choices(source, tmp_path / "out"))
    assert not (tmp_path / "out" / "problems.log").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dev_share": 0.0}, "--dev_share 0"),
        ({"dev_share": 0.5, "test_share": 0.5}, "leave something to train on"),
        ({"test_share": -0.1}, "--test_share -0.1"),
        ({"workers": 0}, "--workers 0"),
        ({"max_problem_share": 1.5}, "--max_problem_share 1.5"),
        ({"min_duration": 3.0, "max_duration": 3.0}, "below --max_duration"),
    ],
)
def test_impossible_choices_are_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Choices(tmp_path, tmp_path, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just: a mapping\n", "is no configuration .'features'"),
        ("- a list\n", "is no configuration"),
        ("a: [\n", "cannot be read as YAML"),
        ("features: {hop_seconds: 0.01}\nmodel: {conv_stride_time: [2]}\nbatching: {}\n", "'max_batch_padded_seconds'"),
    ],
)
def test_a_base_that_is_no_configuration_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "base.yaml").write_text(text)
    source = make_source(tmp_path / "mine", ["go"])
    with pytest.raises(ConfigError, match=message):
        prepare(Choices(source, tmp_path / "out", base=tmp_path / "base.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        prepare(Choices(source, tmp_path / "out", base=tmp_path / "none.yaml"))


# Editing YAML ---------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_quoted_text_is_read_back_by_yaml(text: str) -> None:
    assert yaml.safe_load(f"key: {quote(text)}\n") == {"key": text}


def test_values_are_replaced_in_every_style_and_nothing_else_changes() -> None:
    text = (
        "# head\n# more\n\na:\n  flow: [1,\n    2]  # of two lines\n  block:\n  - 1\n  - 2\n  # behind the list\n"
        "  word: 'it''s'   # why\n  none:\n  lines: |\n    x\n\n  indented:\n    - 1\n\nb: {flow: 3}\n"
    )
    values = {"a.flow": "[9]", "a.block": "[8]", "a.word": '"x"', "a.none": "7", "a.lines": "y", "b.flow": "6"}
    edited = edit_yaml(text, {**values, "a.indented": "[5]"}, "x.yaml")
    assert edited == (
        "\na:\n  flow: [9]  # of two lines\n  block: [8]\n  # behind the list\n"
        '  word: "x"   # why\n  none: 7\n  lines: y\n\n  indented: [5]\n\nb: {flow: 6}\n'
    )
    a = {"flow": [9], "block": [8], "word": "x", "none": 7, "lines": "y", "indented": [5]}
    assert yaml.safe_load(edited) == {"a": a, "b": {"flow": 6}}


def test_a_missing_key_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="lacks the key a.c"):
        edit_yaml("a: {b: 1}\n", {"a.c": "2"}, "x.yaml")


def test_comments_go_and_all_else_stays() -> None:
    text = "# head\na: 1  # one\n\n# of b\nb: {c: '# no comment', d: \"it's # none\"}  # two\ne: x#y\n"
    dropped = drop_comments(text)
    assert dropped == "a: 1\n\nb: {c: '# no comment', d: \"it's # none\"}\ne: x#y\n"
    assert yaml.safe_load(dropped) == yaml.safe_load(text)


def test_silence_with_a_text_is_left_out_and_told(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go", "stop"])
    soundfile.write(source / "a" / "0.wav", np.zeros(32000), 16000)
    with pytest.raises(ManifestError, match="silence with a text: 1\n.*holds only zeros"):
        prepare(Choices(source, tmp_path / "out"))
    prepare(Choices(source, tmp_path / "out", max_problem_share=0.1))
    assert sum(map(len, read_splits(tmp_path / "out").values())) == 39


def test_letters_of_all_parts_are_in_the_alphabet(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go"])
    prepare(Choices(source, tmp_path / "out", start="random"))
    for part, text in (("dev", "go x"), ("test", "go y")):
        path = Path(read_splits(tmp_path / "out")[part][0].audio_path)
        path.with_suffix(".txt").write_text(text)
    prepare(Choices(source, tmp_path / "out", start="random"))
    assert read_config(tmp_path / "out" / "hparams.yaml").text.characters == " GOXY"


def test_an_alphabet_can_be_given_and_other_texts_are_left_out(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mine", ["go", "stop"])
    (source / "a" / "0.txt").write_text("größe")
    choices = Choices(source, tmp_path / "out", characters="ABCDEFGHIJKLMNOPQRSTUVWXYZ ", max_problem_share=0.1)
    prepare(choices)
    assert read_config(tmp_path / "out" / "hparams.yaml").text.characters == choices.characters
    report = (tmp_path / "out" / "problems.log").read_text(encoding="utf-8")
    assert "text with characters outside of --characters: 1" in report
    assert "U+00D6" in report
