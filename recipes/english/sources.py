"""The corpora of real speech, wherever they lie below one folder.

LibriSpeech's subsets, LJSpeech, CMU ARCTIC, speechocean762 and Common Voice; README.md tells where each comes from.
"""

import csv
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError, ManifestError
from recipes.english.readers import choose_part
from recipes.librispeech.tree import CHARACTERS, read_tree

LJSPEECH, ARCTIC, SPEECHOCEAN, COMMON_VOICE = "LJSpeech-1.1", "cmu_arctic", "speechocean762", "common_voice"
WORKERS = 4


@dataclass(frozen=True)
class Known:
    """A corpus that this recipe takes.

    Attributes:
        num_utterances: that it has where it is whole, or in the part that was to be had (counts).
        what: it is, for the message where it is missing.
        is_split: its readers are those of dev and test, too; of any other corpus, readers of dev and test are left out.
    """

    num_utterances: tuple[int, ...]
    what: str
    is_split: bool = False


KNOWN = {
    "train-clean-5": Known((1519, 1438), "five hours of train; 1438 utterances without readers 1970 and 6848", True),
    "dev-clean": Known((2703,), "40 readers, of whom six are dev and the others train", True),
    "dev-clean-20": Known((1313,), "20 of dev-clean's readers; dev-clean makes it needless", True),
    "test-clean": Known((2620,), "the field's test, for final scores only", True),
    "train-clean-100": Known((28539, 367), "100 hours of train; 367 utterances of readers 19, 26 and 27"),
    LJSPEECH: Known((13100, 385), "one reader, public domain; 385 utterances in its first part"),
    ARCTIC: Known((2264, 3884), "folders by reader, with cmuarctic.data; three readers of 1132 sentences and more"),
    SPEECHOCEAN: Known((5000,), "250 speakers of Mandarin, 122 of them children; free for any use"),
    COMMON_VOICE: Known((5818,), "releases of Common Voice with clips and tables, CC0; 5818 that nobody voted down"),
}


def find_sources(source: Path) -> dict[str, Path]:
    """The folders of the corpora that are there; what is missing is named on the console.

    Raises:
        ManifestError: none is there.
    """
    found: dict[str, Path] = {}
    for name in KNOWN:
        for folder in (source / name, source / "LibriSpeech" / name):
            if folder.is_dir():
                found.setdefault(name, folder)
    if "dev-clean" in found:
        found.pop("dev-clean-20", None)
    if not found:
        raise ManifestError(f"{source} has none of {', '.join(KNOWN)}; README.md says where they come from")
    for name, known in KNOWN.items():
        if name not in found and name not in ("dev-clean", "dev-clean-20"):
            print(f"missing: {name}, {known.what}")
    if not {"dev-clean", "dev-clean-20"} & found.keys():
        print(f"missing: dev-clean, {KNOWN['dev-clean'].what}")
    return found


def read_sources(found: dict[str, Path], problems: Problems) -> list[Utterance]:
    """All utterances of the corpora, measured; a count that is not a known one is said."""
    pending: list[tuple[str, str, str, str]] = []
    for name, folder in found.items():
        rows = READERS.get(name, _read_librispeech)(folder, problems)
        if len(rows) not in KNOWN[name].num_utterances:
            expected = " or ".join(map(str, KNOWN[name].num_utterances))
            print(f"warning: {folder} has {len(rows)} utterances, not {expected}")
        if not KNOWN[name].is_split:
            learnt = [row for row in rows if choose_part(row[3]) == "train_real"]
            if len(learnt) < len(rows):
                print(f"{folder}: {len(rows) - len(learnt)} utterances left out, of readers of dev and test")
            rows = learnt
        pending += rows
    durations = measure_durations([Path(path) for _, path, _, _ in pending], WORKERS)
    utterances = []
    for (name, path, transcript, speaker), duration in zip(pending, durations, strict=True):
        if isinstance(duration, AudioError):
            problems.add("audio that cannot be used", f"{duration}")
        else:
            utterances.append(Utterance(name, path, duration, transcript, speaker))
    return utterances


def _read_librispeech(folder: Path, problems: Problems) -> list[tuple[str, str, str, str]]:
    entries = read_tree(folder.absolute(), problems)
    return [(entry.id, entry.audio_path, entry.transcript, entry.reader) for entry in entries]


def _read_ljspeech(folder: Path, problems: Problems) -> list[tuple[str, str, str, str]]:
    """The third column of metadata.csv has numbers and abbreviations in words. Only files that are there count."""
    text = _read_table(folder / "metadata.csv")
    lines: Sequence[list[str]] = list(csv.reader(text.splitlines(), delimiter="|", quoting=csv.QUOTE_NONE))
    rows = []
    for line in lines:
        path = folder.absolute() / "wavs" / f"{line[0]}.wav"
        if not path.exists():
            continue
        transcript = write_as_librispeech(line[-1])
        if transcript is None:
            problems.add("transcript with characters that are not spoken as written", f"{line[0]}: {line[-1][:60]!r}")
        else:
            rows.append((line[0], str(path), transcript, "LJ"))
    print(f"{folder}: {len(rows)} of the {len(lines)} utterances of its table are there")
    return rows


def _read_arctic(folder: Path, problems: Problems) -> list[tuple[str, str, str, str]]:
    """`<reader>/arctic_a0001*.wav`, said as line `( arctic_a0001 "…" )` of cmuarctic.data; some come again."""
    texts = dict(re.findall(r'^\( (arctic_\w+) "(.*)" \)$', _read_table(folder / "cmuarctic.data"), re.MULTILINE))
    rows = []
    for path in sorted(folder.absolute().glob("*/arctic_*.wav")):
        name, reader = "_".join(path.stem.split("_")[:2]), path.parent.name
        transcript = write_as_librispeech(texts.get(name, ""))
        if transcript is None:
            problems.add("transcript missing or not spoken as written", f"{path}: {texts.get(name, '')[:60]!r}")
        else:
            rows.append(
                (f"arctic-{reader}-{path.stem.removeprefix('arctic_')}", str(path), transcript, f"arctic-{reader}")
            )
    return rows


def _read_speechocean(folder: Path, problems: Problems) -> list[tuple[str, str, str, str]]:
    """Kaldi's lists of both halves. Children are taken, too: the table of ages is not asked."""
    rows = []
    for half in ("train", "test"):
        texts, paths, speakers = (
            dict(line.split(maxsplit=1) for line in _read_table(folder / half / name).splitlines())
            for name in ("text", "wav.scp", "utt2spk")
        )
        for name, text in texts.items():
            transcript = write_as_librispeech(text)
            if transcript is None or name not in paths:
                problems.add("transcript or recording that is not there", f"{SPEECHOCEAN} {name}: {text[:60]!r}")
            else:
                path = folder.absolute() / paths[name]
                rows.append((f"speechocean-{name}", str(path), transcript, f"speechocean-{speakers.get(name, '')}"))
    return rows


def _read_common_voice(folder: Path, problems: Problems) -> list[tuple[str, str, str, str]]:
    """`<release>/{validated,other}.tsv` and `clips/`, or version 1's `cv-valid-*.csv`, which names no speakers.

    Clips that a listener has voted down are left out, and only files that are there count, of any format.
    """
    rows = []
    for table in sorted(
        [*folder.glob("*/validated.tsv"), *folder.glob("*/other.tsv"), *folder.glob("*/cv-valid-*.csv")]
    ):
        is_tsv = table.suffix == ".tsv"
        lines = csv.DictReader(
            _read_table(table).splitlines(),
            delimiter="\t" if is_tsv else ",",
            quoting=csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL,
        )
        clips = {
            path.stem: path for path in (table.absolute().parent / ("clips" if is_tsv else table.stem)).glob("*.*")
        }
        for line in lines:
            name = Path(line["path" if is_tsv else "filename"]).stem
            text = line["sentence" if is_tsv else "text"] or ""
            if name not in clips or int(line["down_votes"] or 0) > 0:
                continue
            transcript = write_as_librispeech(text)
            if transcript is None:
                problems.add("transcript with characters that are not spoken as written", f"{name}: {text[:60]!r}")
            else:
                speaker = f"cv-{line['client_id'][:16]}" if is_tsv else "cv1"
                rows.append((f"cv-{table.parent.name}-{name}", str(clips[name]), transcript, speaker))
    return rows


READERS = {
    LJSPEECH: _read_ljspeech,
    ARCTIC: _read_arctic,
    SPEECHOCEAN: _read_speechocean,
    COMMON_VOICE: _read_common_voice,
}


def _read_table(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}; it comes with the corpus") from error


def write_as_librispeech(text: str) -> str | None:
    """Capitals, apostrophes and single spaces; None where a digit or another sign would have to be read out."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().upper()
    for mark in '-;:,.!?"()[]':
        plain = plain.replace(mark, " ")
    words = [word.strip("'") if word.startswith("'") else word.rstrip("'") for word in plain.split()]
    joined = " ".join(word for word in words if word)
    return joined if joined and CHARACTERS.issuperset(joined) else None
