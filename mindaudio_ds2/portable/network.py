"""A network in an ONNX file, through onnxruntime: sound in, log-probabilities out. MindSpore is not needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config import BatchingConfig
from mindaudio_ds2.errors import AudioError, CheckpointError, DeviceError
from mindaudio_ds2.portable.description import ENTRY, Description, read_description
from mindaudio_ds2.portable.inspection import read_model_bytes
from mindaudio_ds2.text.tokenizer import Tokenizer

INPUT_NAMES = {"waveform": ("waveforms", "waveforms_lens"), "features": ("features", "features_lens")}
OUTPUT_NAMES = ("logprobs", "logprobs_lens")
BATCHES = BatchingConfig(
    bucket_edges_seconds=[3600.0],
    max_batch_utterances=16,
    max_batch_padded_seconds=120.0,
    accumulation_steps=1,
    sortagrad=False,
    prefetch_batches=1,
    num_workers=0,
)
"""How much is recognised at a time: enough for the matrix products, little enough for a small machine."""


def open_session(path: str | Path, num_threads: int) -> tuple[Any, Description]:
    """Load an ONNX file of this package, after it was looked through.

    Args:
        path: of the file.
        num_threads: of onnxruntime; 0 for one a core.

    Returns:
        The `onnxruntime.InferenceSession`, and what belongs to the network.

    Raises:
        CheckpointError: missing, damaged, foreign or refused, see `read_model_bytes`.
        DeviceError: onnxruntime is not installed.
    """
    content = read_model_bytes(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"onnxruntime, which runs {path}, is missing: pip install onnxruntime ({error})") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4  # what matters becomes an error here
    options.enable_mem_pattern = False  # batches have many shapes
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each of its states
        raise CheckpointError(
            f"{path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {_first_line(error)}; export it again "
            "from its checkpoint"
        ) from None
    entry = session.get_modelmeta().custom_metadata_map.get(ENTRY, "")
    return session, read_description(entry, str(path))


class OnnxNetwork:
    """A whole-utterance network in an ONNX file.

    Args:
        path: of a file that `export.py --file_format ONNX` wrote.
        num_threads: of onnxruntime; 0 for one a core.
        opened: what `open_session` found there, if it was opened before.

    Attributes:
        description: features, alphabet and origin.
        features: what the network was trained on.
        tokenizer: names its labels.
        seconds_per_output_frame: distance between frames of output (seconds).
        longest_seconds: of the recordings that it was trained on (seconds).

    Raises:
        CheckpointError: it cannot be used.
        DeviceError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, num_threads: int = 0, opened: tuple[Any, Description] | None = None) -> None:
        self.path = Path(path)
        self._session, self.description = opened or open_session(path, num_threads)
        self.features = self.description.features
        self.tokenizer = Tokenizer(self.description.text)
        self.seconds_per_output_frame = self.description.seconds_per_output_frame
        self.longest_seconds = self.description.longest_seconds
        if self.description.is_stream:
            raise CheckpointError(f"{path} takes chunks of a stream; open it with OnnxStreamingNetwork")
        require_signature(self._session, str(path), INPUT_NAMES[self.description.input], OUTPUT_NAMES)

    @property
    def streaming(self) -> None:
        """This form takes whole utterances only; `OnnxStreamingNetwork` is the other."""
        return None

    def plan(self, durations_seconds: Sequence[float]) -> tuple[BatchSpec, ...]:
        """Which recordings are recognised side by side: ones of similar length, `BATCHES` at most."""
        return plan_evaluation(durations_seconds, BATCHES, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Recognise waveforms side by side.

        Args:
            waveforms: at least one, each (num_samples,) float32 in [-1, 1] at `description.features.sample_rate_hz`.
            shape: ignored; onnxruntime takes every shape as it comes.

        Returns:
            Log-probabilities (B, S, V) float32, of which only the frames within the lengths mean something; and those
            lengths (B,) int32.

        Raises:
            AudioError: onnxruntime cannot compute them, for want of memory, say.
        """
        if self.description.input == "features":
            from mindaudio_ds2.audio.features import compute_features

            return self.recognize_features([compute_features(w, self.description.features) for w in waveforms])
        return self._run(waveforms, ())

    def recognize_features(
        self, features: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The same from features (T, F) of each utterance; for files that take features."""
        assert self.description.input == "features", f"{self.path} takes waveforms"
        return self._run(features, (self.description.features.num_bins,))

    def _run(
        self, arrays: Sequence[NDArray[np.float32]], inner: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        if self.description.weights == "int8" and len(arrays) > 1:  # activations share a scale with all beside them
            return _stack([self._run([array], inner) for array in arrays])
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        padded = np.zeros((len(arrays), lengths.max(), *inner), dtype=np.float32)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
        names = INPUT_NAMES[self.description.input]
        outputs = run_session(
            self._session, str(self.path), OUTPUT_NAMES, dict(zip(names, (padded, lengths), strict=True))
        )
        log_probs, output_lengths = outputs
        require_log_probs(log_probs, str(self.path), len(arrays), self.tokenizer.size)
        within = (output_lengths >= 0) & (output_lengths <= log_probs.shape[1])
        if output_lengths.shape != (len(arrays),) or not within.all():
            raise CheckpointError(
                f"{self.path} gives the lengths {output_lengths.ravel()[:8]} for {len(arrays)} recordings of up to "
                f"{log_probs.shape[1]} frames; export it again from its checkpoint"
            )
        return log_probs, output_lengths.astype(np.int32)


def run_session(session: Any, source: str, names: Sequence[str], inputs: dict[str, NDArray[Any]]) -> Any:
    """Outputs of a session by name; onnxruntime's own exceptions become errors of this package."""
    try:
        return session.run(list(names), inputs)
    except Exception as error:  # onnxruntime has a class for each of its states
        shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
        raise AudioError(
            f"{source} cannot recognise {shapes}: {_first_line(error)}; give it shorter recordings, or fewer at a time"
        ) from None


def require_log_probs(log_probs: NDArray[np.float32], source: str, num_sounds: int, num_labels: int) -> None:
    """What a session gave must be one row of frames for each sound, with the labels of its tokenizer.

    Raises:
        CheckpointError: it is something else.
    """
    if log_probs.ndim != 3 or (log_probs.shape[0], log_probs.shape[2]) != (num_sounds, num_labels):
        raise CheckpointError(
            f"{source} gives an array {log_probs.shape} for {num_sounds} recordings, and its tokenizer has "
            f"{num_labels} labels; export it again from its checkpoint"
        )


def require_signature(session: Any, source: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """A file must take and give what its description promises.

    Raises:
        CheckpointError: it does not.
    """
    found = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if found != (list(inputs), list(outputs)):
        raise CheckpointError(
            f"{source} takes {found[0]} and gives {found[1]}, but should take {list(inputs)} and give {list(outputs)}; "
            "export it again from its checkpoint"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def _stack(
    results: Sequence[tuple[NDArray[np.float32], NDArray[np.int32]]],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Results of one recording each as those of a batch."""
    lengths = np.concatenate([each for _, each in results])
    log_probs = np.zeros((len(results), int(lengths.max()), results[0][0].shape[2]), np.float32)
    for row, (found, length) in zip(log_probs, results, strict=True):
        row[: length[0]] = found[0, : length[0]]
    return log_probs, lengths
