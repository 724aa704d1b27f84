#!/usr/bin/env python3
"""Write a run as one HTML page: scores, learning curves, errors word by word, what the network hears, settings.

    python scripts/report.py runs/an4
    python scripts/report.py runs/an4 --num_worst 50 --utterance an406-fcaw-b --output an4.html

Reads what train.py and eval.py left in the run folder; what is not there is said on the page. The page holds its
pictures and needs neither network nor scripts. To show what the network hears, the checkpoint and the audio must be
there. Needs matplotlib: `pip install -e '.[plots]'`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # finds `scripts`, which is not installed
    from scripts.reporting.report_command import main

    main(__doc__ or "")
