"""Networks whose recurrent layers are rounded to eight bits beside the same in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.ops.library import has_bfloat16

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

VARIANTS: list[dict[str, Any]] = [{}, {"rnn_type": "gru"}, {"bidirectional": False, "rnn_type": "gru"}]


def hear(backend: Backend, is_int8: bool, changes: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Log-probabilities (S, V) of three utterances side by side, and of the second alone."""
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from tests import cells

    network = cells.make_network(backend, **changes)
    if is_int8:
        assert backend.kernels is not None
        network.quantize(backend.kernels)
    recognizer = Recognizer(network).prepare(cells.NUM_BINS)
    features = np.random.default_rng(1).standard_normal((3, 60, cells.NUM_BINS)).astype(np.float32)
    lengths = np.array([60, 33, 0], np.int32)
    together, lengths_out = cells.run(recognizer, features, lengths)
    alone, _ = cells.run(recognizer, features[1:2, :33], lengths[1:2])
    return [*(rows[:length] for rows, length in zip(together[:2], lengths_out[:2], strict=True)), alone[0]]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize(("is_int8", "is_bfloat16"), [(True, False), (True, True), (False, True)])
def test_log_probabilities_are_near_those_of_float32(
    is_int8: bool, is_bfloat16: bool, changes: dict[str, Any], kernels: Path
) -> None:
    if is_bfloat16 and not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    rounded = hear(Backend(kernels, is_bfloat16=is_bfloat16), is_int8, changes)
    exact = hear(Backend(kernels), False, changes)
    for one, other in zip(rounded, exact, strict=True):
        assert 1e-6 < np.abs(one - other).max() < 0.05
    np.testing.assert_allclose(rounded[1], rounded[2], atol=1e-5)
