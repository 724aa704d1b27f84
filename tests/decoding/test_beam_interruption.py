"""Ctrl-C ends a wide search at once, in the main thread and in others: as processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20
"""For machines that are busy; alone it takes less than one, and the whole search some minutes."""

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.errors import exit_on_error
from tests.decoding.beam_cases import make_log_probs, make_tokenizer

letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ "
width = 10_000 if {is_native} else 2_000
settings = BeamSettings(beam_width=width, num_best=1000, token_threshold=-1e3, beam_threshold=1e3)
decoder = BeamDecoder(make_tokenizer(letters), 0.02, settings, Path({kernels!r}) if {is_native} else None)
log_probs = make_log_probs(0, 3000, len(letters) + 1, 1.0)

@exit_on_error
def main():
    print("ready", flush=True)
    if {num_threads} == 0:
        decoder.decode(log_probs)
    else:
        decoder.decode_batch(np.stack([log_probs] * 3), np.full(3, 3000, np.int32), {num_threads})

main()
"""


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("is_native", [True, False])
def test_ctrl_c_ends_a_wide_search(num_threads: int, is_native: bool, kernels: Path) -> None:
    program = PROGRAM.format(kernels=str(kernels), is_native=is_native, num_threads=num_threads)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(1.0)  # until the search is wide
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
            print(f"ended after {time.monotonic() - asked:.2f} s")
        finally:
            process.kill()
    assert (process.returncode, said) == (130, "interrupted\n")
