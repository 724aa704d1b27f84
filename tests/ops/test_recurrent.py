"""The native recurrent layers against a plain float64 reference, and what must not change their results."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, BFLOAT16_ISAS, GENERIC, NativeLibrary

NUM_GATES = {"Lstm": 4, "Gru": 3}
# In bfloat16 with what instructions.
ALL_KINDS = ["Lstm", "Gru", *(f"Bf16{kind}@{isa}" for isa in BFLOAT16_ISAS for kind in ("Lstm", "Gru"))]
# H of less than a vector, of odd size, of whole vectors, of several panels a thread.
SIZES = [(7, 3, 5), (9, 1, 20), (6, 8, 33), (5, 17, 64), (4, 6, 144), (1, 2, 16), (3, 40, 48), (3, 30, 260)]


def sigmoid(x: NDArray) -> NDArray:
    return np.asarray((1 + np.tanh(x / 2)) / 2)


def run_lstm(projected: NDArray, w: NDArray, bias_ih: NDArray, bias_hh: NDArray, length: int) -> tuple[NDArray, ...]:
    """One utterance in float64, in the order of reading: hidden states, gates, cells, states before."""
    h = c = np.zeros(w.shape[1])
    results = []
    for t in range(length):
        i, f, g, o = np.split(projected[t] + bias_ih + bias_hh + w @ h, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before, c = h, f * c + i * g
        h = o * np.tanh(c)
        results.append((h, np.concatenate([i, f, g, o]), c, before))
    return tuple(np.array(kind) for kind in zip(*results, strict=True))


def run_gru(projected: NDArray, w: NDArray, bias_ih: NDArray, bias_hh: NDArray, length: int) -> tuple[NDArray, ...]:
    """One utterance in float64, in the order of reading: hidden states, gates and hidden part, states before."""
    h = np.zeros(w.shape[1])
    results = []
    for t in range(length):
        x, hidden = np.split(projected[t] + bias_ih, 3), np.split(w @ h + bias_hh, 3)
        r, z = sigmoid(x[0] + hidden[0]), sigmoid(x[1] + hidden[1])
        n = np.tanh(x[2] + r * hidden[2])
        before, h = h, (1 - z) * n + z * h
        results.append((h, np.concatenate([r, z, n, hidden[2]]), before))
    return tuple(np.array(kind) for kind in zip(*results, strict=True))


def run_reference(
    kind: str,
    projected: list[NDArray],
    w: list[NDArray],
    bias_ih: list[NDArray],
    bias_hh: list[NDArray],
    lengths: NDArray,
) -> list[NDArray]:
    """All outputs of {kind}{n}Forward in float64; the arguments but the last have one entry a direction."""
    (num_frames, num_utterances), num_hidden = projected[0].shape[:2], w[0].shape[1]
    y = np.zeros((num_frames, num_utterances, num_hidden))
    outputs: list[list[NDArray]] = []
    for d in range(len(w)):
        widths = (1, 4, 1, 1) if kind == "Lstm" else (1, 4, 1)
        of_direction = [np.zeros((num_frames, num_utterances, width * num_hidden)) for width in widths]
        for b, length in enumerate(lengths):
            if length == 0:
                continue
            order = np.arange(length)[:: -1 if d else 1]
            run = run_lstm if kind == "Lstm" else run_gru
            values = run(projected[d][order, b], w[d], bias_ih[d], bias_hh[d], length)
            for output, value in zip(of_direction, values, strict=True):
                output[order, b] = value
        y += of_direction[0]
        outputs.append(of_direction[1:])
    return [y, *(array for kinds in zip(*outputs, strict=True) for array in kinds)]


def differentiate_lstm(dy: NDArray, w: NDArray, gates: NDArray, cells: NDArray, length: int) -> tuple[NDArray, ...]:
    """Gradient of one utterance's pre-activations in float64, in the order of reading."""
    dh = dc = np.zeros(w.shape[1])
    d_all = np.zeros((length, 4 * w.shape[1]))
    for t in range(length)[::-1]:
        i, f, g, o = np.split(gates[t], 4)
        dh = dh + dy[t]
        c, c_before = np.tanh(cells[t]), cells[t - 1] if t else np.zeros_like(cells[0])
        dc = dc + dh * o * (1 - c**2)
        d_gates = (dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2), dh * c * o * (1 - o))
        d_all[t] = np.concatenate(d_gates)
        dh, dc = d_all[t] @ w, dc * f
    return (d_all,)


def differentiate_gru(dy: NDArray, w: NDArray, gates: NDArray, previous: NDArray, length: int) -> tuple[NDArray, ...]:
    """Gradients of one utterance's input part and hidden part in float64, in the order of reading."""
    dh = np.zeros(w.shape[1])
    d_input, d_hidden = np.zeros((length, 3 * w.shape[1])), np.zeros((length, 3 * w.shape[1]))
    for t in range(length)[::-1]:
        r, z, n, hidden = np.split(gates[t], 4)
        dh = dh + dy[t]
        dn = dh * (1 - z) * (1 - n**2)
        dr, dz = dn * hidden * r * (1 - r), dh * (previous[t] - n) * z * (1 - z)
        d_input[t], d_hidden[t] = np.concatenate([dr, dz, dn]), np.concatenate([dr, dz, dn * r])
        dh = dh * z + d_hidden[t] @ w
    return d_input, d_hidden


def differentiate_reference(
    kind: str, dy: NDArray, w: list[NDArray], gates: list[NDArray], memory: list[NDArray], lengths: NDArray
) -> list[NDArray]:
    """All outputs of {kind}{n}Backward in float64."""
    outputs = []
    for d in range(len(w)):
        of_direction = [np.zeros((*dy.shape[:2], len(w[d]))) for _ in range(1 if kind == "Lstm" else 2)]
        for b, length in enumerate(lengths):
            order = np.arange(length)[:: -1 if d else 1]
            run = differentiate_lstm if kind == "Lstm" else differentiate_gru
            values = run(dy[order, b], w[d], gates[d][order, b], memory[d][order, b], length)
            for output, value in zip(of_direction, values, strict=True):
                output[order, b] = value
        outputs.append(of_direction)
    return [array for kinds in zip(*outputs, strict=True) for array in kinds]


@pytest.fixture(autouse=True)
def _needed_instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    kind = request.node.callspec.params.get("kind", "") if hasattr(request.node, "callspec") else ""
    isa = kind.partition("@")[2]
    if not isa:
        yield
        return
    with request.getfixturevalue("library").use_bfloat16(isa) as is_there:
        if not is_there:
            pytest.skip(f"no {isa} here: the processor, the system or the compiler lacks it")
        yield


class Case:
    """Random inputs of a recurrent layer (float32), with lengths that include S and, where B > 2, 0."""

    def __init__(self, kind: str, num_directions: int, num_frames: int, num_utterances: int, num_hidden: int) -> None:
        rng = np.random.default_rng([num_frames, num_utterances, num_hidden])
        kind = kind.partition("@")[0]
        self.name, self.kind, self.n = f"{kind}{num_directions}", kind.removeprefix("Bf16"), num_directions
        self.shape = (num_frames, num_utterances, num_hidden)
        width = NUM_GATES[self.kind] * num_hidden
        self.projected = self.draw(rng, 1.0, (num_frames, num_utterances, width))
        self.w = self.draw(rng, 1 / np.sqrt(num_hidden), (width, num_hidden))
        self.bias_ih, self.bias_hh = self.draw(rng, 0.3, (width,)), self.draw(rng, 0.3, (width,))
        self.lengths = rng.integers(1, num_frames + 1, num_utterances).astype(np.int32)
        self.lengths[rng.integers(num_utterances)] = num_frames
        if num_utterances > 2:
            self.lengths[np.argmin(self.lengths)] = 0
        self.dy = rng.standard_normal(self.shape).astype(np.float32)

    def draw(self, rng: np.random.Generator, scale: float, shape: tuple[int, ...]) -> list[NDArray]:
        return [(scale * rng.standard_normal(shape)).astype(np.float32) for _ in range(self.n)]

    @property
    def inputs(self) -> list[NDArray]:
        return [*self.projected, *self.w, *self.bias_ih, *self.bias_hh, self.lengths]

    def forward(self, library: NativeLibrary) -> list[NDArray]:
        num_frames, num_utterances, num_hidden = self.shape
        gates = (num_frames, num_utterances, 4 * num_hidden)
        num_others = (2 if self.kind == "Lstm" else 1) * self.n
        return library.call(
            f"{self.name}Forward", self.inputs, [self.shape, *[gates] * self.n, *[self.shape] * num_others]
        )

    def backward(self, library: NativeLibrary, outputs: list[NDArray]) -> list[NDArray]:
        saved = outputs[1 : 1 + 2 * self.n]  # gates; cells of an LSTM, previous states of a GRU
        num_outputs = (1 if self.kind == "Lstm" else 2) * self.n
        return library.call(
            f"{self.name}Backward", [self.dy, *self.w, *saved, self.lengths], [self.projected[0].shape] * num_outputs
        )

    def run(self, library: NativeLibrary) -> list[NDArray]:
        """Everything that forward and backward give, one after the other."""
        outputs = self.forward(library)
        return outputs + self.backward(library, outputs)

    def run_reference(self) -> list[NDArray]:
        projected, w, bias_ih, bias_hh = self.arrays
        outputs = run_reference(self.kind, projected, w, bias_ih, bias_hh, self.lengths)
        saved = outputs[1 : 1 + self.n], outputs[1 + self.n : 1 + 2 * self.n]
        dy = self.dy.astype(np.float64)
        return outputs + differentiate_reference(self.kind, dy, w, *saved, self.lengths)

    @property
    def arrays(self) -> tuple[list[NDArray], ...]:
        """Projected, w_hh, bias_ih and bias_hh in float64, one of each a direction."""
        kinds = (self.projected, self.w, self.bias_ih, self.bias_hh)
        return tuple([array.astype(np.float64) for array in kind] for kind in kinds)


def settings() -> Iterator[tuple[int, int]]:
    yield from ((isa, num_threads) for isa in (GENERIC, AVX2, AVX512) for num_threads in (1, 2, 4))


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_all_outputs_and_gradients_agree_with_a_float64_reference(
    library: NativeLibrary, kind: str, num_directions: int, size: tuple[int, int, int]
) -> None:
    case = Case(kind, num_directions, *size)
    expected = case.run_reference()
    for isa, num_threads in settings():
        with library.use(isa=isa, num_threads=num_threads) as is_there:
            if not is_there:
                continue
            actual = case.run(library)
        assert len(actual) == len(expected)
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6, err_msg=f"{isa=} {num_threads=} output {i}")


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
def test_the_reference_gradient_is_the_slope_of_the_reference(kind: str) -> None:
    case = Case(kind, 2, 5, 3, 4)
    projected, w, bias_ih, bias_hh = case.arrays
    gradients = case.run_reference()[1 + 2 * (3 if kind == "Lstm" else 2) :]
    step = 1e-6

    def loss() -> float:
        return float((run_reference(kind, projected, w, bias_ih, bias_hh, case.lengths)[0] * case.dy).sum())

    rng = np.random.default_rng(1)
    for d in range(2):
        for _ in range(12):
            at = tuple(rng.integers(projected[d].shape))
            value = projected[d][at]
            projected[d][at] = value + step
            above = loss()
            projected[d][at] = value - step
            slope = (above - loss()) / (2 * step)
            projected[d][at] = value
            assert gradients[d][at] == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_inference_gives_the_hidden_states_of_training(library: NativeLibrary, kind: str) -> None:
    for num_directions in (1, 2):
        case = Case(kind, num_directions, 11, 7, 48)
        (y,) = library.call(f"{case.name}Inference", case.inputs, [case.shape])
        np.testing.assert_array_equal(y, case.forward(library)[0])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_number_of_threads_changes_no_bit(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 6, 24, 400)  # work enough for ten threads
    with library.use(num_threads=1):
        expected = case.run(library)
    for num_threads in (2, 3, 4, 7):
        with library.use(num_threads=num_threads):
            for one, other in zip(case.run(library), expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("size", [(1, 3, 64), (2, 1, 300), (7, 5, 33), (5, 24, 400)])  # the last for teams of several
def test_teams_of_threads_change_no_bit(library: NativeLibrary, kind: str, size: tuple[int, int, int]) -> None:
    for num_directions in (1, 2):
        case = Case(kind, num_directions, *size)
        with library.use(num_threads=1):
            expected = case.run(library)
        for num_teams in (1, 2):
            for num_threads in range(1, 8):
                with library.use(num_threads=num_threads, num_teams=num_teams):
                    actual = case.run(library)
                    (alone,) = library.call(f"{case.name}Inference", case.inputs, [case.shape])
                for one, other in zip([*actual, alone], [*expected, expected[0]], strict=True):
                    np.testing.assert_array_equal(one, other, err_msg=f"{num_directions=} {num_teams=} {num_threads=}")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_other_utterances_of_a_batch_change_no_bit(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 12, 23, 80)
    outputs = case.run(library)
    for b in np.flatnonzero(case.lengths)[[0, 3, -1]]:
        alone = Case(kind, 2, 12, 23, 80)
        num_frames = case.lengths[b]
        alone.shape = (num_frames, 1, 80)
        alone.projected = [x[:num_frames, b : b + 1] for x in case.projected]
        alone.dy, alone.lengths = case.dy[:num_frames, b : b + 1], case.lengths[b : b + 1]
        for one, other in zip(alone.run(library), outputs, strict=True):
            np.testing.assert_array_equal(one, other[:num_frames, b : b + 1])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_stands_in_the_padding_is_never_read(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 10, 6, 33)
    expected = case.run(library)
    is_padding = np.arange(10)[:, None] >= case.lengths
    for array in (*case.projected, case.dy):
        array[is_padding] = np.nan
    for one, other in zip(case.run(library), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
def test_extreme_inputs_saturate_the_gates_and_stay_finite(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 8, 5, 32)
    for array in case.projected:
        array *= 1e4
    actual = case.run(library)
    assert all(np.isfinite(array).all() for array in actual)
    np.testing.assert_allclose(actual[0], case.run_reference()[0], atol=1e-5)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_value_that_is_not_a_number_stays_in_its_utterance(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 8, 5, 32)
    b = int(np.argmax(case.lengths))
    clean = case.run(library)
    case.projected[0][2, b, 7] = np.nan
    spoiled = case.run(library)
    assert np.isnan(spoiled[0][:, b]).any()
    others = np.arange(5) != b
    for one, other in zip(spoiled, clean, strict=True):
        np.testing.assert_array_equal(one[:, others], other[:, others])


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
def test_small_activations_keep_their_relative_accuracy(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 1, 1, 4, 48)
    case.lengths[:] = 1
    for array in case.projected:
        array *= 1e-5
    for array in (*case.bias_ih, *case.bias_hh):  # else sums of nearly opposite inputs would lose digits
        array *= 0
    np.testing.assert_allclose(case.forward(library)[0], case.run_reference()[0], rtol=2e-6)


@pytest.mark.parametrize("lengths", [[0, 0, 0], [0, 4, 0], [4, 4, 4]])
def test_empty_utterances_give_zeros(library: NativeLibrary, lengths: list[int]) -> None:
    case = Case("Lstm", 2, 4, 3, 16)
    case.lengths = np.array(lengths, np.int32)
    for one, other in zip(case.run(library), case.run_reference(), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_lengths_and_shapes_that_cannot_be_are_refused(library: NativeLibrary) -> None:
    case = Case("Gru", 1, 4, 3, 16)
    for lengths in ([5, 1, 1], [-1, 1, 1], [1, 1]):
        inputs = [*case.inputs[:-1], np.array(lengths, np.int32)]
        assert library.try_call("Gru1Inference", inputs, [case.shape])[0] != 0
    assert library.try_call("Gru1Inference", case.inputs, [(4, 3, 17)])[0] != 0
    assert library.try_call("Lstm1Inference", case.inputs, [case.shape])[0] != 0


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
@pytest.mark.parametrize("size", [(9, 5, 20), (6, 3, 48), (4, 1, 33)])
def test_chunks_that_hand_on_their_states_give_what_the_whole_gives(
    library: NativeLibrary, kind: str, size: tuple[int, int, int]
) -> None:
    """Utterances end in different chunks, and some have no frame in one."""
    case = Case(kind, 1, *size)
    num_frames, num_utterances, num_hidden = size
    whole = case.forward(library)[0]
    states = [np.zeros((num_utterances, num_hidden), np.float32)] * (2 if kind == "Lstm" else 1)
    num_packed = -(-num_hidden // 16) * 16 * num_hidden * NUM_GATES[kind]
    (packed,) = library.call(f"{kind}Pack", [case.w[0]], [(num_packed,)])
    outputs = []
    for start, end in ((0, 1), (1, 3), (3, num_frames)):
        lengths = np.clip(case.lengths - start, 0, end - start).astype(np.int32)
        inputs = [case.projected[0][start:end], packed, *case.inputs[2:-1], lengths, *states]
        shapes = [(end - start, num_utterances, num_hidden), *(state.shape for state in states)]
        output, *states = library.call(f"{kind}Resume", inputs, shapes)
        outputs.append(output)
    np.testing.assert_array_equal(np.concatenate(outputs), whole)
    for b, length in enumerate(case.lengths):
        last = whole[length - 1, b] if length else np.zeros(num_hidden)
        np.testing.assert_array_equal(states[0][b], last)
