"""Exports and packed models take the place of their own kind only, and what was there is whole or gone as one."""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2 import models
from mindaudio_ds2.commands import pack_model
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.export.destination import require_exportable
from mindaudio_ds2.export.options import check_wer_loss
from mindaudio_ds2.files import replace_folder
from mindaudio_ds2.machine.backend import STOCK

NAMES = ["model.onnx", "vocab.txt"]


@pytest.mark.parametrize(("card", "what"), [({"files": {}}, "a packed model"), ({"kind": "x page"}, "a page")])
def test_an_export_spoils_no_packed_model_and_no_page(card: dict[str, Any], what: str, tmp_path: Path) -> None:
    (tmp_path / models.CARD).write_text(json.dumps(card))
    with pytest.raises(OutputError, match=rf"is {what}, .* Name another folder with --output_dir"):
        require_exportable(tmp_path, NAMES, [])
    assert [path.name for path in tmp_path.iterdir()] == [models.CARD]


def test_an_earlier_export_and_a_damaged_description_are_in_nobodys_way(tmp_path: Path) -> None:
    for text in ('{"features": {}}', "{", "[]"):
        (tmp_path / models.CARD).write_text(text)
        (tmp_path / "model.onnx").write_text("old")
        require_exportable(tmp_path, [*NAMES, models.CARD], [None])
        found = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert found == {models.CARD: text, "model.onnx": "old"}, "looking changes nothing, and leaves nothing behind"


def test_what_is_read_or_in_the_way_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*vocab\.txt: it is a folder"):
        require_exportable(tmp_path, NAMES, [])
    with pytest.raises(OutputError, match="one of the inputs"):
        require_exportable(tmp_path, NAMES, [tmp_path / "model.onnx"])


def test_both_exports_ask_before_they_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    from mindaudio_ds2.export import mindir, onnx_file
    from mindaudio_ds2.export.onnx_model import OnnxForm
    from tests.export.test_onnx_file import make_checkpoint

    (tmp_path / models.CARD).write_text('{"files": {}}')
    for module, build in ((onnx_file, "build_onnx"), (mindir, "_build")):
        monkeypatch.setattr(module, "load_checkpoint", lambda path: make_checkpoint("log_mel", {}))
        monkeypatch.setattr(module, build, lambda *arguments: pytest.fail("it builds"))
    with pytest.raises(OutputError, match=r"model\.onnx: .* is a packed model"):
        onnx_file.export_onnx("x.ckpt", tmp_path, OnnxForm())
    with pytest.raises(OutputError, match=r"model\.mindir: .* is a packed model"):
        mindir.export("x.ckpt", tmp_path)


@pytest.mark.parametrize("loss", [-0.1, float("nan"), float("inf")])
def test_a_share_that_nothing_can_be_compared_with_is_refused(loss: float) -> None:
    with pytest.raises(ConfigError, match="--max_wer_loss is"):
        check_wer_loss(loss)


# A packed model -------------------------------------------------------------------------------------------------------

Pack = Callable[..., models.Model]


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Packs files of these names, without a network."""

    def run(folder: Path, *names: str) -> models.Model:
        def write(partial: Path, *arguments: object) -> dict[str, Any]:
            for name in names:
                (partial / name).write_text(name)
            card = {"files": {name: models.digest(partial / name) for name in names}}
            (partial / models.CARD).write_text(json.dumps(card))
            return card

        monkeypatch.setattr(pack_model, "_write_model", write)
        return pack_model.pack(Namespace(folder=folder), STOCK)

    return run


def test_a_model_is_packed_again_without_anything_of_the_old_one(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    pack(folder, "model.ckpt", "decoder.json", "en.lm")
    model = pack(folder, "model.ckpt")
    assert model.card["files"].keys() == {"model.ckpt"}
    assert sorted(path.name for path in folder.iterdir()) == ["model.ckpt", models.CARD]
    assert model.find("weights") == folder / "model.ckpt"


def test_nothing_of_others_is_packed_or_lost(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for inside in ("best.ckpt", "notes/a.txt"):
        folder = tmp_path / inside[:4]
        (folder / inside).parent.mkdir(parents=True)
        (folder / inside).write_text("mine")
        with pytest.raises(OutputError, match=rf"{inside[:5]}.* is in it, .* Name another folder"):
            pack(folder, "model.ckpt")
        assert (folder / inside).read_text() == "mine"
    pack(tmp_path / "digits", "model.ckpt")
    (tmp_path / "digits" / "README.md").write_text("mine")
    with pytest.raises(OutputError, match=r"README\.md is in it"):
        pack(tmp_path / "digits", "model.ckpt")
    with pytest.raises(OutputError, match="it is a file"):
        pack(tmp_path / "digits" / "README.md", "model.ckpt")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pack(Path("."), "model.ckpt")
    assert (tmp_path / "here" / models.CARD).is_file()


# Interruptions --------------------------------------------------------------------------------------------------------


def test_what_kill_9_left_of_a_folder_goes_with_the_next(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from mindaudio_ds2.files import replace_folder\n"
        "replace_folder(Path(sys.argv[1]), lambda partial: os.kill(os.getpid(), 9))"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "page")]).returncode == -signal.SIGKILL
    assert [path.name.startswith(".partial-") for path in tmp_path.iterdir()] == [True]
    replace_folder(tmp_path / "page", lambda partial: None)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_sigterm_takes_everything_that_was_begun_along(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from mindaudio_ds2.files import removed_by_sigterm as removed\n"
        "outer, inner = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "outer.mkdir(); inner.mkdir()\n"
        "with removed(outer), removed(inner): os.kill(os.getpid(), 15)"
    )
    places = [str(tmp_path / "outer"), str(tmp_path / "inner")]
    assert subprocess.run([sys.executable, "-c", script, *places]).returncode == -signal.SIGTERM
    assert not os.listdir(tmp_path)
