"""Which decoder a command line or a decoder.json asks for."""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.config import DecodingConfig
from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import (
    DecoderChoice,
    DecodingStream,
    add_decoding_options,
    load_choice,
    make_choice,
    read_choice,
    save_choice,
)
from mindaudio_ds2.decoding.confidence import Calibration, fit_calibration, measure_calibration
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.decoding.label_prior import LabelPrior
from mindaudio_ds2.decoding.tuning import Trial, count_trials, search
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.decoding.beam_cases import make_log_probs, make_model

TOKENIZER = Tokenizer(TextConfig("AB ", "first", "upper", "error"))
PRIOR = LabelPrior(TOKENIZER.symbols, tuple(np.log([0.4, 0.3, 0.2, 0.1]).tolist()))


def parse(
    *arguments: str, section: DecodingConfig | None = None, model: Path = Path("nowhere/best.ckpt")
) -> DecoderChoice | None:
    parser = argparse.ArgumentParser()
    add_decoding_options(parser)
    return read_choice(parser.parse_args(arguments), model, section)


def test_greedy_is_the_default_and_refuses_what_only_a_beam_can() -> None:
    assert parse() is None
    assert parse("--decoder", "greedy") == DecoderChoice()
    with pytest.raises(ConfigError, match="--decoder beam"):
        parse("--lm", "en.lm")


def test_options_win_over_decoder_json(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    saved = DecoderChoice("beam", BeamSettings(weight=2.5, bonus=3.0), model.path, None, Calibration(0.1, 0.9))
    save_choice(tmp_path / "decoder.json", saved, {})
    assert load_choice(tmp_path / "decoder.json") == saved
    chosen = parse("--decoder", str(tmp_path / "decoder.json"), "--lm_weight", "1.5", "--nbest", "4")
    assert chosen is not None
    assert (chosen.settings.weight, chosen.settings.bonus, chosen.settings.num_best) == (1.5, 3.0, 4)
    assert chosen.model_path == model.path


def test_a_label_prior_travels_with_its_weight_and_stays_where_options_are_given(tmp_path: Path) -> None:
    path = tmp_path / "decoder.json"
    saved = DecoderChoice("beam", BeamSettings(prior_weight=0.6), label_prior=PRIOR)
    save_choice(path, saved, {})
    assert load_choice(path) == saved
    chosen = parse("--decoder", str(path), "--lm", "other.lm", "--lm_weight", "2", "--hotwords", "names.txt")
    assert chosen is not None
    assert (chosen.label_prior, chosen.settings.prior_weight) == (PRIOR, 0.6)
    assert saved.describe()["decoder"] == "beam 100, weight 1, bonus 1, unknown -10, prior 0.6"
    assert "prior" not in str(DecoderChoice("beam", label_prior=PRIOR).describe())


def test_a_decoder_json_from_before_label_priors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "decoder.json"
    save_choice(path, DecoderChoice("beam", BeamSettings(weight=2.5)), {})
    row = json.loads(path.read_text())
    del row["label_prior"], row["settings"]["prior_weight"]
    path.write_text(json.dumps(row))
    assert load_choice(path) == DecoderChoice("beam", BeamSettings(weight=2.5))


def test_a_decoder_json_of_another_alphabet_is_refused(tmp_path: Path) -> None:
    save_choice(tmp_path / "decoder.json", DecoderChoice("beam", BeamSettings(prior_weight=0.6), label_prior=PRIOR), {})
    choice = load_choice(tmp_path / "decoder.json")
    choice.open(TOKENIZER, 0.02, None)
    for characters, told in (("ABC ", "it has 4, the network 5"), ("BA ", "label 2 is 'A', the network's 'B'")):
        tokenizer = Tokenizer(TextConfig(characters, "first", "upper", "error"))
        with pytest.raises(LanguageModelError, match=f"prior is of other labels .*{told}.* run mindaudio-ds2 tune"):
            choice.open(tokenizer, 0.02, None)


def test_options_change_the_decoder_beside_the_network(tmp_path: Path) -> None:
    saved = DecoderChoice("beam", BeamSettings(weight=2.5, bonus=3.0))
    save_choice(tmp_path / "decoder.json", saved, {})
    chosen = parse("--hotwords", "names.txt", "--nbest", "3", model=tmp_path / "best.ckpt")
    assert chosen == DecoderChoice("beam", BeamSettings(weight=2.5, bonus=3.0, num_best=3), None, Path("names.txt"))
    assert parse(model=tmp_path / "best.ckpt") is None, "found when the network is loaded"
    section = DecodingConfig(lm="a.lm")  # of eval's --decoding.lm, without a YAML
    assert parse("--decoder", "beam", section=section) == DecoderChoice("beam", model_path=Path("a.lm"))


def test_a_language_model_that_has_gone_is_named_with_who_wants_it(tmp_path: Path) -> None:
    save_choice(tmp_path / "decoder.json", DecoderChoice("beam", model_path=tmp_path / "gone.lm"), {})
    with pytest.raises(LanguageModelError, match=r"decoder\.json decodes with .*gone\.lm.*--decoder greedy"):
        load_choice(tmp_path / "decoder.json")


def test_a_model_without_a_decoder_is_none_to_decode_with() -> None:
    with pytest.raises(ConfigError, match=r"english_stream has no decoder\.json"):
        make_choice(DecodingConfig(decoder="english_stream"))


def test_options_win_over_the_section_key_by_key_and_greedy_over_all_of_it(tmp_path: Path) -> None:
    section = DecodingConfig("beam", "a.lm", "names.txt", nbest=3, beam_width=20, lm_weight=0.0, word_bonus=-1.0)
    settings = BeamSettings(beam_width=20, num_best=3, weight=0.0, bonus=-1.0)
    chosen = DecoderChoice("beam", settings, Path("a.lm"), Path("names.txt"))
    assert make_choice(section) == parse(section=section) == chosen
    other = parse("--lm", "b.lm", "--nbest", "1", section=section)
    assert other == dataclasses.replace(
        chosen, model_path=Path("b.lm"), settings=dataclasses.replace(settings, num_best=1)
    )
    assert parse("--decoder", "greedy", section=section) == DecoderChoice()
    assert parse(section=DecodingConfig()) is None
    assert parse(section=DecodingConfig("greedy")) == DecoderChoice()
    save_choice(tmp_path / "decoder.json", DecoderChoice("beam", BeamSettings(weight=2.5, beam_width=7)), {})
    tuned = make_choice(DecodingConfig(str(tmp_path / "decoder.json"), word_bonus=0.5))
    assert tuned == DecoderChoice("beam", BeamSettings(weight=2.5, beam_width=7, bonus=0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hotwords", "names.txt"), "no use for hotwords; add --decoder beam"),
        (("--decoder", "greedy", "--lm", "a.lm", "--nbest", "2"), "no use for lm, nbest"),
        (("--decoder", "greedy", "--word_bonus", "1"), "no use for word_bonus; add --decoder beam"),
        (("--beam_width", "7"), "no use for beam_width; add --decoder beam"),
        (("--decoder", "beam", "--lm_weight", "2"), "lm_weight 2 weighs a language model.*add --lm X.lm"),
        (("--decoder", "beam", "--beam_width", "1000000"), "beam width 1000000 must be from 1 to 10,000"),
        (("--decoder", "beam", "--nbest", "1001"), "hypotheses 1001 from 1 to 1,000"),
        (("--decoder", "beam", "--beam_width", "0"), r"decoding\.beam_width is 0.*at least 1"),
        (("--decoder", "beam", "--nbest", "0"), r"decoding\.nbest is 0.*at least 1"),
        (("--decoder", "beam", "--nbest", "-1"), r"decoding\.nbest is -1"),
        (("--decoder", "beam", "--lm_weight", "-1"), r"decoding\.lm_weight is -1"),
        (("--decoder", "beam", "--lm_weight", "nan"), r"decoding\.lm_weight is nan"),
        (("--decoder", "beam", "--word_bonus", "inf"), "bonus inf"),
        (("--decoder", "beam", "--lm", ""), r"decoding\.lm is ''"),
        (("--decoder", ""), r"decoding\.decoder is ''"),
    ],
)
def test_impossible_options_are_refused_with_a_remedy(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(*arguments)


def test_what_has_no_effect_is_refused_whatever_asks_for_it(tmp_path: Path) -> None:
    save_choice(tmp_path / "decoder.json", DecoderChoice(), {})
    with pytest.raises(ConfigError, match=r"greedy decoding \(.*decoder\.json\) has no use for nbest"):
        parse("--nbest", "3", model=tmp_path / "best.ckpt")
    with pytest.raises(ConfigError, match="no use for lm; add --decoder beam"):
        make_choice(DecodingConfig(lm="a.lm"))  # of a YAML to train with: where it is null, train decodes greedily
    save_choice(tmp_path / "decoder.json", DecoderChoice("beam"), {})
    with pytest.raises(ConfigError, match="add --lm"):
        parse("--lm_weight", "0.5", model=tmp_path / "best.ckpt")
    chosen = parse("--lm_weight", "0.5", "--lm", "a.lm", model=tmp_path / "best.ckpt")
    assert chosen is not None
    assert chosen.settings.weight == 0.5


@pytest.mark.parametrize("arguments", [("--decoder", "bea"), ("--decoder", "gone.json")])
def test_a_decoder_that_is_none_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(LanguageModelError, match="neither greedy nor beam, and no such file exists"):
        parse(*arguments)


WHOLE = '{"kind": "beam", "language_model": null, "calibration": null, "settings": %s}'


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"kind": "beam", "settings": {"width": 3}}', "[" * 100_000, WHOLE % "[]"),
        *(
            WHOLE % f'{{"beam_width": {width}}}'
            for width in ("1e999", "1000000000000", "10001", '"x"', "true", "9" * 5000, "0")
        ),
        *(WHOLE % f'{{"weight": {weight}}}' for weight in ("1e999", "NaN", "-1", '1, "weight": 2')),
        *(WHOLE % f'{{"prior_weight": {weight}}}' for weight in ("NaN", "-0.1", '"x"', "1e7")),
        *(
            (WHOLE % f'{{"prior_weight": 0.5}}, {prior}')
            for prior in (
                '"label_prior": null',
                '"label_prior": 1',
                '"label_prior": []',
                '"label_prior": {}',
                '"label_prior": [-0.7, -0.6931]',
                '"label_prior": {"": -0.7, "A": "x"}',
                '"label_prior": {"": -0.7, "A": NaN}',
                '"label_prior": {"": -1e999, "A": 0}',
                '"label_prior": {"": -0.7, "A": 0.1}',
                '"label_prior": {"": -0.7, "A": -0.9}',
            )
        ),
        (WHOLE % "{}").replace("beam", "best"),
        (WHOLE % "{}").replace('"calibration": null', '"calibration": {"offset": "x", "slope": 1}'),
    ],
)
def test_foreign_decoder_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "decoder.json").write_text(content)
    with pytest.raises(LanguageModelError, match="tune"):
        load_choice(tmp_path / "decoder.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"it is \[1\], and no object"),
        ("{}", "it lacks 'kind'"),
        (WHOLE % "[]", r"settings is \[\], and no object"),
        (WHOLE % '{"width": 3}', "settings has 'width', which is none of beam_width, "),
        ((WHOLE % "{}").replace('"calibration": null', '"calibration": {"offset": 1}'), "calibration lacks slope"),
        ((WHOLE % "{}").replace('"language_model": null', '"language_model": 5'), "'language_model' is 5, and no path"),
        ((WHOLE % "{}")[:-1] + ', "label_prior": "x"}', "label_prior is 'x', and no object"),
    ],
)
def test_a_decoder_json_edited_by_hand_is_told_what_is_wrong(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "decoder.json").write_text(content)
    with pytest.raises(LanguageModelError, match=message):
        load_choice(tmp_path / "decoder.json")


def test_a_greedy_stream_equals_the_whole() -> None:
    log_probs = make_log_probs(0, 50, 4, 3.0)
    decoder = DecoderChoice().open(TOKENIZER, 0.02, None)
    stream = decoder.start()
    for chunk in np.split(log_probs, [3, 3, 17, 40]):
        stream.feed(chunk)
    assert stream.finish() == decoder.decode(log_probs)


def test_a_language_model_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = make_model(tmp_path).path
    choice = DecoderChoice("beam", BeamSettings(), path)
    choice.open(TOKENIZER, 0.02, None)
    content = path.read_bytes()
    changed = path.with_name("changed.lm")
    changed.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(LanguageModelError, match="checksum"):
        dataclasses.replace(choice, model_path=changed).open(TOKENIZER, 0.02, None)


def test_tuning_finds_settings_no_worse_than_its_start(kernels: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path)
    log_probs, references = [make_log_probs(seed, 30, 4, 2.0) for seed in range(4)], ["A B A", "AB", "A B", "A"]
    trials = search(
        log_probs,
        references,
        BeamSettings(beam_width=10),
        lambda settings: DecoderChoice("beam", settings, model.path, label_prior=PRIOR).open(TOKENIZER, 0.02, kernels),
        lambda trial: None,
    )
    assert trials[0].word_errors == min(trial.word_errors for trial in trials)
    assert trials[0].word_errors < max(trial.word_errors for trial in trials)
    assert len({trial.settings for trial in trials}) == len(trials)


class ValleyDecoder:
    """Makes the more mistakes the further its settings are from the best; bonus goes with weight by `word_cost`."""

    def __init__(self, settings: BeamSettings, best: BeamSettings, word_cost: float) -> None:
        weight, bonus = settings.weight - best.weight, settings.bonus - best.bonus
        slope = 8 * abs(weight) + 4 * abs(bonus - word_cost * weight) + abs(settings.unknown - best.unknown)
        slope += 20 * abs(settings.prior_weight - best.prior_weight)
        self.text = " ".join(["A"] * (400 - int(slope)))

    def decode(self, log_probs: np.ndarray) -> list[Hypothesis]:
        return [Hypothesis(self.text, 0.0, ())]

    def start(self) -> DecodingStream:
        raise NotImplementedError


def tune_in_valley(best: BeamSettings, word_cost: float) -> list[Trial]:
    return search(
        [np.zeros((1, 4), np.float32)],
        [" ".join(["A"] * 400)],
        BeamSettings(),
        lambda settings: ValleyDecoder(settings, best, word_cost),
        lambda trial: None,
    )


@pytest.mark.parametrize(("weight", "bonus", "unknown"), [(0.75, 2.0, -20.0), (3.75, 8.5, -40.0), (0.0, -4.0, -1.0)])
@pytest.mark.parametrize("word_cost", [0.0, 4.0, 8.0])
@pytest.mark.parametrize("prior", [0.0, 0.6, 1.2])
def test_tuning_walks_to_where_it_gets_no_better(
    weight: float, bonus: float, unknown: float, word_cost: float, prior: float
) -> None:
    best = BeamSettings(weight=weight, bonus=bonus, unknown=unknown, prior_weight=prior)
    assert tune_in_valley(best, word_cost)[0].settings == best


def test_tuning_tries_no_more_settings_than_it_says() -> None:
    out_of_reach = BeamSettings(weight=12.0, bonus=60.0, unknown=-20.0, prior_weight=0.6)
    assert len(tune_in_valley(out_of_reach, 0.0)) == count_trials()


def test_calibration_makes_confidences_true_on_other_words() -> None:
    generator = np.random.default_rng(0)
    truth = generator.beta(4, 2, 8000)
    is_right = generator.random(8000) < truth
    raw = truth**3  # far too modest
    calibration = fit_calibration(raw[:4000].tolist(), is_right[:4000].tolist())
    after = [calibration.apply(value) for value in raw[4000:]]
    before = measure_calibration(raw[4000:].tolist(), is_right[4000:].tolist())
    measured = measure_calibration(after, is_right[4000:].tolist())
    assert before["expected_calibration_error"] > 0.1
    assert measured["expected_calibration_error"] < 0.03
    assert measured["normalized_cross_entropy"] > 0.05 > before["normalized_cross_entropy"]


def test_a_perfect_guess_has_no_calibration_error() -> None:
    assert measure_calibration([1.0, 0.0, 1.0], [True, False, True])["expected_calibration_error"] < 1e-3
