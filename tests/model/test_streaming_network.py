"""The network chunk by chunk against the whole, with native kernels and with MindSpore's operators."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.ops.library import has_bfloat16

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

NETWORKS: dict[str, dict[str, Any]] = {
    "lstm, native": {},
    "gru, native, stride 6": {"rnn_type": "gru", "conv_stride_time": [3, 2], "head_batch_norm": False},
    "lstm, native, int8": {},
    "gru, native, int8": {"rnn_type": "gru"},
    "lstm, native, bf16": {},
    "gru, native, int8 beside bf16": {"rnn_type": "gru"},
    "lstm, stock, no lookahead": {"lookahead_frames": 1, "conv_stride_time": [2, 2]},
    "gru, stock": {"rnn_type": "gru", "rnn_batch_norm": False},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_cut_gives_the_log_probabilities_of_the_whole(name: str, kernels: Path) -> None:
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from mindaudio_ds2.model.streaming import StreamingNetwork
    from tests import cells

    if "bf16" in name and not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    changes = {"bidirectional": False} | NETWORKS[name]
    backend = Backend(None if "stock" in name else kernels, is_bfloat16="bf16" in name)
    network = cells.make_network(backend, **changes)
    config = cells.dataclasses.replace(cells.SMALL, **changes)
    network.set_train(False)
    if "int8" in name:
        network.quantize(kernels)
    streaming = StreamingNetwork(network, config, cells.NUM_BINS)
    whole = Recognizer(network)
    whole.set_train(False)
    if network.takes_open_shapes:
        whole.set_inputs(*cells.floats((None, None, cells.NUM_BINS)), cells.integers(None))
    generator = np.random.default_rng(0)
    for num_frames in (1, 5, 40, 97) if network.takes_open_shapes else (40,):
        features = generator.standard_normal((num_frames, cells.NUM_BINS)).astype(np.float32)
        expected = cells.run(whole, features[None], np.array([num_frames], np.int32))[0][0]
        for num_cuts in (0, 1, 3, 30):
            stream = streaming.start()
            cuts = np.sort(generator.integers(0, num_frames + 1, num_cuts))
            parts = [stream.feed(chunk) for chunk in np.split(features, cuts)]
            # the last bit of an input may round it to the next number; a stream's recurrent products are never bfloat16
            atol = 5e-3 if "int8" in name or "bf16" in name else 2e-5
            np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), expected, atol=atol)
