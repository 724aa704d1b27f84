"""A folder of transcripts: each recording has its own file, and nothing that was there is lost."""

import math
from pathlib import Path

import pytest

from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.transcript_files import TranscriptFolder
from mindaudio_ds2.transcript_formats import FORMATS
from mindaudio_ds2.transcription import Transcription


@pytest.mark.parametrize("format_name", FORMATS)
def test_files_of_one_name_keep_their_endings(tmp_path: Path, format_name: str) -> None:
    paths = [Path("s/x.mp3"), Path("s/x.wav"), Path("s/y.wav")]
    folder = TranscriptFolder(tmp_path / "out", format_name, paths)
    for place, path in enumerate(paths):
        folder.write(place, [Transcription(path, 1.0, Hypothesis(f"SAID {place}", math.nan, ()), "")])
    ending = "txt" if format_name == "text" else format_name
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"x.mp3.{ending}", f"x.wav.{ending}", f"y.{ending}"}
    assert folder.num_written == 3
    if format_name == "text":
        assert (tmp_path / "out" / "x.wav.txt").read_text() == "SAID 1\n"


def test_a_file_that_is_there_stays_whether_it_is_an_input_or_not(tmp_path: Path) -> None:
    """Sound in a .txt, the hotwords, a transcript made by hand, and one of an earlier call."""
    sound, names = tmp_path / "x.txt", tmp_path / "names.txt"
    sound.write_text("sound")
    names.write_text("ANNA")
    for inputs, recording in (([], sound), ([None, "english", names], tmp_path / "names.wav")):
        with pytest.raises(OutputError, match="one of the inputs, and would be lost. Name another folder"):
            TranscriptFolder(tmp_path, "text", [recording], inputs)
    with pytest.raises(
        OutputError, match="names.txt: it is there already. Name another folder, remove it, or keep it with --resume"
    ):
        TranscriptFolder(tmp_path, "text", [Path("a.wav"), Path("names.wav")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "x.txt"]
    assert names.read_text() == "ANNA"


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to(tmp_path / "none")
    with pytest.raises(OutputError, match="there already"):
        TranscriptFolder(tmp_path, "text", [Path("x.wav")])


def test_a_folder_that_cannot_be_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "W").write_text("")
    with pytest.raises(OutputError, match="W is a file, and a folder is wanted there"):
        TranscriptFolder(tmp_path / "W", "text", [Path("x.wav")])


def test_a_folder_is_gone_on_with(tmp_path: Path) -> None:
    """What is there stays as it is, files of one name keep theirs, and inputs are none of the transcripts."""
    (tmp_path / "x.wav.txt").write_text("by hand")
    paths = [Path("s/x.mp3"), Path("s/x.wav"), Path("s/y.wav")]
    folder = TranscriptFolder(tmp_path, "text", paths, is_resumed=True)
    assert (folder.recordings, folder.num_kept) == ([paths[0], paths[2]], 1)
    for place, path in enumerate(folder.recordings):
        folder.write(place, [Transcription(path, 1.0, Hypothesis(path.name, math.nan, ()), "")])
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {"x.mp3.txt": "x.mp3\n", "x.wav.txt": "by hand", "y.txt": "y.wav\n"}
    assert TranscriptFolder(tmp_path, "text", paths, is_resumed=True).recordings == []
    with pytest.raises(OutputError, match="one of the inputs"):
        TranscriptFolder(tmp_path, "text", [tmp_path / "y.txt"], is_resumed=True)
