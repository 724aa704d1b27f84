"""The transcripts of many recordings in a folder, a file each."""

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

    Attributes:
        folder: as given.
        paths: of the files, in the same order.
        num_written: how many of them hold their transcripts.

    Raises:
        OutputError: the folder cannot be written, or one of the files is an input or there already.
    """

    def __init__(
        self, folder: Path, format_name: str, recordings: Sequence[Path], inputs: Iterable[str | Path | None] = ()
    ) -> None:
        ending = ENDINGS.get(format_name, f".{format_name}")
        names = [f"{name}{ending}" for name in name_recordings(recordings)]
        require_new_files(folder, names, [*recordings, *inputs])
        self.folder = folder
        self.paths = [folder / name for name in names]
        self.num_written = 0
        self._write_one = FORMATS_OF_ONE[format_name]

    def write(self, place: int, recording: Sequence[Transcription]) -> None:
        """Write the transcript of the recording at a place of the list, all its channels.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(self.paths[place], self._write_one(recording) + "\n")
        self.num_written += 1
