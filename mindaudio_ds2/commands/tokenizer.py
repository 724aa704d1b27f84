#!/usr/bin/env python3
"""Train units of one or more characters, as labels in place of single characters.

    mindaudio-ds2 tokenizer data/an4/train.jsonl -c an4 --size 64 --output data/an4/units64.json
    python train.py -c hparams/an4.yaml --text.tokenizer data/an4/units64.json

TEXT is a file with a sentence a line (plain or gzip), or a manifest (.jsonl), whose transcripts are taken; take those
of training only. Characters and letter case are those of the YAML. Checkpoints hold the units, and need the file no
more. Needs the extra "tokenizer" (sentencepiece).
"""

import dataclasses
from pathlib import Path
from typing import Any

from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.config import Config
from mindaudio_ds2.decoding.lm_text import clean_text, read_text
from mindaudio_ds2.files import require_writable
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.text.units import read_units, train_units, write_units

LONGEST_SHOWN = 12


def add_options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="text files or manifests (paths)")
    parser.add_argument("--size", type=int, default=128, metavar="N", help="units, without the blank (count)")
    parser.add_argument("--output", metavar="FILE", required=True, help="the tokenizer (path)")


def run(config: Config, options: Any) -> None:
    """Train, write, describe."""
    output = Path(options.output)
    text = clean_text(read_text(options.texts), Tokenizer(config.text))
    require_writable(output, options.texts)
    model = train_units(text.lines, config.text.characters, options.size)
    write_units(output, model, [Path(path).name for path in options.texts])
    named = dataclasses.replace(config.text, tokenizer=str(output), units=[], unit_scores=[])
    tokenizer = Tokenizer(read_units(named))
    num_characters = sum(map(len, text.lines))
    num_units = sum(len(tokenizer.encode(line)) for line in text.lines)
    longest = sorted((unit for unit in tokenizer.config.units if len(unit) > 2), key=len, reverse=True)[:LONGEST_SHOWN]
    print(
        f"text:   {len(text.lines)} lines, {num_characters} characters, spaces included; {text.num_dropped} outside of "
        f"the alphabet\n"
        f"units:  {tokenizer.size - 1}, in {output}; the longest: {' '.join(longest)}\n"
        f"length: {num_characters / num_units:.2f} characters a unit\n"
        f"train:  --text.tokenizer {output}"
    )


main = Command(__doc__, add_options, run, takes_keys=True, default="deepspeech2")

if __name__ == "__main__":
    main()
