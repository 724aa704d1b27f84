"""Which parts of a network compute in 16 bits."""

import mindspore as ms
from mindspore import nn

from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2


def compute_in(network: DeepSpeech2, precision: str, backend: Backend) -> None:
    """Let the large products of a network be computed in another precision. Call it before the network is compiled.

    Convolutions, recurrent layers and the output layer take their inputs and weights in 16 bits and give back float32;
    everything else, batch norm above all, stays float32, and so do the weights that are trained. MindSpore's
    `amp.auto_mixed_precision` would call it O0 for fp32, and something like O2 for the others; but what that leaves in
    float32 is MindSpore's own batch norm only.

    MindSpore's recurrent layers take float32 and float16 only (2.2 to 2.10), so bf16 leaves them alone. On Ascend they
    compute in float16 whatever is asked for. Has run on the CPU only, where MindSpore 2.10 takes float16 by converting
    it, in tests.

    Args:
        network: not yet compiled.
        precision: "fp32", "fp16" or "bf16".
        backend: what it was built on. Native kernels need nothing more: see `Backend.is_bfloat16`.
    """
    if precision == "fp32" or backend.kernels is not None:
        return
    kinds = (nn.Conv2d, nn.Dense, nn.LSTM, nn.GRU) if precision == "fp16" else (nn.Conv2d, nn.Dense)
    for _, cell in network.cells_and_names():
        if isinstance(cell, kinds):
            cell.to_float(ms.float16 if precision == "fp16" else ms.bfloat16)
