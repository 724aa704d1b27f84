#!/usr/bin/env python3
"""Measure training and inference: ours with and without native kernels, PyTorch, onnxruntime, the original projects.

    python recipes/benchmark/benchmark.py -c hparams/deepspeech2.yaml --batches 1,8,16,32 --seconds 15
    python recipes/benchmark/benchmark.py -c hparams/an4.yaml --durations data/an4/train.jsonl \\
        --contenders ours-native,ours-stock
    python recipes/benchmark/benchmark.py -c hparams/deepspeech2.yaml --batches 16 --pieces

All contenders get the same random features and labels and take turns, each time in a process of its own. One line for
each contender and case goes to recipes/benchmark/results.jsonl, and the tables in the README there are written anew.
The modules beside this one hold the rest: what is measured (case.py), the contenders, the process of one measurement
(apart.py, worker.py), the turns (command.py) and the tables (tables.py).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
    from recipes.benchmark.command import main

    main(__doc__ or "")
