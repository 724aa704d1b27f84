#!/usr/bin/env python3
"""Turn recordings into text.

python transcribe.py --pre_trained_model_path runs/an4/best.ckpt talk.flac interviews/
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt --format json --output words.json talk.mp3
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt --decoder beam --lm en.lm --hotwords names.txt talk.wav
"""

import argparse
import sys
from pathlib import Path

from mindaudio_ds2.decoding.choice import add_decoding_options, read_choice
from mindaudio_ds2.errors import AudioError, exit_on_error
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.machine import runtime


@exit_on_error
def main() -> None:
    """Parse the command line, transcribe, print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pre_trained_model_path", metavar="X.ckpt", required=True, help="the checkpoint (path)")
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    parser.add_argument("--format", default="text", choices=["text", "json"], help="json has times (s); default: text")
    parser.add_argument("--output", metavar="FILE", help="write there instead of printing (path)")
    add_decoding_options(parser)
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="sound files, or folders of them (paths)")
    options = parser.parse_args()
    choice = read_choice(options)
    if options.output:
        require_writable(Path(options.output))
    runtime.require_one_process("transcribe.py")
    kernels = runtime.start(options.device_target, 0, "auto")
    from mindaudio_ds2.transcribe import Transcriber, as_json, as_text, find_recordings

    run = Transcriber(options.pre_trained_model_path, kernels, choice).run(find_recordings(options.audio))
    text = as_json(run) if options.format == "json" else as_text(run)
    if options.output:
        write_text(Path(options.output), text + "\n")
    elif text:
        print(text)
    for note in run.notes:
        print(note, file=sys.stderr)
    if run.problems:
        listed = "\n  ".join(run.problems)
        raise AudioError(f"{len(run.problems)} of {len(run.transcriptions)} recordings were not read:\n  {listed}")
    print(f"{run.audio_seconds:.1f} s of audio in {run.wall_seconds:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
