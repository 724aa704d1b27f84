"""What `export.py` can be asked for, and its answer in words."""

import argparse
import math
from pathlib import Path

from mindaudio_ds2.errors import ConfigError, DeviceError
from mindaudio_ds2.machine.backend import Backend


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose and describe a file."""
    parser.add_argument("--file_format", default="MINDIR", choices=["MINDIR", "ONNX"], help="default: MINDIR")
    onnx = parser.add_argument_group("ONNX")
    onnx.add_argument("--input", choices=["waveform", "features"], help="what the file takes; default: waveform")
    onnx.add_argument("--weights", choices=["fp32", "fp16", "int8"], help="how weights are stored; default: fp32")
    onnx.add_argument("--stream", action="store_true", help="for chunks of features, with the state in and out")
    onnx.add_argument("--licence", metavar="TEXT", help="of the weights, to be written into the file")
    onnx.add_argument("--manifest", metavar="M.jsonl", help="scored with smaller weights; default: the dev manifest")
    onnx.add_argument("--max_wer_loss", type=float, metavar="SHARE", help="of the WER of fp32 weights; default: 0.02")


def check_options(options: argparse.Namespace) -> None:
    """Refuse what does not fit together, before anything is loaded.

    Raises:
        ConfigError: an option of ONNX with another format, or an impossible share.
        DeviceError: the `onnx` or `onnxruntime` package is missing.
    """
    names = ("input", "weights", "stream", "licence", "manifest", "max_wer_loss")
    given = [f"--{name}" for name in names if getattr(options, name) not in (None, False)]
    if options.file_format != "ONNX":
        if given:
            raise ConfigError(f"{', '.join(given)} is for --file_format ONNX, not for {options.file_format}")
        return
    loss = options.max_wer_loss
    if loss is not None and not 0 <= loss < math.inf:
        raise ConfigError(f"--max_wer_loss is {loss}; give a share, such as 0.02")
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
    output_dir = options.output_dir or Path(options.pre_trained_model_path).parent / "export"
    if options.file_format == "MINDIR":
        from mindaudio_ds2.export.mindir import export

        written = export(options.pre_trained_model_path, output_dir)
        return (
            f"{written['mindir']}: log-probabilities within {written['largest_difference']:.1e} of the checkpoint's\n"
            f"{Path(output_dir) / 'model.json'}: features, labels and blank that belong to it"
        )
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
    return "\n".join([*lines, f"{Path(output_dir) / 'vocab.txt'}: its labels"])
