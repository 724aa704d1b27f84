"""The subsets of LibriSpeech and Mini LibriSpeech as OpenSLR publishes them, and the sizes in which they are used."""

from dataclasses import dataclass
from pathlib import Path

BASE_URLS = (
    *("https://www.openslr.org/resources", "https://us.openslr.org/resources", "https://openslr.elda.org/resources"),
    *("https://openslr.trmal.net/resources", "https://openslr.magicdatatech.com/resources"),
)
"""OpenSLR and the mirrors that it names. Below each lie `12/train-clean-100.tar.gz`, `31/train-clean-5.tar.gz`..."""


@dataclass(frozen=True)
class Subset:
    """A part of the corpus that is published as one archive, `<name>.tar.gz`, which holds `LibriSpeech/<name>/`.

    Attributes:
        name: as the publisher calls it.
        resource: OpenSLR's number of the corpus: 12 is LibriSpeech, 31 Mini LibriSpeech.
        num_bytes: length of the archive.
        md5: of the archive.
        num_utterances: that it holds.
    """

    name: str
    resource: int
    num_bytes: int
    md5: str
    num_utterances: int

    @property
    def num_unpacked_bytes(self) -> int:
        """About what the unpacked tree takes on a disk: FLAC hardly shrinks in a .gz, and files end in mid-block."""
        return round(1.02 * self.num_bytes) + 4096 * self.num_utterances


# MD5s: OpenSLR's own lists, openslr.org/resources/12/md5sum.txt and .../31/md5sum.txt. Lengths: the list sizes_new in
# Kaldi's egs/librispeech/s5/local/download_and_untar.sh and that of egs/mini_librispeech; each stands in a second,
# independent downloader as well. Counts: LibriSpeech's as in its dataset cards; Mini LibriSpeech's in scripts built on
# Kaldi's recipe. None was measured here: no archive was at hand.
SUBSETS = {
    subset.name: subset
    for subset in (
        Subset("train-clean-5", 31, 332954390, "5df7d4e78065366204ca6845bb08f490", 1519),
        Subset("dev-clean-2", 31, 126046265, "6d7ab67ac6a1d2c993d050e16d61080d", 1089),
        Subset("train-clean-100", 12, 6387309499, "2a93770f6d5c6c964bc36631d331a522", 28539),
        Subset("train-clean-360", 12, 23049477885, "c0e676e450a7ff2f54aeade5171606fa", 104014),
        Subset("train-other-500", 12, 30593501606, "d1a0fd59409feb2c614ce4d30c387708", 148688),
        Subset("dev-clean", 12, 337926286, "42e2234ba48799c1f50f24a7926300a1", 2703),
        Subset("dev-other", 12, 314305928, "c8d0bcc9cca99d4f8b62fcc847357931", 2864),
        Subset("test-clean", 12, 346663984, "32fa31d27d2e1cad72775fee3f4849a9", 2620),
        Subset("test-other", 12, 328757843, "fb5a50374b501bb3bac4815ee91d3135", 2939),
    )
}


@dataclass(frozen=True)
class Size:
    """What one of the YAMLs in hparams/ is trained, validated and tested on.

    Attributes:
        output: where the YAML looks for the manifests.
        train: subsets of train.jsonl.
        dev: subsets of dev.jsonl.
        test: subsets of test.jsonl.
        extra: subsets that get a manifest of their own name each.
    """

    output: Path
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    extra: tuple[str, ...] = ()


SIZES = {
    "mini": Size(Path("data/librispeech_mini"), ("train-clean-5",), ("dev-clean-2",), ("test-clean",)),
    "clean100": Size(Path("data/librispeech_clean100"), ("train-clean-100",), ("dev-clean",), ("test-clean",)),
    "960": Size(
        Path("data/librispeech"),
        ("train-clean-100", "train-clean-360", "train-other-500"),
        ("dev-clean",),
        ("test-clean",),
        ("dev-other", "test-other"),
    ),
}
