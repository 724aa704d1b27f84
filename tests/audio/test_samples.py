"""Which rates and samples are possible."""

from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.audio.samples import require_rate, require_samples, to_waveform
from mindaudio_ds2.errors import AudioError


@pytest.mark.parametrize("rate_hz", [4000, 192_000, 16000.0, np.int32(44100), np.float32(48000)])
def test_rates_of_any_numeric_type_are_whole_numbers(rate_hz: Any) -> None:
    assert (found := require_rate(rate_hz)) == rate_hz
    assert type(found) is int


@pytest.mark.parametrize(
    "rate_hz",
    [float("nan"), float("inf"), 0, 1, 7, -16000, 3999, 192_001, 5_000_000, True, 16000.5, "16000", None, [16000]],
)
def test_rates_that_cannot_be_are_refused_with_those_that_can(rate_hz: Any) -> None:
    with pytest.raises(AudioError, match="impossible; give that of the sound, a whole number from 4000 to 192000"):
        require_rate(rate_hz)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0.0] * 10, r"found list; give np.asarray\(samples, np.float32\)"),
        (None, "found NoneType"),
        ("abc", "found str"),
        (b"\0\0", r"found bytes; give np.frombuffer\(samples, np.int16\)"),
        (bytearray(2), "found bytes"),
        (np.float32(0.5), "must be a NumPy array"),
        (np.zeros((10, 2), np.float32), "one channel"),
        (np.zeros(10, np.int32), "int16, found int32"),
        (np.zeros(10, np.complex64), "found complex64"),
        (np.zeros(10, np.float32).view(np.ma.MaskedArray), r"masked, .* give samples.filled\(0\)"),
        (np.zeros(10, np.int16).view(np.ma.MaskedArray), "masked"),
        (np.array([0.0, -np.inf]), "not finite"),
        (np.full(10, 300.0), "not scaled"),
    ],
)
def test_samples_that_cannot_be_are_refused_with_what_to_do(samples: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        require_samples(samples)


def test_full_scale_is_one_for_both_kinds() -> None:
    np.testing.assert_array_equal(to_waveform(np.array([-32768, 16384], np.int16)), np.array([-1, 0.5], np.float32))
    assert to_waveform(np.zeros(0)).dtype == np.float32


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<f2", ">f4", ">f8"])
def test_bytes_may_be_in_either_order(kind: str) -> None:
    samples = np.array([-0.5, 0.25]) * (32768 if "i" in kind else 1)
    found = to_waveform(samples.astype(kind))
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, np.array([-0.5, 0.25], np.float32))
