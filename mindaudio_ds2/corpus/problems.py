"""Everything that is wrong with a corpus, collected by kind, so that it can be told at once instead of one by one."""

from collections import Counter
from pathlib import Path

from mindaudio_ds2.errors import ManifestError, OutputError
from mindaudio_ds2.files import is_stream, write_text


class Problems:
    """What was found wrong so far. It is false while nothing was."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, what: str, num: int = 1) -> None:
        """Note a problem.

        Args:
            kind: what all problems like this one have in common, such as "audio without transcript".
            what: which file or utterance it is, and what helps.
            num: how many utterances or files it makes unusable, where it is not just one (count).
        """
        assert num > 0, "what makes nothing unusable would not be counted"
        self._found.setdefault(kind, []).append(what)
        self._counts[kind] += num

    @property
    def num(self) -> int:
        """How many utterances or files cannot be used (count)."""
        return self._counts.total()

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind (count), in the order in which the kinds were first met."""
        return dict(self._counts)

    def __bool__(self) -> bool:
        return bool(self._found)

    def summary(self, max_listed: int = 10) -> str:
        """Each kind with its count and its first problems, over many lines.

        Args:
            max_listed: how many of each kind are listed; 0 lists all (count).
        """
        lines = []
        for kind, found in self._found.items():
            lines.append(f"{kind}: {self._counts[kind]}")
            shown = found[:max_listed] if max_listed else found
            lines += [f"  {what}" for what in shown]
            if len(shown) < len(found):
                lines.append(f"  and {len(found) - len(shown)} more")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write all of them to a text file; one that an earlier run left is taken away where there are none.

        Raises:
            OutputError: the file cannot be written.
        """
        if self:
            write_text(path, self.summary(max_listed=0) + "\n")
        if self or is_stream(path):
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}; choose another folder") from error

    def check(self, num_total: int, max_share: float, remedy: str) -> None:
        """Accept a few problems, and no more.

        Args:
            num_total: how many utterances or files there are in all (count).
            max_share: the share of them that may have a problem; 0 accepts none (0 to 1).
            remedy: what to do about it, for the error's text.

        Raises:
            ManifestError: more problems than that, with the summary.
        """
        if self.num > max_share * num_total:
            share = f"{100 * self.num / num_total:.3g} %" if num_total else "all"
            raise ManifestError(
                f"{self.num} problems among {num_total} ({share}; {100 * max_share:.3g} % are accepted). {remedy}\n"
                f"{self.summary()}"
            )
