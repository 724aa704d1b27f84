"""How features become lines of frames, and those a sequence, against NumPy."""

import numpy as np

from tests.ops.native_library import NativeLibrary

B, T, F, C = 3, 37, 21, 5
LENGTHS = np.array([37, 0, 18], np.int32)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_features_become_lines_without_padding_and_lines_features(library: NativeLibrary) -> None:
    features = draw(B, T, F)
    is_real = np.arange(T)[None] < LENGTHS[:, None]
    expected = np.where(is_real[:, :, None], features, 0)
    features[~is_real] = np.nan
    for num_threads in (1, 2):
        with library.use(num_threads=num_threads):
            (lines,) = library.call("FeaturesToLines", [features, LENGTHS], [(B, F, T, 1)])
            np.testing.assert_array_equal(lines[..., 0].transpose(0, 2, 1), expected)
            (back,) = library.call("LinesToFeatures", [lines + 1, LENGTHS], [(B, T, F)])
            np.testing.assert_array_equal(back, (expected + 1) * is_real[:, :, None])


def test_lines_become_a_sequence_and_back(library: NativeLibrary) -> None:
    lines = draw(B, F, T, C)
    (sequence,) = library.call("LinesToSequence", [lines], [(T, B, C * F)])
    np.testing.assert_array_equal(sequence, lines.transpose(2, 0, 3, 1).reshape(T, B, C * F))
    (back,) = library.call("SequenceToLines", [sequence, lines], [lines.shape])
    np.testing.assert_array_equal(back, lines)


def test_shapes_that_do_not_fit_are_refused(library: NativeLibrary) -> None:
    features, lines = draw(B, T, F), draw(B, F, T, C)
    assert library.try_call("FeaturesToLines", [features, LENGTHS], [(B, T, F, 1)])[0] != 0
    assert library.try_call("FeaturesToLines", [features, LENGTHS[:2]], [(B, F, T, 1)])[0] != 0
    assert library.try_call("LinesToFeatures", [lines, LENGTHS], [(B, T, F)])[0] != 0
    assert library.try_call("LinesToSequence", [lines], [(T, B, C + F)])[0] != 0
    assert library.try_call("SequenceToLines", [draw(T, B, F), lines], [lines.shape])[0] != 0
