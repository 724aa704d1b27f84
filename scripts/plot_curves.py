#!/usr/bin/env python3
"""Draw the learning curves of one or several runs: loss, dev error rates, learning rate, gradient norm, speed.

    python scripts/plot_curves.py runs/an4 --output curves.png
    python scripts/plot_curves.py runs/an4 runs/an4_smaller --over minutes --output curves.png

Reads metrics.jsonl, which train.py writes into the run folder; a run may still be going on. Needs matplotlib:
`pip install -e '.[plots]'`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # finds `scripts`, which is not installed
    from scripts.reporting.plot_command import main

    main(__doc__ or "")
