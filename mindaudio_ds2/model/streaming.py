"""The network chunk by chunk, for utterances that are still going on: the same log-probabilities as from the whole.

Convolutions see a few frames twice, so that what they leave of a chunk is what they leave of the whole; recurrent
layers carry their states; frames whose lookahead has yet to come wait for it. Only networks without a backward
direction can.

Shapes: T input frames, F bins, S output frames, D values of a frame between convolutions and recurrent layers, N
recurrent layers, K states of each (LSTM 2, GRU 1), H hidden units, V alphabet with blank.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from mindaudio_ds2.model.arithmetic import count_convolved_frames
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2, make_sequence_mask
from mindaudio_ds2.network_config import ModelConfig


class Convolutions(nn.Cell):
    """Features (1, T, F) to (S, 1, D)."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.network = network

    def construct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """`lengths` is (1,) int32, T."""
        x, _ = self.network.convolve(features, lengths)
        return x


class Recurrence(nn.Cell):
    """All recurrent layers with their norms, from states to states."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.rnns = network.rnns
        self.norms = network.rnn_batch_norms
        packed = [Parameter(rnn.pack(), name=f"packed_{i}", requires_grad=False) for i, rnn in enumerate(self.rnns)]
        self.packed = ParameterTuple(packed)

    def construct(self, x: Tensor, lengths: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """(S, 1, D), (1,) int32 of S and (N, K, 1, H) to (S, 1, H) and the states for the next chunk."""
        mask = make_sequence_mask(lengths, x.shape[0])
        num_valid = mask.sum()
        ends: tuple[Tensor, ...] = ()
        for i, rnn in enumerate(self.rnns):
            if self.norms is not None and i > 0:
                x = self.norms[i - 1](x, lengths, mask, num_valid)
            x, end = rnn.resume(x, lengths, states[i], self.packed[i])
            ends += (end,)
        return x, ops.stack(ends)


class Readout(nn.Cell):
    """Lookahead, norm and output layer: (S, 1, H) and (1,) int32 of S to log-probabilities (S, 1, V)."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.lookahead = network.lookahead
        self.norm = network.head_batch_norm
        self.head = network.head

    def construct(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The last frames see zeros where their lookahead has yet to come."""
        mask = make_sequence_mask(lengths, x.shape[0])
        if self.lookahead is not None:
            x = self.lookahead(x, lengths, mask)
        if self.norm is not None:
            x = self.norm(x, lengths, mask, mask.sum())
        return ops.log_softmax(self.head(x), -1)


class StreamingNetwork:
    """The compiled pieces of a network, for any number of streams; one of them at a time.

    Args:
        network: trained, without a backward direction.
        config: its sizes.
        num_bins: F.
    """

    def __init__(self, network: DeepSpeech2, config: ModelConfig, num_bins: int) -> None:
        assert not config.bidirectional, "the backward direction begins at the end"
        self.config, self.num_bins, self.num_labels = config, num_bins, network.head.out_channels
        self._pieces = Convolutions(network), Recurrence(network), Readout(network)
        for piece in self._pieces:
            piece.set_train(False)
        self._state_shape = (config.rnn_num_layers, 2 if config.rnn_type == "lstm" else 1, 1, config.rnn_hidden_size)
        self._steps_singly = not network.takes_open_shapes  # a GRU without native kernels is compiled for each length
        length = Tensor(shape=[1], dtype=ms.int32)
        convolutions, recurrence, readout = self._pieces
        convolutions.set_inputs(_open(1, None, num_bins), length)
        readout.set_inputs(_open(None, 1, config.rnn_hidden_size), length)
        if not self._steps_singly:
            recurrence.set_inputs(_open(None, 1, network.rnn_input_size), length, _open(*self._state_shape))

    def start(self) -> "NetworkStream":
        """A new utterance."""
        return NetworkStream(self)

    def make_states(self) -> Tensor:
        """The states before the first frame."""
        return Tensor(np.zeros(self._state_shape, np.float32))

    def convolve(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, F) to (S, D), with zeros beyond both ends."""
        found: NDArray[np.float32] = self._run(0, features[None], len(features))[0].asnumpy()[:, 0]
        return found

    def recur(self, x: NDArray[np.float32], states: Tensor) -> tuple[NDArray[np.float32], Tensor]:
        """(S, D) and states to (S, H) and states; S is at least 1."""
        outputs = []
        for part in np.split(x, len(x)) if self._steps_singly else [x]:
            output, states = self._run(1, part[:, None], len(part), states)
            outputs.append(output.asnumpy()[:, 0])
        return np.concatenate(outputs), states

    def read_out(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(S, H) to log-probabilities (S, V)."""
        found: NDArray[np.float32] = self._run(2, x[:, None], len(x))[0].asnumpy()[:, 0]
        return found

    def _run(self, piece: int, x: NDArray[np.float32], length: int, *states: Tensor) -> Any:
        outputs = self._pieces[piece](Tensor(x), Tensor([length], ms.int32), *states)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def _open(*shape: int | None) -> Tensor:
    return Tensor(shape=list(shape), dtype=ms.float32)


class NetworkStream:
    """One utterance in chunks of features; made by `StreamingNetwork.start`."""

    def __init__(self, network: StreamingNetwork) -> None:
        self._network = network
        self._stride = network.config.time_stride
        self._reach = count_convolved_frames(network.config) // 2
        self._frames = np.zeros((0, network.num_bins), np.float32)  # that convolutions will still see
        self._first_frame = 0  # of these, in the utterance; a multiple of the stride
        self._num_convolved = 0  # output frames
        self._states = network.make_states()
        self._waiting = np.zeros((0, network.config.rnn_hidden_size), np.float32)  # for their lookahead

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recognise more.

        Args:
            features: (T, F) float32, any number of frames.

        Returns:
            (S, V) float32 log-probabilities of those output frames that can be known by now, perhaps none.
        """
        self._frames = np.concatenate([self._frames, features])
        num_frames = self._first_frame + len(self._frames)
        self._advance(max(0, num_frames - 1 - self._reach) // self._stride + (num_frames > self._reach))
        return self._read_out(len(self._waiting) - self._network.config.lookahead_frames + 1)

    def finish(self) -> NDArray[np.float32]:
        """The log-probabilities (S, V) of the last output frames; the utterance ends with the last frame fed."""
        num_frames = self._first_frame + len(self._frames)
        if num_frames:
            self._advance(self._network.config.num_output_frames(num_frames))
        return self._read_out(len(self._waiting))

    def _advance(self, num_output_frames: int) -> None:
        """Let recurrent layers go on until there are so many output frames; drop what no convolution will see again."""
        if num_output_frames <= self._num_convolved:
            return
        first = self._first_frame // self._stride
        x = self._network.convolve(self._frames)[self._num_convolved - first : num_output_frames - first]
        output, self._states = self._network.recur(x, self._states)
        self._waiting = np.concatenate([self._waiting, output])
        self._num_convolved = num_output_frames
        least = max(0, num_output_frames * self._stride - self._reach) // self._stride * self._stride
        self._frames = self._frames[least - self._first_frame :]
        self._first_frame = least

    def _read_out(self, num_frames: int) -> NDArray[np.float32]:
        """The log-probabilities of the first frames that wait."""
        if num_frames <= 0:
            return np.zeros((0, self._network.num_labels), np.float32)
        log_probs = self._network.read_out(self._waiting)[:num_frames]
        self._waiting = self._waiting[num_frames:]
        return log_probs
