"""The transcripts of many recordings in a folder, a file each."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindaudio_ds2.files import require_new_files, write_text
from mindaudio_ds2.transcript_formats import ENDINGS, FORMATS_OF_ONE, name_recordings
from mindaudio_ds2.transcription import Transcription


class TranscriptFolder:
    """A folder that gets a file for each recording, named as that is. Files that are there already stay.

    Args:
        folder: made if need be, with a line that says so.
        format_name: one of `FORMATS`.
        recordings: all that may be written, in order.
        inputs: what the work reads beside them, None for what was not named.

        is_resumed: recordings whose file is there already are left out, instead of being an error.

    Attributes:
        folder: as given.
        recordings: that are to be transcribed, in order.
        paths: of their files, in the same order.
        num_kept: recordings whose file was there.
        num_written: how many of the files hold their transcripts.

    Raises:
        OutputError: the folder cannot be written, or one of the files is an input or there already.
    """

    def __init__(
        self,
        folder: Path,
        format_name: str,
        recordings: Sequence[Path],
        inputs: Iterable[str | Path | None] = (),
        is_resumed: bool = False,
    ) -> None:
        ending = ENDINGS.get(format_name, f".{format_name}")
        pairs = [(each, f"{name}{ending}") for each, name in zip(recordings, name_recordings(recordings), strict=True)]
        require_new_files(folder, [name for _, name in pairs], [*recordings, *inputs], is_resumed)
        pending = [(each, name) for each, name in pairs if not os.path.lexists(folder / name)]
        self.folder = folder
        self.recordings = [each for each, _ in pending]
        self.paths = [folder / name for _, name in pending]
        self.num_kept = len(pairs) - len(pending)
        self.num_written = 0
        self._write_one = FORMATS_OF_ONE[format_name]

    def write(self, place: int, recording: Sequence[Transcription]) -> None:
        """Write the transcript of the recording at a place of `recordings`, all its channels.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(self.paths[place], self._write_one(recording) + "\n")
        self.num_written += 1
