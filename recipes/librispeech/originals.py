"""OpenSLR's archives, downloaded and unpacked into one tree, which all sizes share."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mindaudio_ds2.corpus.archive import extract
from mindaudio_ds2.corpus.download import (
    DownloadError,
    describe_bytes,
    download,
    find_problem,
    name_part,
    require_free_space,
    writing,
)
from mindaudio_ds2.corpus.problems import Problems
from recipes.librispeech.subsets import Subset
from recipes.librispeech.tree import read_tree

TREE_NAME = "LibriSpeech"
GZIP_MARK = b"\x1f\x8b"


def obtain(subsets: Sequence[Subset], corpus: Path, base_urls: Sequence[str], *, remove_archives: bool) -> Path:
    """Download and unpack those subsets that are not there whole.

    Args:
        subsets: to have.
        corpus: folder of the archives and of the tree `LibriSpeech`.
        base_urls: addresses below which `<resource>/<name>.tar.gz` lies, in the order in which to try them.
        remove_archives: whether to delete each archive once it is unpacked.

    Returns:
        The folder in which each subset is a folder.

    Raises:
        DownloadError: an archive cannot be fetched, or does not hold its subset.
        OutputError: the disk has no room for all of it, or cannot be written.
    """
    tree = corpus / TREE_NAME
    missing = [subset for subset in subsets if _needs_unpacking(subset, tree)]
    num_bytes = _count_bytes_to_fetch(missing, corpus)
    require_free_space(corpus, _count_needed_bytes(missing, corpus, remove_archives), "what is to be unpacked")
    if missing:
        names = ", ".join(subset.name for subset in missing)
        print(f"to download: {describe_bytes(num_bytes)}, to unpack: {names}, into {tree}")
    for subset in missing:
        _fetch(subset, corpus, base_urls)
        _unpack(subset, corpus)
        if remove_archives:
            with writing(_name_archive(subset, corpus)):
                _name_archive(subset, corpus).unlink()
    return tree


def _needs_unpacking(subset: Subset, tree: Path) -> bool:
    if not (tree / subset.name).is_dir():
        return True
    damage = _find_damage(subset, tree)
    if damage:
        print(f"{tree / subset.name} is damaged and will be unpacked again: {damage}")
    return bool(damage)


def _find_damage(subset: Subset, tree: Path) -> str | None:
    """What a subset's folder lacks; None where all of its utterances are there, and nothing else is wrong."""
    problems = Problems()
    num_utterances = len(read_tree(tree / subset.name, problems))
    if num_utterances == subset.num_utterances and not problems:
        return None
    return f"it has {num_utterances} of {subset.num_utterances} utterances\n{problems.summary()}".rstrip()


def _name_archive(subset: Subset, corpus: Path) -> Path:
    return corpus / f"{subset.name}.tar.gz"


def _count_bytes_to_fetch(subsets: Sequence[Subset], corpus: Path) -> int:
    return sum(max(0, subset.num_bytes - _measure_fetched_bytes(subset, corpus)) for subset in subsets)


def _measure_fetched_bytes(subset: Subset, corpus: Path) -> int:
    archive = _name_archive(subset, corpus)
    return max(path.stat().st_size if path.is_file() else 0 for path in (archive, name_part(archive)))


def _count_needed_bytes(subsets: Sequence[Subset], corpus: Path, remove_archives: bool) -> int:
    """The most that the work will take at any time beyond what is on the disk now."""
    taken, most = 0, 0
    for subset in subsets:
        taken += _count_bytes_to_fetch([subset], corpus) + subset.num_unpacked_bytes
        most = max(most, taken)
        taken -= subset.num_bytes if remove_archives else 0
    return most


def _fetch(subset: Subset, corpus: Path, base_urls: Sequence[str]) -> None:
    """Make sure that the archive is there and whole; a damaged one is fetched again, a cut one to its end."""
    archive = _name_archive(subset, corpus)
    if archive.exists():
        problem = find_problem(archive, subset.md5, subset.num_bytes)
        if problem is None:
            return
        print(f"{archive} is damaged: {problem}; it is fetched again")
        with writing(archive):
            if _may_be_beginning(archive, subset) and not name_part(archive).exists():
                archive.replace(name_part(archive))
            else:
                archive.unlink()
    print(f"fetching {archive.name}, {describe_bytes(_count_bytes_to_fetch([subset], corpus))}")
    urls = [f"{base_url.rstrip('/')}/{subset.resource}/{archive.name}" for base_url in base_urls]
    download(urls, archive, subset.md5, num_bytes=subset.num_bytes)


def _may_be_beginning(archive: Path, subset: Subset) -> bool:
    """Whether a damaged archive looks as if a download of it had been cut, and is no web page or the like."""
    with open(archive, "rb") as file:
        return file.read(2) == GZIP_MARK and archive.stat().st_size < subset.num_bytes


def _unpack(subset: Subset, corpus: Path) -> None:
    """Put the subset's folder into the tree, whole, in place of a damaged one."""
    archive, tree = _name_archive(subset, corpus), corpus / TREE_NAME
    unpacked, damaged = corpus / f".unpacked-{subset.name}", corpus / f".damaged-{subset.name}"
    print(f"unpacking {archive.name}")
    with writing(tree):
        for leftover in (unpacked, damaged):
            shutil.rmtree(leftover, ignore_errors=True)
        extract(archive, unpacked)
        try:
            if not (unpacked / TREE_NAME / subset.name).is_dir():
                raise DownloadError(f"{archive} has no folder {TREE_NAME}/{subset.name}; delete it and run this again")
            if damage := _find_damage(subset, unpacked / TREE_NAME):
                raise DownloadError(f"{archive} is not whole, delete it and run this again: {damage}")
            tree.mkdir(exist_ok=True)
            if (tree / subset.name).exists():
                (tree / subset.name).replace(damaged)
            for path in (unpacked / TREE_NAME).iterdir():  # the subset, and texts that all archives have
                if not (tree / path.name).exists():
                    path.replace(tree / path.name)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
            shutil.rmtree(damaged, ignore_errors=True)
