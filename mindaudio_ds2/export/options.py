"""What `export.py` can be asked for, and its answer in words."""

import argparse
import math
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.errors import ConfigError, DeviceError
from mindaudio_ds2.machine.backend import Backend

MAX_FIXED_SECONDS = 3600.0

ONNX_ALONE = ("weights", "stream", "licence", "manifest", "max_wer_loss")
FIXED = ("fixed_batch", "fixed_seconds")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose and describe a file."""
    parser.add_argument("--file_format", default="MINDIR", choices=["MINDIR", "ONNX", "AIR"], help="default: MINDIR")
    kinds = ["waveform", "features"]
    parser.add_argument(
        "--input", choices=kinds, help="what the file takes; default: waveform for ONNX, features for others"
    )
    shape = parser.add_argument_group("MINDIR and AIR: fixed shapes, where open ones cannot be had (GRU, AIR)")
    shape.add_argument("--fixed_batch", type=int, metavar="N", help="utterances side by side; default: 1")
    shape.add_argument("--fixed_seconds", type=float, metavar="S", help="the longest utterance; default: 5")
    onnx = parser.add_argument_group("ONNX")
    onnx.add_argument("--weights", choices=["fp32", "fp16", "int8"], help="how weights are stored; default: fp32")
    onnx.add_argument("--stream", action="store_true", help="for chunks of features, with the state in and out")
    onnx.add_argument("--licence", metavar="TEXT", help="of the weights, to be written into the file")
    onnx.add_argument("--manifest", metavar="M.jsonl", help="scored with smaller weights; default: the dev manifest")
    onnx.add_argument("--max_wer_loss", type=float, metavar="SHARE", help="of the WER of fp32 weights; default: 0.02")


def check_options(options: argparse.Namespace) -> None:
    """Refuse what does not fit together, before anything is loaded.

    Raises:
        ConfigError: an option of another format, an impossible number, or AIR without Ascend.
        DeviceError: the `onnx` or `onnxruntime` package is missing.
    """
    strangers = FIXED if options.file_format == "ONNX" else ONNX_ALONE
    given = [f"--{name}" for name in strangers if getattr(options, name) not in (None, False)]
    if given:
        owners = "MINDIR or AIR" if options.file_format == "ONNX" else "ONNX"
        raise ConfigError(f"{', '.join(given)} is for --file_format {owners}, not for {options.file_format}")
    if options.file_format == "ONNX":
        _check_onnx(options)
        return
    batch, seconds = options.fixed_batch, options.fixed_seconds
    if batch is not None and batch < 1:
        raise ConfigError(f"--fixed_batch is {batch}; give a number of utterances, such as 1")
    if seconds is not None and not 0 < seconds <= MAX_FIXED_SECONDS:
        raise ConfigError(f"--fixed_seconds is {seconds}; give seconds above 0, at most {MAX_FIXED_SECONDS:.0f}")
    if options.file_format == "AIR" and options.device_target != "Ascend":
        raise ConfigError(
            f"MindSpore writes AIR on an Ascend device only, and --device_target is {options.device_target}. Run this "
            "with --device_target Ascend on a machine that has one; or write MINDIR, which MindSpore reads on every "
            "device, or ONNX, which Ascend's converter (ATC) reads as well: --file_format MINDIR or ONNX"
        )


def _check_onnx(options: argparse.Namespace) -> None:
    check_wer_loss(options.max_wer_loss)
    require_onnx()


def check_wer_loss(loss: float | None) -> None:
    """Refuse a share of errors that none can be compared with.

    Raises:
        ConfigError: it is negative, infinite or no number.
    """
    if loss is not None and not 0 <= loss < math.inf:
        raise ConfigError(f"--max_wer_loss is {loss}; give a share, such as 0.02")


def require_onnx() -> None:
    """Make sure of the packages that write ONNX files and try them.

    Raises:
        DeviceError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise DeviceError(f"ONNX files need other packages: pip install 'mindaudio_ds2[onnx]' ({error})") from None


def export_as_asked(options: argparse.Namespace, backend: Backend) -> str:
    """Write the file that the options ask for.

    Args:
        options: as parsed and checked, with `pre_trained_model_path` and `output_dir`.
        backend: how this process computes, from `runtime.start`.

    Returns:
        What was written and how it compares, for people.
    """
    folder = models.choose_results_folder(Path(options.pre_trained_model_path))
    output_dir = Path(options.output_dir or folder / "export")
    if options.file_format == "ONNX":
        return _export_onnx(options, output_dir, backend)
    from mindaudio_ds2.export.mindir import FIXED_SHAPE, GraphForm, export

    is_fixed = options.fixed_batch is not None or options.fixed_seconds is not None
    fixed = (options.fixed_batch or FIXED_SHAPE[0], options.fixed_seconds or FIXED_SHAPE[1]) if is_fixed else None
    form = GraphForm(options.file_format, options.input or "features", fixed)
    written = export(options.pre_trained_model_path, output_dir, form)
    difference, shape = written["largest_difference"], written["fixed_shape"]
    compared = (
        "not compared with the checkpoint, as MindSpore cannot load it again"
        if difference is None
        else f"log-probabilities within {difference:.1e} of the checkpoint's"
    )
    taken = f"; takes {form.input}"
    taken += (
        f", {shape[0]} of {shape[1]:g} s at a time, filled up with anything" if shape else ", any number and length"
    )
    about = output_dir / "model.json"
    return f"{written['path']}: {compared}{taken}\n{about}: features, labels and blank that belong to it"


def _export_onnx(options: argparse.Namespace, output_dir: Path, backend: Backend) -> str:
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm

    form = OnnxForm(
        input=options.input or ("features" if options.stream else "waveform"),
        weights=options.weights or "fp32",
        is_stream=options.stream,
        licence=options.licence or "",
    )
    loss = 0.02 if options.max_wer_loss is None else options.max_wer_loss
    file = export_onnx(options.pre_trained_model_path, output_dir, form, options.manifest, loss, backend)
    lines = [
        f"{file.path}: {file.num_bytes / 1e6:.1f} MB, log-probabilities within {file.largest_difference:.1e} of the "
        "checkpoint's"
    ]
    if not math.isnan(file.wer):
        lines.append(f"WER {100 * file.wer:.2f} %, with fp32 weights {100 * file.full_wer:.2f} %")
    return "\n".join([*lines, f"{output_dir / 'vocab.txt'}: its labels"])
