"""The contenders by name: who they are, and how one of them is made. Their frameworks are imported when one is."""

from pathlib import Path
from typing import Protocol

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.portable.description import WeightKind
from recipes.benchmark.case import ContenderError, Task, TimedBatch

OURS_NATIVE = "ours-native"
OURS_BFLOAT16 = "ours-bf16"
OURS_STOCK = "ours-stock"
PYTORCH = "pytorch"
PYTORCH_BFLOAT16 = "pytorch-bf16"
ONNXRUNTIME = "onnxruntime"
ONNXRUNTIME_INT8 = "onnxruntime-int8"
DEEPSPEECH_PYTORCH = "deepspeech.pytorch"
MINDSPORE_OFFICIAL = "mindspore-official"
CONTENDERS = (
    OURS_NATIVE,
    OURS_BFLOAT16,
    OURS_STOCK,
    PYTORCH,
    PYTORCH_BFLOAT16,
    ONNXRUNTIME,
    ONNXRUNTIME_INT8,
    DEEPSPEECH_PYTORCH,
    MINDSPORE_OFFICIAL,
)
NATIVE = (OURS_NATIVE, OURS_BFLOAT16)
OURS = (*NATIVE, OURS_STOCK)
SAME_NETWORK = (*OURS, PYTORCH, PYTORCH_BFLOAT16)  # must have the same number of weights
EXPORTED: dict[str, WeightKind] = {ONNXRUNTIME: "fp32", ONNXRUNTIME_INT8: "int8"}  # how their weights are stored

GEMM_SIZES = (1024, 2048, 4096)  # of square matrices; which of them is fastest depends on caches and threads

TORCH_MISSING = (
    "PyTorch is not installed, and is no dependency of this project; `pip install torch` (its CPU build does)"
)


class Contender(Protocol):
    """One implementation, ready to take batches.

    Attributes:
        num_parameters: its trainable weights.
        num_threads: how many it computes with.
        compiles_each_shape: whether its first step on arrays of new shapes is much slower than the others.
    """

    num_parameters: int
    num_threads: int
    compiles_each_shape: bool

    def take(self, batch: Batch) -> float:
        """Do the task on one batch; returns when it is done. Gives a number of the result, for a look at it."""
        ...

    def multiply(self, size: int) -> None:
        """Multiply two size x size matrices of float32, made at the first call; returns when that is done."""
        ...


def build_contender(name: str, config: Config, task: Task, batches: list[TimedBatch], source: Path | None) -> Contender:
    """Make one contender; once in a process, because the frameworks keep settings.

    Args:
        name: one of CONTENDERS.
        config: the network, and how it is trained.
        task: what it will do.
        batches: what it will take.
        source: checkout of `deepspeech.pytorch` or `mindspore-official`, or the file of one of EXPORTED.

    Raises:
        ContenderError: it cannot be had here, or cannot do this.
        DeviceError: there are no native kernels, or they have no bfloat16 here.
    """
    if name in (PYTORCH, PYTORCH_BFLOAT16, DEEPSPEECH_PYTORCH):
        try:
            import torch  # noqa: F401
        except ImportError:
            raise ContenderError(TORCH_MISSING) from None
    if name in (PYTORCH, PYTORCH_BFLOAT16):
        from recipes.benchmark.with_torch import TorchContender

        return TorchContender(config, task, is_bfloat16=name == PYTORCH_BFLOAT16)
    if name == DEEPSPEECH_PYTORCH:
        from recipes.benchmark.deepspeech_pytorch import DeepSpeechPytorch

        return DeepSpeechPytorch(config, task, _require_checkout(source))
    if name in EXPORTED:
        from recipes.benchmark.with_onnx import OnnxContender

        assert source is not None, "it was exported"
        return OnnxContender(config, source)
    from mindaudio_ds2.machine import runtime

    # Without our kernels `start` keeps oneDNN off AVX-512, where its convolutions crawl; that helps the official too.
    native = "on" if name in NATIVE else "off"
    backend = runtime.start("CPU", config.seed, native, precision="bf16" if name == OURS_BFLOAT16 else "fp32")
    if name == MINDSPORE_OFFICIAL:
        from recipes.benchmark.mindspore_official import MindSporeOfficial

        return MindSporeOfficial(config, task, _require_checkout(source), batches)
    from recipes.benchmark.ours import Ours

    return Ours(config, task, backend)


def _require_checkout(checkout: Path | None) -> Path:
    if checkout is None or not checkout.is_dir():
        raise ContenderError(f"no checkout of its repository at {checkout}; name one")
    return checkout
