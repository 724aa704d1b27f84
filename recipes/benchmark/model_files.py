"""What a model's file holds: parameters, zeros, bytes, scores."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.model.arithmetic import list_layers
from mindaudio_ds2.portable.network import open_session
from recipes.benchmark.apart import Result

Arrays = list[NDArray[Any]]

STORED_WEIGHT = re.compile(r"((convs\.\d+|lookahead|head)\.weight|rnns\.\d+\.[wr])(_quantized|\.half|\.rows)?")
"""Names of the exporter's weights (not of biases, scales and mel filters), and what smaller ones are called."""


def describe_file(path: Path) -> Result:
    """Kind, parameters (count), share of the weights that are zero, size (bytes), and the scores it carries.

    Weights are matrices and kernels; of eight-bit files those that were rounded to zero count as well. A checkpoint's
    scores are those that `eval` left beside it.
    """
    config, arrays, scores = (_read_onnx if path.suffix == ".onnx" else _read_checkpoint)(path)
    num_zeros = sum(array.size - int(np.count_nonzero(array)) for array in arrays)
    return {
        "kind": "onnxruntime" if path.suffix == ".onnx" else "MindSpore",
        "num_parameters": sum(layer.num_parameters for layer in list_layers(config)),
        "zeros_share": round(num_zeros / sum(array.size for array in arrays), 4),
        "bytes": path.stat().st_size,
        "scores": {name: {"wer": score["wer"], "decoder": score.get("decoder")} for name, score in scores.items()},
    }


def _read_onnx(path: Path) -> tuple[Config, Arrays, Result]:
    import onnx
    from onnx import numpy_helper

    from mindaudio_ds2.commands.describe_model import read_network

    stored = onnx.load(path).graph.initializer
    arrays = [numpy_helper.to_array(tensor) for tensor in stored if STORED_WEIGHT.fullmatch(tensor.name)]
    return read_network(path)[0], arrays, open_session(path, 1)[1].scores


def _read_checkpoint(path: Path) -> tuple[Config, Arrays, Result]:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.export.onnx_model import find_scores

    checkpoint = load_checkpoint(path)
    return checkpoint.config, [each for each in checkpoint.weights.values() if each.ndim > 1], find_scores(path)
