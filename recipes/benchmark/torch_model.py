"""A checkpoint of ours in PyTorch, behind what `Recognizer` asks of a network: to be measured beside ours.

The process that is measured never loads MindSpore: another one reads the checkpoint for it.
"""

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.batching.collate import collate
from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config import to_mapping
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark.case import ContenderError

if TYPE_CHECKING:
    from recipes.benchmark.with_torch import TorchNetwork

CONFIG = "config.json"
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def unpack_apart(checkpoint: Path, target: Path) -> None:
    """Write configuration and weights where there is no need of MindSpore (.npz), by a process that then ends.

    Raises:
        CheckpointError: it cannot be used.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_unpack, checkpoint, target).result()


def _unpack(checkpoint: Path, target: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    entries: dict[str, Any] = {CONFIG: np.array(json.dumps(to_mapping(loaded.config))), **loaded.weights}
    np.savez(target, **entries)


class TorchModel:
    """The network in PyTorch, with our features.

    Args:
        unpacked: what `unpack_apart` wrote.
        num_threads: of PyTorch (count).

    Attributes:
        features, tokenizer, seconds_per_output_frame, longest_seconds: as of `recognition.CheckpointNetwork`.

    Raises:
        ContenderError: PyTorch is not installed.
    """

    streaming = None

    def __init__(self, unpacked: Path, num_threads: int) -> None:
        try:
            import torch

            from recipes.benchmark.with_torch import TorchNetwork
        except ImportError as error:
            raise ContenderError(f"PyTorch is missing: pip install torch ({error})") from None
        torch.set_num_threads(num_threads)
        entries = dict(np.load(unpacked))
        config = from_mapping(json.loads(str(entries.pop(CONFIG))), "the checkpoint")
        self.features, self.tokenizer = config.features, Tokenizer(config.text)
        self.seconds_per_output_frame = config.seconds_per_output_frame
        self.longest_seconds = config.data.max_duration_seconds
        self._batching, self._network = config.batching, TorchNetwork(config).eval()
        copy_weights(self._network, entries)

    def plan(self, durations_seconds: Sequence[float]) -> tuple[BatchSpec, ...]:
        """Which recordings are recognised side by side."""
        return plan_evaluation(durations_seconds, self._batching, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Log-probabilities (B, S, V) float32 of waveforms (num_samples,), and their lengths (B,) int32."""
        import torch

        no_labels = self.tokenizer.encode("")
        examples = [(i, compute_features(w, self.features), no_labels) for i, w in enumerate(waveforms)]
        batch = collate(examples, self.tokenizer.blank_id, shape)
        with torch.inference_mode():
            logits, lengths = self._network(
                torch.from_numpy(batch.features), torch.from_numpy(batch.feature_lengths).long()
            )
            log_probs = torch.log_softmax(logits, -1).transpose(0, 1)
        return log_probs.numpy(), lengths.numpy().astype(np.int32)


def copy_weights(network: "TorchNetwork", weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Put our weights into the other network, place by place; gives its own by our names."""
    import torch

    own = network.state_dict(keep_vars=True)
    places = {name: own[translate(name)] for name in weights}
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(torch.from_numpy(weights[name].reshape(place.shape)))
    return places


def translate(name: str) -> str:
    """`rnns.1.backward_rnn.weight_ih_l0` is `backward_rnns.1.weight_ih_l0` there, and so on."""
    parts = name.split(".")
    last = BATCH_NORM.get(parts[-1], parts[-1])
    if parts[0] == "convs":
        return f"{'conv_norms' if parts[2] == 'batch_norm' else 'convs'}.{parts[1]}.{last}"
    if parts[0] == "rnns":
        return f"{parts[2]}s.{parts[1]}.{last}"
    return {
        "rnn_batch_norms": f"rnn_norms.{parts[1]}.{last}",
        "head_batch_norm": f"head_norm.0.{last}",
        "lookahead": f"lookahead.{last}",
        "head": f"head.{last}",
    }[parts[0]]
