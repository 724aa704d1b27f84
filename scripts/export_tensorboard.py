#!/usr/bin/env python3
"""Write a run's metrics as TensorBoard events: all that metrics.jsonl holds, also while the run goes on.

    python scripts/export_tensorboard.py runs/an4
    python scripts/export_tensorboard.py runs/an4 --follow
    tensorboard --logdir runs

Training itself needs no TensorBoard. An export replaces the one before it, so that nothing is shown twice. Needs
tensorboard: `pip install -e '.[tensorboard]'`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # finds `scripts`, which is not installed
    from scripts.reporting.tensorboard import main

    main(__doc__ or "")
