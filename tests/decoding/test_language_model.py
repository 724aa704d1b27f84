"""Language models against KenLM, and files that are damaged."""

import contextlib
import gzip
import os
import random
import subprocess
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.decoding.arpa import read_arpa
from mindaudio_ds2.decoding.beam import score_words
from mindaudio_ds2.decoding.language_model import LanguageModel, NgramTables
from mindaudio_ds2.decoding.ngram_estimate import encode_sentences, estimate, estimate_tokens
from mindaudio_ds2.errors import LanguageModelError
from tests.decoding.beam_cases import ARPA, make_model, store, write_arpa

ROOT = Path(__file__).resolve().parents[2]


def make_text(num_sentences: int, seed: int = 0) -> list[str]:
    """Sentences of a little language: words of Zipf's frequencies, each leaning on the one before it."""
    generator = np.random.default_rng(seed)
    sentences = []
    for _ in range(num_sentences):
        words = [int(generator.zipf(1.4)) % 300]
        for _ in range(int(generator.integers(0, 12))):
            words.append((words[-1] * 7 + int(generator.zipf(1.6))) % 300)
        sentences.append(" ".join(f"W{word}É" for word in words))
    return sentences


@pytest.mark.parametrize("order", [2, 3, 5])  # KenLM reads no unigrams
@pytest.mark.parametrize("threshold", [0.0, 1e-5], ids=["whole", "pruned"])
def test_scores_equal_those_of_kenlm(order: int, threshold: float, tmp_path: Path, kernels: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="ufal-kenlm is not installed")
    tables = estimate(make_text(2000), order, threshold)
    write_arpa(tmp_path / "model.arpa", tables)
    theirs = kenlm.Model(str(tmp_path / "model.arpa"))
    ours = store(tmp_path / "model.lm", tables)
    again = store(tmp_path / "again.lm", read_arpa(tmp_path / "model.arpa"))
    assert again.counts == ours.counts
    for sentence in [*make_text(100, seed=1), "NEVER HEARD W1É", "W1É W2É NEVER W1É", ""]:
        expected = theirs.score(sentence, bos=True, eos=True)
        assert ours.score_sentence(sentence) == pytest.approx(expected, abs=1e-4)
        assert again.score_sentence(sentence) == pytest.approx(expected, abs=1e-4)
        words = np.array([*map(ours.find, sentence.split()), 2], np.uint32)
        assert score_words(ours, words, kernels).sum() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("num_words", [None, 40], ids=["all_words", "some_words"])
@pytest.mark.parametrize("threshold", [0.0, 1e-5], ids=["whole", "pruned"])
def test_probabilities_after_any_context_add_up_to_one(threshold: float, num_words: int | None, tmp_path: Path) -> None:
    tokens = encode_sentences(make_text(300), num_words)
    model = store(tmp_path / "model.lm", estimate_tokens(tokens, 3, threshold))
    states = {model.start()}
    for sentence in make_text(5, seed=2):
        state = model.start()
        for word in sentence.split():
            state, _ = model.score(state, model.find(word))
            states.add(state)
    for state in states:
        total = sum(10 ** model.score(state, word)[1] for word in range(model.counts[0]))
        assert total == pytest.approx(1.0, abs=1e-4)


SMALL = ["A B A C", "A RARE B A", "B A B", "C SCARCE", "SELDOM", "A B A B C"]
CUT = [["<s>", *"ABAC", "</s>"], ["<s>", "A"], ["B", "A", "</s>"], ["<s>", *"BAB", "</s>"], ["<s>", "C"]]
CUT += [["</s>"], ["<s>"], ["</s>"], ["<s>", *"ABABC", "</s>"]]


def find_probability(pieces: list[list[str]], order: int, context: tuple[str, ...], word: str) -> float:
    """Interpolated Kneser-Ney by its definition; too few n-grams for other discounts than 0.5, 1 and 1.5."""
    raw = Counter(
        tuple(piece[at : at + n]) for piece in pieces for n in range(1, order + 1) for at in range(len(piece) - n + 1)
    )
    left = Counter(gram[1:] for gram in raw)
    counts = {gram: raw[gram] if len(gram) == order or gram[0] == "<s>" else left[gram] for gram in raw}
    counts[("<s>",)] = 0
    after = {gram[-1]: counts[gram] for gram in counts if gram[:-1] == context}
    total, taken = sum(after.values()), sum(min(count, 3) / 2 for count in after.values())
    lower = find_probability(pieces, order, context[1:], word) if context else 1 / 5  # A, B, C, </s> and <unk>
    return (after.get(word, 0) - min(after.get(word, 0), 3) / 2 + taken * lower) / total if total else lower


def test_words_that_are_cut_end_and_begin_ngrams(tmp_path: Path) -> None:
    tokens = encode_sentences(SMALL, 3)
    assert tokens.words == ["<unk>", "<s>", "</s>", "A", "B", "C"]
    assert tokens.cut_share == 3 / 19
    model = store(tmp_path / "model.lm", estimate_tokens(tokens, 3))
    for sentence in ("A B A", "B A B C", "C", "A A", "B B C A"):
        words = ["<s>", *sentence.split(), "</s>"]
        expected = sum(
            np.log10(find_probability(CUT, 3, tuple(words[max(at - 2, 0) : at]), words[at]))
            for at in range(1, len(words))
        )
        assert model.score_sentence(sentence) == pytest.approx(expected, abs=1e-5)


def test_most_frequent_words_are_kept_and_the_first_of_equal_ones() -> None:
    text = ["É Z B", "B C", "C É Z"]
    assert [encode_sentences(text, n).words[3:] for n in (1, 2, 3, 4, 9)] == [
        ["B"], ["B", "C"], ["B", "C", "Z"], ["B", "C", "Z", "É"], ["B", "C", "Z", "É"]
    ]  # fmt: skip


@pytest.mark.parametrize("threshold", [0.0, 1e-5], ids=["whole", "pruned"])
def test_nothing_changes_where_no_word_is_cut(threshold: float) -> None:
    whole = estimate(make_text(300), 3, threshold)
    same = estimate_tokens(encode_sentences(make_text(300), 10**6), 3, threshold)
    for name, value in vars(whole).items():
        assert np.array_equal(value, getattr(same, name)), name


def test_pruning_takes_many_ngrams_and_little_perplexity(tmp_path: Path) -> None:
    whole, pruned = (store(tmp_path / f"{t}.lm", estimate(make_text(4000), 3, t)) for t in (0.0, 1e-5))
    held_out = make_text(300, seed=9)
    log10 = [sum(map(model.score_sentence, held_out)) for model in (whole, pruned)]
    assert sum(pruned.counts) < 0.8 * sum(whole.counts)
    assert log10[1] > 1.05 * log10[0]


def test_tiny_model_has_the_numbers_of_its_arpa_file(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    assert model.score_sentence("A B A") == pytest.approx(-0.3 - 0.1 - 0.2 - 0.2 - 0.3 - 1.0, abs=1e-6)
    assert model.score_sentence("AB") == pytest.approx(-0.4 - 0.9 - 0.5, abs=1e-6)


def test_looking_ahead_finds_the_likeliest_word_that_begins_so(tmp_path: Path) -> None:
    model = store(tmp_path / "sentences.lm", estimate(["THE CAT SAT", "THAT CAT", "THE THREAD'S Ü"] * 3, 2, 0.0))
    words = {word: model.score_alone(model.find(word)) for word in model.words[3:]}
    assert len(words) == 6
    for spelt in ("", "T", "TH", "THA", "THE", "THR", "S", "Ü", "THREAD'S"):
        assert model.look_ahead(spelt) == max(score for word, score in words.items() if word.startswith(spelt))
    assert model.look_ahead("THEM") == model.look_ahead("<") == -np.inf


def test_gzip_and_plain_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.arpa").write_text(ARPA)
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(ARPA.encode()))
    plain, packed = read_arpa(tmp_path / "a.arpa"), read_arpa(tmp_path / "a.arpa.gz")
    assert (plain.log10_prob == packed.log10_prob).all()
    assert plain.words == packed.words


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "no ARPA file"),
        ("ngram 2=5", "ngram 2=4", "after 5 2-grams"),
        ("ngram 2=5\nngram 3=2", "ngram 3=2\nngram 2=5", "expected 'ngram 2=COUNT'"),
        ("ngram 3=2", "ngram 3=0", "an order from 1 to"),
        ("\\2-grams:", "\\3-grams:", "expected '\\\\2-grams:' after 6"),
        ("-0.6\tA AB\n", "-0.6\tA AB A A\n", "2 words and perhaps a backoff"),
        ("ngram 3=2\n", "", "expected"),
        ("-0.3\t<s> A", "0.3\t<s> A", "impossible"),
        ("-0.3\t<s> A", "x\t<s> A", "no number"),
        ("-0.3\t<s> A", "nan\t<s> A", "impossible"),
        ("A AB", "A ZZ", "'ZZ' is not among the 1-grams"),
        ("-1.1\tB", "-1.1\tA", "stands twice"),
        ("-0.4\tB A", "-0.4\tA B", "stands twice"),
        ("-0.2\tA B A", "-0.2\tB B A", "that is not there"),
        ("\\end\\", "", "the file ends"),
        ("-1.0\t</s>", "-1.0\tEND", "'</s>' is not among"),
    ],
)
def test_damaged_arpa_files_are_refused_with_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in ARPA
    path = tmp_path / "broken.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(LanguageModelError, match=r"broken\.arpa.*line \d+") as caught:
        read_arpa(path)
    assert message in str(caught.value)


def test_arpa_files_broken_at_random_are_read_or_refused(tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "fuzz.arpa"
    for packed in (ARPA.encode(), gzip.compress(ARPA.encode())):
        for _ in range(300):
            content = bytearray(packed)
            for _ in range(chance.randint(1, 6)):
                content[chance.randrange(len(content))] = chance.choice([0, 9, 10, 32, 92, 255, chance.randrange(256)])
            path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
            with contextlib.suppress(LanguageModelError):  # any other error fails
                assert isinstance(read_arpa(path), NgramTables)


def test_an_arpa_file_without_unk_gets_one(tmp_path: Path) -> None:
    model = make_model(tmp_path, ARPA.replace("ngram 1=6", "ngram 1=5").replace("-2.0\t<unk>\t0\n", ""))
    assert model.score(model.start(), model.find("ZZ"))[1] == pytest.approx(-0.4 - 5.0)


def test_mapped_files_that_are_cut_foreign_or_changed_are_refused(tmp_path: Path) -> None:
    whole = make_model(tmp_path).path.read_bytes()
    path = tmp_path / "other.lm"
    for content, message in [
        (b"", "cannot be read"),
        (b"x" * 500, "not a language model"),
        (whole[:-8], "cut or damaged"),
        (whole[:20] + b"\7" + whole[21:], "header"),
    ]:
        path.write_bytes(content)
        with pytest.raises(LanguageModelError, match=message):
            LanguageModel(path)
    path.write_bytes(whole[:-9] + b"\7" + whole[-8:])
    with pytest.raises(LanguageModelError, match="checksum"):
        LanguageModel(path).verify()
    with pytest.raises(LanguageModelError, match="correct the path"):
        LanguageModel(tmp_path / "absent.lm")


DRIVER = r"""
#include <cstdio>
#include <vector>
#include "beam.cpp"
int main(int count, char** paths) {
  for (int at = 1; at < count; ++at) {
    std::FILE* file = std::fopen(paths[at], "rb");
    std::vector<uint64_t> words(1 << 16);
    const size_t size = std::fread(words.data(), 1, words.size() * 8, file);
    std::fclose(file);
    std::vector<uint8_t> exact(size);  // so that the sanitiser sees its end
    std::memcpy(exact.data(), words.data(), size);
    ds2::NgramModel model;
    if (!model.open(exact.data(), size)) continue;
    ds2::Decoder decoder{{{"", false, 0}, {"A", false, 3}, {"B", false, 4}, {"", true, 5}}, 0,
                         {20, 5, -20, 30, 1, 1, -3}, &model, {}};
    decoder.hotwords.link();
    ds2::Stream stream(decoder);
    std::vector<float> frames;
    uint32_t seed = 1;
    for (int n = 0; n < 4 * 40; ++n) frames.push_back(-float((seed = seed * 1664525 + 1013904223) >> 30));
    stream.feed(frames.data(), 40);
    stream.read(true);
    uint32_t state = model.start();
    for (uint32_t word = 0; word < 40; ++word) model.score(state, word * 2654435761u % 9, &state);
    std::puts("read");
  }
}
"""


def test_mapped_files_broken_at_random_are_never_read_out_of_bounds(tmp_path: Path, kernels: Path) -> None:
    (tmp_path / "driver.cpp").write_text(DRIVER)
    include, program = ROOT / "mindaudio_ds2" / "ops" / "csrc", tmp_path / "driver"
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        ["c++", *flags, f"-I{include}", str(tmp_path / "driver.cpp"), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"no sanitisers here: {built.stderr[-200:]}")
    whole, chance, paths = make_model(tmp_path).path.read_bytes(), random.Random(0), []
    for number in range(400):
        content = bytearray(whole)
        first = chance.choice([0, 128, 128])
        for _ in range(chance.randint(0, 20)):
            content[chance.randrange(first, len(content))] = chance.choice([0, 1, 3, 127, 128, 255])
        content[112:120] = zlib.crc32(content[:112]).to_bytes(8, "little")
        path = tmp_path / f"{number}.bin"
        path.write_bytes(content[: chance.choice([len(content)] * 4 + [chance.randrange(len(content))])])
        paths.append(str(path))
    own = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # of another sanitiser
    done = subprocess.run([str(program), *paths], capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("read") > 100


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.lm")
    with pytest.raises(LanguageModelError, match="it is no file"):
        LanguageModel(tmp_path / "pipe.lm")
