"""Make manifests of AN4, CMU's census corpus of 1991: 948 training utterances and the official test of 130.

The audio comes from the original archive (64 MB, NIST SPHERE) or from a copy of its tree. Dev is taken out of the
training part: every ninth of its speakers, with all that they say, so that no speaker of dev is heard in train.
"""

import argparse
import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import measure_duration_seconds
from mindaudio_ds2.corpus.archive import extract
from mindaudio_ds2.corpus.download import download, keep_sha256
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.errors import AudioError, ManifestError, exit_on_error
from mindaudio_ds2.files import write_atomically

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
# CMU publishes no checksum and has no https. This one was published by others for NVIDIA's copy of it, and could
# not be compared with CMU's here. So another one is told, not refused; the counts below prove that the corpus is whole.
SHA256 = "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
NUM_UTTERANCES = {"train": 948, "test": 130}
EVERY_DEV_SPEAKER = 9
RAW_SAMPLE_RATE_HZ = 16000
AUDIO_SUFFIXES = (".flac", ".wav", ".sph", ".raw")

# `<s> RUBOUT G M E F THREE NINE </s> (an406-fcaw-b)` in train; test lines have no `<s>` and `</s>`.
_TRANSCRIPTION_LINE = re.compile(r"(?:<s>)?(?P<transcript>[^<>()]*)(?:</s>)?\s*\((?P<id>\S+)\)\s*")


def prepare(source: Path, output: Path) -> None:
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl`.

    Args:
        source: the corpus's own tree: `etc/an4_{train,test}.{fileids,transcription}`, and below `wav/` the audio as
            .flac, .wav, .sph, or as the original's headerless .raw (big-endian 16 bit, 16 kHz).
        output: folder of the manifests; .raw audio is copied into its folder `audio` as FLAC.

    Raises:
        ManifestError: something is missing, does not match or cannot be read. The message lists all of it.
        OutputError: the folder cannot be written.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    problems: list[str] = []
    utterances = {part: _read_part(source, part, output / "audio", problems) for part in NUM_UTTERANCES}
    if problems:
        listed = "\n  ".join(problems)
        raise ManifestError(
            f"{source} is not the whole of AN4; get it with --download, or mend these {len(problems)}:\n  {listed}"
        )
    train, dev = split_by_speaker(utterances["train"])
    for split, members in {"train": train, "dev": dev, "test": utterances["test"]}.items():
        write_manifest(output / f"{split}.jsonl", members)
        minutes = sum(utterance.duration_seconds for utterance in members) / 60
        num_speakers = len({utterance.speaker for utterance in members})
        print(f"{split}: {len(members)} utterances, {minutes:.1f} minutes, {num_speakers} speakers")


def _read_part(source: Path, part: str, converted: Path, problems: list[str]) -> list[Utterance]:
    """Everything of one of AN4's two parts; what cannot be used is added to `problems`."""
    transcripts: dict[str, str] = {}
    for number, line in enumerate(_read_lines(source / f"etc/an4_{part}.transcription", problems), start=1):
        match = _TRANSCRIPTION_LINE.fullmatch(line)
        if not match:
            problems.append(f"an4_{part}.transcription line {number} is not `TRANSCRIPT (id)`: {line!r}")
        elif match["id"] in transcripts:
            problems.append(f"an4_{part}.transcription line {number} repeats {match['id']}")
        else:
            transcripts[match["id"]] = " ".join(match["transcript"].split())
    file_ids = _read_lines(source / f"etc/an4_{part}.fileids", problems)
    if len(file_ids) != NUM_UTTERANCES[part]:
        problems.append(f"an4_{part}.fileids has {len(file_ids)} lines instead of {NUM_UTTERANCES[part]}")
    utterances = []
    for file_id in file_ids:
        try:
            utterances.append(_make_utterance(source, file_id, transcripts, converted))
        except (ManifestError, AudioError) as error:
            problems.append(f"{file_id}: {error}")
    unused = transcripts.keys() - {Path(file_id).name for file_id in file_ids}
    problems.extend(f"{id} has a transcript, but does not stand in an4_{part}.fileids" for id in sorted(unused))
    return utterances


def _read_lines(path: Path, problems: list[str]) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read: {error}")
        return []


def _make_utterance(source: Path, file_id: str, transcripts: dict[str, str], converted: Path) -> Utterance:
    """`file_id` is a path below wav/ without its suffix: `an4_clstk/fash/an251-fash-b`."""
    utterance_id, speaker = Path(file_id).name, Path(file_id).parent.name
    if utterance_id not in transcripts:
        raise ManifestError("it has no transcript")
    found = [path for suffix in AUDIO_SUFFIXES if (path := source / "wav" / f"{file_id}{suffix}").exists()]
    if not found:
        raise ManifestError(f"no audio {source / 'wav' / file_id} with one of the suffixes {', '.join(AUDIO_SUFFIXES)}")
    path = found[0]
    if path.suffix == ".raw":
        path = _convert_raw(path, converted / f"{file_id}.flac")
    return Utterance(utterance_id, f"{path}", measure_duration_seconds(path), transcripts[utterance_id], speaker)


def _convert_raw(raw: Path, flac: Path) -> Path:
    content = raw.read_bytes()
    if not content or len(content) % 2:
        raise AudioError(f"{raw} has {len(content)} bytes; 16-bit samples need an even number above 0")
    samples = np.frombuffer(content, dtype=">i2").astype(np.int16)
    if _measure_roughness(samples) > _measure_roughness(samples.byteswap()):
        raise AudioError(f"{raw} is little-endian; take the archive an4_raw.bigendian.tar.gz or an4_sphere.tar.gz")
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, RAW_SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")

    def write(partial: Path) -> None:
        partial.write_bytes(encoded.getvalue())

    write_atomically(flac, write)
    return flac


def _measure_roughness(samples: NDArray[np.int16]) -> int:
    """How much neighbouring samples differ: little in speech, much where the bytes of its samples are swapped."""
    return int(np.abs(np.diff(samples.astype(np.int32))).sum())


def split_by_speaker(utterances: Iterable[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Take every ninth speaker, in the order of their names, out of the training part.

    Names that differ only in a final digit (mdcs, mdcs2) may be one person's, and stay together. Women's names begin
    with f and men's with m, so the order keeps their shares.

    Returns:
        The remaining train and the new dev, both in the original order.
    """
    utterances = list(utterances)
    people = sorted({_name_person(utterance) for utterance in utterances})
    chosen = set(people[EVERY_DEV_SPEAKER - 1 :: EVERY_DEV_SPEAKER])
    train = [utterance for utterance in utterances if _name_person(utterance) not in chosen]
    return train, [utterance for utterance in utterances if _name_person(utterance) in chosen]


def _name_person(utterance: Utterance) -> str:
    return utterance.speaker.rstrip("0123456789")


def fetch(archive: Path) -> None:
    """Download the original, unless it is there, and see whether it is the one that others know.

    Raises:
        DownloadError: it cannot be had, or is not what was downloaded once.
        OutputError: it cannot be written.
    """
    download(URL, archive, None)
    digest = keep_sha256(archive)
    if digest != SHA256:
        print(
            f"note: {archive} has the SHA-256 {digest}, not {SHA256}, which others know of it. The connection was not "
            "encrypted: compare it with a source that you trust"
        )


@exit_on_error
def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument(
        "--source", type=Path, metavar="DIR", help="a copy of the corpus: the folder with etc/ and wav/"
    )
    origin.add_argument("--download", action="store_true", help=f"fetch {URL} (64 MB) into the output folder")
    parser.add_argument("--output", type=Path, default=Path("data/an4"), help="folder of the manifests to make")
    arguments = parser.parse_args()
    source = arguments.source
    if arguments.download:
        fetch(arguments.output / "an4_sphere.tar.gz")
        extract(arguments.output / "an4_sphere.tar.gz", arguments.output / "original")
        source = arguments.output / "original" / "an4"
    prepare(source, arguments.output)


if __name__ == "__main__":
    main()
