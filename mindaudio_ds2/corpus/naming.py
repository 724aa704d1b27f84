"""Names for files that have none but their paths."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from mindaudio_ds2.errors import ConfigError


def require_each_once(manifests: Sequence[str | Path]) -> None:
    """Make sure that each is another file, for its scores have its name.

    Raises:
        ConfigError: one is named twice.
    """
    if len({Path(manifest).resolve() for manifest in manifests}) < len(manifests):
        raise ConfigError(f"a manifest is named twice among {', '.join(map(str, manifests))}; name each once")


def name_uniquely(paths: Sequence[Path]) -> list[str]:
    """Names of files that differ from each other: their stems, with as many of their folders as that needs.

    `a/1.wav, b/1.wav, b/2.wav` are named `a/1, b/1, 2`. Files that only their endings tell apart keep these: `1.mp3,
    1.wav`. A file that stands there again gets a number: `2`, `2-2`.

    Args:
        paths: of the files.

    Returns:
        A name for each path, in the same order.
    """
    stems = [path.with_suffix("") if path.name else path for path in paths]
    num_endings = Counter(path.with_suffix("") for path in set(paths) if path.name)
    stems = [path if num_endings[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    num_parts = [1] * len(paths)
    names = [stem.name for stem in stems]
    while groups := [group for group in _group(names) if len({stems[i] for i in group}) > 1]:
        for i in (i for group in groups for i in group):
            num_parts[i] = min(num_parts[i] + 1, len(stems[i].parts))
            names[i] = "/".join(stems[i].parts[-num_parts[i] :])
    taken = set(names)
    for group in _group(names):
        number = 1
        for i in group[1:]:
            while names[i] in taken:
                number += 1
                names[i] = f"{names[group[0]]}-{number}"
            taken.add(names[i])
    return names


def _group(names: list[str]) -> list[list[int]]:
    """Places of the names that stand there more than once."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return [group for group in places.values() if len(group) > 1]
