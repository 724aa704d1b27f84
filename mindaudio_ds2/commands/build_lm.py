#!/usr/bin/env python3
"""Build a language model for the beam search: from text, or from an ARPA file.

    mindaudio-ds2 build_lm novels.txt.gz --exclude data/dev.jsonl data/test.jsonl --output english.lm
    mindaudio-ds2 build_lm data/an4/train.jsonl -c hparams/an4.yaml --prune 0 --output an4.lm
    mindaudio-ds2 build_lm books.txt.gz --words 100000 --prune 4e-7 --output english.lm
    mindaudio-ds2 build_lm --arpa 4-gram.arpa.gz --output librispeech.lm

TEXT is a file with a sentence a line (plain or gzip), or a manifest (.jsonl), whose transcripts are taken. The alphabet
is that of the YAML. Lines that share seven words in a row with a manifest named by --exclude are left out. The rare
words of much text take space and are often misprints: --words keeps the frequent ones.
"""

import datetime
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.decoding.arpa import read_arpa
from mindaudio_ds2.decoding.language_model import (
    SPECIAL_WORDS,
    LanguageModel,
    NgramTables,
    check_words,
    write_language_model,
)
from mindaudio_ds2.decoding.lm_text import CleanText, clean_text, read_text
from mindaudio_ds2.decoding.ngram_estimate import encode_sentences, estimate_tokens
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.files import removed_by_sigterm, require_writable
from mindaudio_ds2.text.tokenizer import Tokenizer

MIN_HELD_OUT_STEP, NUM_HELD_OUT = 20, 2000
"""Every 20th line at most, and about 2000 lines of a long text, judge the model instead of making it; of fewer than 20
lines none."""


def add_options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="text files or manifests (paths)")
    parser.add_argument("--output", metavar="X.lm", required=True, help="the model (path)")
    parser.add_argument("--arpa", metavar="FILE", help="convert this model instead of estimating one (path)")
    parser.add_argument("--order", type=int, default=3, choices=[1, 2, 3, 4, 5], help="longest n-grams (words)")
    parser.add_argument(
        "--prune", type=float, default=1e-8, help="leave out n-grams that lower perplexity by less (share; 0: none)"
    )
    parser.add_argument(
        "--words",
        type=int,
        metavar="N",
        help="keep the N most frequent words, and no n-gram over others (default: all)",
    )
    parser.add_argument(
        "--exclude", nargs="+", default=[], metavar="MANIFEST", help="manifests of dev and test (paths)"
    )


def build(options: Any, config: Config) -> str:
    """Make the model and write it.

    Args:
        options: as of `add_options`.
        config: its alphabet counts.

    Returns:
        What was made, in lines.

    Raises:
        LanguageModelError: the text or ARPA file cannot be used, or the model is worse than word frequencies.
        ManifestError, OutputError: a manifest is unusable; the model cannot be written.
    """
    output = Path(options.output)
    if bool(options.texts) == bool(options.arpa):
        raise ConfigError("name either TEXT or --arpa FILE")
    if options.arpa and options.exclude:
        raise ConfigError(
            "--exclude takes lines out of TEXT; of what an ARPA file was made cannot be told, so leave it out"
        )
    if options.prune < 0:
        raise ConfigError(f"--prune {options.prune} must not be negative")
    if options.words is not None and (options.words < 1 or options.arpa):
        raise ConfigError(f"--words {options.words} must be 1 or more, and an ARPA file keeps its words; correct it")
    require_writable(output, [*options.texts, options.arpa, *options.exclude])
    tokenizer = Tokenizer(config.text)
    metadata: dict[str, Any] = {
        "characters": tokenizer.characters,
        "letter_case": config.text.letter_case,
        "source": [Path(path).name for path in options.texts or [options.arpa]],
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
    }
    if options.arpa:
        return _store(output, read_arpa(options.arpa), metadata, tokenizer, [options.arpa], [])
    print("reading the text", file=sys.stderr)
    tests = [utterance.transcript for path in options.exclude for utterance in open_manifest(path, config.data.root)]
    text = clean_text(read_text(options.texts), tokenizer, tests)
    described = _describe_text(text, len(tests))
    step = max(MIN_HELD_OUT_STEP, len(text.lines) // NUM_HELD_OUT)
    held_out = text.lines[::step] if len(text.lines) >= MIN_HELD_OUT_STEP else []
    num_lines = len(text.lines) - len(held_out)
    print(f"counting {num_lines} lines", file=sys.stderr)
    metadata |= {"num_lines": num_lines, "prune": options.prune, "excluded": len(tests)}
    tables, cut_share = _estimate(_take_training(text.lines, step if held_out else None), options)
    if options.words is not None:
        metadata |= {"words": options.words, "cut_share": round(cut_share, 6)}
        described += f"\ncut:         {cut_share:.2%} of the words are not among the {options.words} most frequent"
    if not held_out:
        described += (
            f"\nheld out:    none of {num_lines} lines; to be judged, a text wants {MIN_HELD_OUT_STEP}, a sentence each"
        )
    return f"{described}\n{_store(output, tables, metadata, tokenizer, options.texts, held_out)}"


def _describe_text(text: CleanText, num_tests: int) -> str:
    share = text.num_dropped / max(text.num_characters, 1)
    return (
        f"text:        {len(text.lines)} lines; {text.num_dropped} characters outside of the alphabet ({share:.2%})\n"
        f"overlap:     {text.num_overlapping} lines left out that share seven words with {num_tests} transcripts"
    )


def _take_training(lines: list[str], step: int | None) -> Iterator[str]:
    """The lines that make the model, all but every `step`th; `lines` is emptied, for counting needs the memory."""
    lines.reverse()
    for number in range(len(lines)):
        line = lines.pop()
        if step is None or number % step:
            yield line


def _estimate(lines: Iterable[str], options: Any) -> tuple[NgramTables, float]:
    """A model and the share of words that are not in it.

    By KenLM's lmplz where it is installed and nothing is to be left out, for it needs no memory; else by ourselves.
    """
    if options.words is not None or options.prune or not shutil.which("lmplz"):
        tokens = encode_sentences(lines, options.words)
        return estimate_tokens(tokens, options.order, options.prune), tokens.cut_share
    with tempfile.TemporaryDirectory() as folder, removed_by_sigterm(Path(folder)):
        arpa = Path(folder) / "model.arpa"
        command = ["lmplz", "-o", str(options.order), "--discount_fallback", "-T", folder, "--arpa", str(arpa)]
        done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True, check=False)
        if done.returncode:
            raise LanguageModelError(f"lmplz failed: {done.stderr.strip()[-300:]}")
        return read_arpa(arpa), 0.0


def _store(
    output: Path,
    tables: NgramTables,
    metadata: dict[str, Any],
    tokenizer: Tokenizer,
    sources: list[str],
    held_out: list[str],
) -> str:
    """Write the model, which gets its name only when it was judged by the lines held out."""
    check_words(tokenizer, tables.words[len(SPECIAL_WORDS) :], ", ".join(sources))
    said: list[str] = []

    def judge(model: LanguageModel) -> None:
        counts = " + ".join(map(str, model.counts))
        said.append(f"model:       {counts} n-grams, {len(model.bytes) / 1e6:.1f} MB, in {output}")
        said.append(f"vocabulary:  {model.counts[0] - len(SPECIAL_WORDS)} words")
        said.extend(_judge(model, held_out) if held_out else [])

    write_language_model(output, tables, metadata, scores_labels=False, judge=judge)
    return "\n".join(said)


def _judge(model: LanguageModel, held_out: list[str]) -> list[str]:
    words = np.array([word for line in held_out for word in (*map(model.find, line.split()), 2)])
    scores, state = [], model.start()
    for word in words.tolist():
        state, log10_prob = model.score(state, word)
        scores.append(log10_prob)
        state = model.start() if word == 2 else state
    perplexity = float(10 ** -np.mean(scores))
    frequencies = float(10 ** -np.mean([model.score(0xFFFFFFFF, word)[1] for word in words.tolist()]))
    if len(model.counts) > 1 and not perplexity < frequencies:
        raise LanguageModelError(
            f"the model's perplexity on held-out lines is {perplexity:.0f}, that of its word frequencies "
            f"{frequencies:.0f}: it has learnt nothing; take more text, a lower --order or a lower --prune"
        )
    unknown = np.mean(words[words != 2] == 0) if (words != 2).any() else 0.0
    return [
        f"held out:    {len(held_out)} lines, {unknown:.2%} of the words unknown, perplexity {perplexity:.1f} "
        f"(word frequencies alone: {frequencies:.1f})"
    ]


def run(config: Config, options: Any) -> None:
    """Build, describe."""
    print(build(options, config))


main = Command(__doc__, add_options, run, takes_keys=True, default="deepspeech2")

if __name__ == "__main__":
    main()
