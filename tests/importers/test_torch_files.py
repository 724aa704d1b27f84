"""Files of PyTorch: nothing in them is run, and what is damaged is called that."""

import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.errors import CheckpointError

torch = pytest.importorskip("torch", reason="PyTorch is an extra")


class Runs:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def make_class(monkeypatch: pytest.MonkeyPatch, module: str, name: str, **members: Any) -> Any:
    """A class that can be pickled while the test runs, and whose module nobody can import after that."""
    for name_of_module in (module.partition(".")[0], module):
        if name_of_module not in sys.modules:
            monkeypatch.setitem(sys.modules, name_of_module, types.ModuleType(name_of_module))
    cls = type(name, (), {"__module__": module, **members})
    setattr(sys.modules[module], name, cls)
    return cls


def read(path: Path) -> dict[str, Any]:
    from mindaudio_ds2.importers.torch_files import read_torch_file

    return read_torch_file(path)


def test_weights_and_plain_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": torch.arange(3)}, "labels": ["_", "A"], "epoch": 3, "audio_conf": {"x": 0.5}}, path)
    content = read(path)
    assert content["state_dict"]["a"].tolist() == [0, 1, 2]
    assert (content["labels"], content["epoch"], content["audio_conf"]) == (["_", "A"], 3, {"x": 0.5})


def test_files_of_pytorch_before_1_6_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": torch.arange(3)}}, path, _use_new_zipfile_serialization=False)
    assert read(path)["state_dict"]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "before 1.6"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, "mkdir"), (exec, "exec"), (eval, "eval"), (io.open_code, "open_code")],
    ids=["mkdir", "exec", "eval", "open_code"],
)
def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    function: Any, name: str, is_archive: bool, tmp_path: Path
) -> None:
    path, trace = tmp_path / "x.ckpt", tmp_path / "trace"
    argument = f"import os; os.mkdir({str(trace)!r})" if function in (exec, eval) else str(trace)
    torch.save({"state_dict": {}, "x": Runs(function, argument)}, path, _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match="was not loaded") as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert name in str(raised.value) or not is_archive
    assert not trace.exists()


def test_code_behind_names_that_are_known_is_not_run(tmp_path: Path) -> None:
    """`getattr` stands in honest files too, where it names members of enums; it gets a stand-in that does nothing."""
    path, trace = tmp_path / "x.ckpt", tmp_path / "trace"
    opener = Runs(getattr, trace, "mkdir")
    torch.save({"state_dict": {}, "x": opener}, path)
    assert read(path)["x"] == "mkdir"
    assert not trace.exists()


def test_settings_of_omegaconf_are_read_without_omegaconf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pickle that OmegaConf's nodes make, of classes that exist here only while it is written."""
    state = {"__getstate__": lambda self: self.__dict__}
    nodes = {
        name: make_class(monkeypatch, f"omegaconf.{module}", name, **state)
        for module, name in (("dictconfig", "DictConfig"), ("listconfig", "ListConfig"), ("nodes", "AnyNode"))
    }

    def make(kind: str, key: str, value: Any) -> Any:
        node = nodes[kind]()
        node.__dict__.update({"_metadata": {"flags": None}, "_parent": None, key: value})
        return node

    window_class = make_class(
        monkeypatch, "deepspeech_pytorch.enums", "Window", __new__=lambda cls, value: object.__new__(cls),
        __reduce__=lambda self: (type(self), ("hamming",)),
    )  # fmt: skip
    values = {"sample_rate": 8000, "window": window_class("hamming"), "rnn_type": torch.nn.LSTM, "nothing": None}
    content = {key: make("AnyNode", "_val", value) for key, value in values.items()}
    content["betas"] = make("ListConfig", "_content", [make("AnyNode", "_val", 0.9)])
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"spect_cfg": make("DictConfig", "_content", content)}}, path)
    monkeypatch.undo()
    assert read(path)["hyper_parameters"]["spect_cfg"] == {
        "sample_rate": 8000,
        "window": "hamming",
        "rnn_type": "LSTM",
        "nothing": None,
        "betas": [0.9],
    }
    assert "omegaconf" not in sys.modules


def test_a_truncated_file_is_called_damaged_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    for is_archive in (True, False):
        torch.save({"state_dict": {"a": torch.zeros(1000)}}, path, _use_new_zipfile_serialization=is_archive)
        content = path.read_bytes()
        for cut in (4, 50, len(content) // 2, len(content) - 200, len(content) - 1):
            path.write_bytes(content[:cut])
            with pytest.raises(CheckpointError, match="damaged") as raised:
                read(path)
            assert str(path) in str(raised.value)


def test_every_bit_of_an_archive_is_under_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": torch.arange(1000.0)}}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = next(member for member in archive.infolist() if member.file_size == 4000)
    start = whole.index(torch.arange(1000.0).numpy().tobytes())
    for place in range(start, start + member.file_size, 211):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            read(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "x.pth", tmp_path / "packed.pth"
    torch.save({"state_dict": {"a": torch.zeros(100_000)}}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="is compressed"):
        read(packed)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "before 1.6"])
def test_tensors_that_claim_more_than_the_file_holds_are_refused(is_archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    huge = torch.zeros(1).as_strided((80_000, 20_000), (0, 0))
    often = [torch.zeros(1000).as_strided((1000, 1000), (1, 0)) for _ in range(3)]
    for content in ({"a": huge}, {"a": often}):
        torch.save({"state_dict": content}, path, _use_new_zipfile_serialization=is_archive)
        assert path.stat().st_size < 100_000
        with pytest.raises(CheckpointError, match="made to fill memory"):
            read(path)


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    endless: list[Any] = []
    endless.append(endless)
    torch.save({"state_dict": {}, "x": endless}, path)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read(path)


def test_something_else_than_a_dictionary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save([torch.zeros(3)], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        read(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="damaged"):
        read(path)


def test_without_pytorch_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"mindaudio_ds2\[torch\]"):
        read(tmp_path / "x.ckpt")
