#!/usr/bin/env python3
"""Make a named model of a run: small weights, its decoder, and a card with licence, training data and scores.

    mindaudio-ds2 pack_model runs/english/best.ckpt models/english --licence "Apache-2.0" \\
        --training_data "LibriSpeech (CC BY 4.0, Panayotov et al. 2015)"

The folder holds `model.onnx` (int8 unless --weights says otherwise, compared by its word errors; for streams, where the
network can stream), `model.ckpt`
(float16, to fine-tune), and the run's decoder.json with its language model. Scores are those that eval.py left beside
the checkpoint. A packed model that is there is replaced as a whole.
With the folder's parent in MINDAUDIO_DS2_MODELS, every verb takes the folder's name for a path.
"""

import argparse
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mindaudio_ds2 import console, models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.config import Config, DecodingConfig
from mindaudio_ds2.decoding.choice import find_choice, save_choice
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.export.options import check_wer_loss, require_onnx
from mindaudio_ds2.files import replace_folder, write_atomically, write_text
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.machine.backend import Backend


def pack(options: argparse.Namespace, backend: Backend) -> models.Model:
    """Write the folder aside, then put it in its place.

    Args:
        options: `checkpoint`, `folder`, `weights`, `manifest`, `max_wer_loss`, `licence`, `training_data`.
        backend: how this process computes, from `runtime.start`.

    Raises:
        CheckpointError, ManifestError, AudioError, OutputError: as export's; or something else is in that place.
    """
    require_replaceable(options.folder)
    card: dict[str, Any] = {}

    def write(partial: Path) -> None:
        card.update(_write_model(partial, options, backend))

    replace_folder(options.folder.resolve(), write)
    return models.Model(options.folder, card)


def require_replaceable(folder: Path) -> None:
    """Only an empty folder, or a packed model with nothing else in it, is replaced.

    Raises:
        OutputError: something else is there.
    """
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise OutputError(f"cannot write {folder}: it is a file, and a folder is wanted there. Name another.")
        return
    files = (models.find_card(folder) or {}).get("files")
    own = {models.CARD, *files} if isinstance(files, dict) else set()
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if strangers:
        raise OutputError(
            f"cannot write {folder}: {strangers[0]} is in it, which belongs to no packed model, and would be lost. "
            "Name another folder."
        )


def _write_model(folder: Path, options: argparse.Namespace, backend: Backend) -> dict[str, Any]:
    """All files of the model, the card last; gives the card."""
    from mindspore import Parameter, Tensor

    from mindaudio_ds2.checkpoint import load_checkpoint, save_checkpoint
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm, find_scores

    checkpoint = load_checkpoint(options.checkpoint)
    can_stream = checkpoint.config.can_stream
    form = OnnxForm("features" if can_stream else "waveform", options.weights, can_stream, options.licence)
    written = export_onnx(options.checkpoint, folder, form, options.manifest, options.max_wer_loss, backend)
    written.path.replace(folder / models.RECOGNITION)
    weights = {
        name: Parameter(Tensor(array.astype(np.float16) if array.ndim > 1 else array), name=name)
        for name, array in checkpoint.weights.items()
    }
    save_checkpoint(folder / models.WEIGHTS, forget_places(checkpoint.config), weights, {}, checkpoint.state)
    _take_decoder(options.checkpoint, folder)
    card: dict[str, Any] = {
        "licence": options.licence,
        "training_data": options.training_data,
        "num_parameters": sum(array.size for array in checkpoint.weights.values()),
        "train_hours": checkpoint.state.get("train_hours"),
        "epochs": checkpoint.state.get("epoch"),
        "scores": find_scores(Path(options.checkpoint)),
        "files": {path.name: models.digest(path) for path in sorted(folder.iterdir()) if path.name != models.CARD},
    }
    write_text(folder / models.CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return card


def forget_places(config: Config) -> Config:
    """A configuration that does not tell others where files lie on this machine: manifests keep their names only."""
    data = dataclasses.replace(
        config.data,
        train_manifest=Path(config.data.train_manifest).name,
        dev_manifest=Path(config.data.dev_manifest).name,
        test_manifest=Path(config.data.test_manifest).name,
        root=None,
        feature_cache_dir=None,
    )
    return dataclasses.replace(
        config,
        run_dir=Path(config.run_dir).name,
        data=data,
        training=dataclasses.replace(config.training, teacher=None),
        augmentation=dataclasses.replace(config.augmentation, rir_path=None, noise_path=None),
        decoding=DecodingConfig(),
    )


def _take_decoder(checkpoint: Path, folder: Path) -> None:
    """Copy the run's decoder and its language model, which is then named from the folder."""
    if not models.find_decoder(checkpoint):
        return
    choice = find_choice(checkpoint)
    if choice.model_path:
        source, target = choice.model_path, folder / choice.model_path.name

        def copy(partial: Path) -> None:
            shutil.copyfile(source, partial)

        write_atomically(target, copy)
        choice = dataclasses.replace(choice, model_path=target)
    save_choice(folder / models.DECODER, choice, {})


def add_options(parser: Parser) -> None:
    """The command's own options."""
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="X.ckpt", help="the run's checkpoint (path)")
    add("folder", type=Path, help="of the model; its name is the model's (path)")
    add("--licence", required=True, metavar="TEXT", help="of the weights")
    add("--training_data", required=True, metavar="TEXT", help="what they were trained on, with its licences")
    add("--weights", default="int8", choices=["fp32", "fp16", "int8"], help="of model.onnx (default: int8)")
    add("--manifest", metavar="M.jsonl", help="judges smaller weights (path; default: the run's dev manifest)")
    add("--max_wer_loss", type=float, default=0.02, metavar="SHARE", help="of the WER of fp32 weights (default: 0.02)")


def run(options: argparse.Namespace) -> None:
    """Pack, show."""
    runtime.require_one_process("pack_model")
    check_wer_loss(options.max_wer_loss)
    options.checkpoint = models.require_checkpoint(options.checkpoint)
    require_onnx()
    require_replaceable(options.folder)
    model = pack(options, runtime.start("CPU", 0, "auto"))
    console.write_line(
        f"{model.folder}: {model.num_bytes / 1e6:.1f} MB; {', '.join(model.card['files'])}", to_stdout=True
    )


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
