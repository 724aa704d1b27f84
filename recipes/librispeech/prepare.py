#!/usr/bin/env python3
"""Make manifests of LibriSpeech at one of three sizes: fetch from OpenSLR what is missing, or read a tree you have.

    python recipes/librispeech/prepare.py mini
    python recipes/librispeech/prepare.py 960 --source /data/LibriSpeech

Every step is skipped where it is done, and done again where its result is damaged, so a run that was interrupted is
simply started again. command.py holds what the command line says, originals.py downloads and unpacks, tree.py reads a
tree, subsets.py is the list of OpenSLR's subsets.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from recipes.librispeech.command import main

if __name__ == "__main__":
    main()
