"""Trained networks that have a name: where they lie, and what belongs to them.

A model is a folder. `model.onnx` recognises without MindSpore; `model.ckpt` is for training, evaluation and devices;
`decoder.json` and its language model may stand beside them; `model.json` is the card: licence, training data, scores,
and the checksum of every file. Nothing is ever downloaded.
"""

import difflib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindaudio_ds2 import console
from mindaudio_ds2.errors import CheckpointError, OutputError
from mindaudio_ds2.files import require_writable
from mindaudio_ds2.reading import ReadError, parse_json

DEFAULT = "english"
CARD = "model.json"
RECOGNITION, WEIGHTS, DECODER = "model.onnx", "model.ckpt", "decoder.json"
EXPORTED = (".onnx", ".mindir")
FOLDER_VARIABLE = "MINDAUDIO_DS2_MODELS"
PACKAGE_FOLDER = Path(__file__).parent / "pretrained"

RESULTS = "the network's folder, or runs/NAME for a model"
"""What `choose_results_folder` chooses, for the help of commands."""

Purpose = Literal["recognition", "weights"]
KINDS: dict[Purpose, str] = {"recognition": "an .onnx file or a checkpoint", "weights": "a checkpoint"}
"""Files that serve a purpose, for the texts of errors."""

_MANIFEST = "is a manifest", "eval takes it with --manifest, training with --data.train_manifest; name the network here"
_YAML = "is a YAML", "train takes it with -c; name the network that was trained with it"
_TORCH = "is a file of PyTorch", "mindaudio-ds2 import_checkpoint makes a checkpoint of it"
_EXPORTED = "is an exported network", "name the one it was made of"
OTHERS = {
    **dict.fromkeys((".jsonl", ".csv", ".tsv"), _MANIFEST),
    **dict.fromkeys((".yaml", ".yml"), _YAML),
    **dict.fromkeys((".pth", ".pt"), _TORCH),
    **dict.fromkeys((*EXPORTED, ".air"), _EXPORTED),
}
"""What is named instead of a network, by its ending, and what to do."""


@dataclass(frozen=True)
class Model:
    """A model folder that has been found.

    Attributes:
        folder: where it lies; its name is the model's.
        card: what `model.json` says.
    """

    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.folder.name

    @property
    def num_bytes(self) -> int:
        """Size of all its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def find(self, purpose: Purpose) -> Path:
        """The file for a purpose, compared with its checksum.

        Raises:
            CheckpointError: the model has none, or it is damaged.
        """
        names = [WEIGHTS]
        if purpose == "recognition":
            names = [RECOGNITION, WEIGHTS] if importlib.util.find_spec("onnxruntime") else [WEIGHTS]
        for path in (self.folder / name for name in names):
            if path.is_file():
                self._compare(path)
                for other in self.card["files"].keys() - {WEIGHTS, RECOGNITION}:
                    self._compare(self.folder / other)
                return path
        raise CheckpointError(f"model {self.name!r} in {self.folder} has no {' or '.join(names)}; install it again")

    def _compare(self, path: Path) -> None:
        expected = self.card["files"].get(path.name)
        if not path.is_file() or digest(path) != expected:
            raise CheckpointError(f"{path} is not the file that {CARD} describes: it is damaged; install it again")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_models() -> list[Model]:
    """Every model that can be asked for by name; the first of a name hides the others."""
    found: dict[str, Model] = {}
    for place in _list_places():
        for card in sorted(place.glob(f"*/{CARD}")):
            found.setdefault(card.parent.name, _read(card.parent))
    return list(found.values())


def _list_places() -> Iterator[Path]:
    """Folders of models, in the order in which they are searched."""
    configured = os.environ.get(FOLDER_VARIABLE)
    if configured:
        yield Path(configured)
    yield PACKAGE_FOLDER


def _read(folder: Path) -> Model:
    path = folder / CARD
    try:
        card = parse_json(path.read_text(encoding="utf-8"))
        exported = [each for each in folder.glob("model.*") if each.suffix in (*EXPORTED, ".air")]
        if isinstance(card, dict) and "files" not in card and exported:
            raise CheckpointError(
                f"{folder} holds an exported network, {exported[0].name}; name the checkpoint that it was made of"
                + (f", or {exported[0]}" if exported[0].suffix == ".onnx" else "")
            )
        if not isinstance(card, dict) or not isinstance(card.get("files"), dict):
            raise ReadError("it names no files")
        scores = card.setdefault("scores", {})
        if not isinstance(scores, dict) or not all(isinstance(row, dict) and "wer" in row for row in scores.values()):
            raise ReadError("its scores have no WER")
    except (OSError, UnicodeDecodeError, ReadError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); install the model again") from None
    return Model(folder, card)


def find_file(wanted: str | Path | None, purpose: Purpose) -> Path:
    """The file that a path or a model's name means.

    A name is searched in this order: `runs/NAME/best.ckpt`; a model in the folder that `MINDAUDIO_DS2_MODELS` names;
    one in the package; a folder or file of that name here. Where there are several, a line says which was taken. A
    folder stands for its best.ckpt, or for the model that it is.

    Args:
        wanted: a path, a name, or None for the default model.
        purpose: "recognition" prefers `model.onnx` where onnxruntime is installed; "weights" is always a checkpoint.

    Returns:
        The file; a path that does not exist comes back as it was given.

    Raises:
        CheckpointError: there is no such model, it is damaged, or the name is empty.
    """
    if wanted == "":
        raise CheckpointError(f"the name of the network is empty; name {KINDS[purpose]}, or a model, such as {DEFAULT}")
    path = Path(DEFAULT if wanted is None else wanted)
    if len(path.parts) != 1 or path.name == ".." or os.sep in str(wanted):
        return _open_folder(path, purpose) if path.is_dir() else path
    named = _find_named(path)
    if named:
        if len(named) > 1:
            say_which(str(path), *named)
        return _open_folder(named[0], purpose) if named[0].is_dir() else named[0]
    if path.suffix:
        return path
    models = [model.name for model in list_models()]
    runs = [each.parent.name for each in Path("runs").glob("*/best.ckpt")]
    close = difflib.get_close_matches(str(path), [*models, *runs], 1)
    remedy = f"did you mean {close[0]}?" if close else f"name {KINDS[purpose]} by its path"
    raise CheckpointError(
        f"there is no model {str(path)!r}: neither a folder of that name in {FOLDER_VARIABLE} or in the package "
        f"(there: {', '.join(models) or 'none'}), nor {Path('runs') / path / 'best.ckpt'}; {remedy}"
    )


def _find_named(name: Path) -> list[Path]:
    """All that a name may mean, the first that it does: a run's checkpoint, folders of models, and what lies here."""
    models = [place / name for place in _list_places() if (place / name / CARD).is_file()]
    run = Path("runs") / name / "best.ckpt"
    here = [name.absolute()] if name.is_file() or any((name / each).is_file() for each in (CARD, "best.ckpt")) else []
    found = {path.resolve(): path for path in reversed([*([run] if run.is_file() else []), *models, *here])}
    return list(reversed(found.values()))


@functools.cache
def say_which(name: str, taken: Path, *others: Path) -> None:
    """Say which of several things of one name was taken, and how to name the others; once."""
    console.write_line(f"{name} means {taken} here; for another of that name, name {' or '.join(map(str, others))}")


def _open_folder(folder: Path, purpose: Purpose) -> Path:
    if (folder / CARD).is_file():
        return _read(folder).find(purpose)
    if (folder / "best.ckpt").is_file():
        return folder / "best.ckpt"
    raise CheckpointError(f"{folder} is a folder without best.ckpt; name {KINDS[purpose]}")


def require_checkpoint(wanted: str | Path) -> Path:
    """The checkpoint that a path or a model's name means, made sure of before MindSpore is started to read it.

    Raises:
        CheckpointError: there is none, or it is something else.
    """
    path = find_file(wanted, "weights")
    require_kind(path, "weights")
    return path


def require_new_checkpoint(output: Path, source: str | Path) -> None:
    """Find out before any work whether a checkpoint made of `source`, a file or a model's name, can become `output`.

    Raises:
        OutputError: `output` does not end with `.ckpt`, is that file, or cannot be written.
    """
    if output.suffix != ".ckpt":
        raise OutputError(f"cannot write {output}: the name of a checkpoint ends with .ckpt. Name such a file.")
    require_writable(output, [source])


def require_kind(path: Path, purpose: Purpose) -> None:
    """Make sure that a file is there and may serve a purpose, by its ending: MindSpore reads no other than .ckpt.

    Raises:
        CheckpointError: it is not there, or something else, such as a YAML, a manifest or an exported network.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; name a .ckpt file of a run folder")
    if path.suffix == ".ckpt" or (path.suffix == ".onnx" and purpose == "recognition"):
        return
    what, remedy = OTHERS.get(path.suffix, ("is no network by its name", "rename it to X.ckpt if it is one"))
    raise CheckpointError(f"{path} {what}, and {KINDS[purpose]} (X.ckpt) is expected here; {remedy}")


def is_network(word: str) -> bool:
    """Whether a word can mean a network and nothing else: by its ending, or a name where no such file or folder is."""
    path = Path(word)
    return path.suffix in (".ckpt", *EXPORTED) or (
        len(path.parts) == 1 and not path.exists() and bool(_find_named(path))
    )


def find_run_folder(wanted: Path) -> Path:
    """The run folder that a path or a run's name means: that folder, or `runs/NAME`.

    Returns:
        A path; it may not exist, and then is the one that was given.

    Raises:
        CheckpointError: it is the name of a model alone, which has no metrics.
    """
    if len(wanted.parts) != 1 or wanted.is_file():
        return wanted
    found = [each for each in (wanted.absolute(), Path("runs") / wanted) if each.is_dir()]
    if len(found) > 1:
        say_which(str(wanted), *found)
    elif not found and wanted.name in (model.name for model in list_models()):
        raise CheckpointError(
            f"{wanted} is a packed model, which keeps nothing of its training; name a run folder of train.py"
        )
    return wanted if wanted.is_dir() else found[0] if found else wanted


def find_model(path: Path) -> str | None:
    """The name of the model that a file belongs to; None where it lies in no model's folder."""
    folder = path.absolute().parent
    return folder.name if (folder / CARD).is_file() else None


def find_card(folder: Path) -> dict[str, Any] | None:
    """What a folder's model.json says: of a packed model, an export, or a page; None where none can be read."""
    try:
        card = parse_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ReadError):
        return None
    return card if isinstance(card, dict) else None


def find_decoder(model_path: Path) -> Path | None:
    """The decoder.json that stands beside a network: of its model, or written by `mindaudio-ds2 tune`."""
    path = model_path.parent / DECODER
    return path if path.is_file() else None


def choose_results_folder(checkpoint_path: Path) -> Path:
    """Where scores of a checkpoint go: beside it in a run folder; `runs/NAME` for a model, whose folder is not ours.

    Where a run of that name lies there, whose scores are its own, `runs/NAME_model`.
    """
    name = find_model(checkpoint_path)
    if name is None:
        return checkpoint_path.parent
    run = Path("runs") / name
    is_taken = any((run / each).exists() for each in ("config.yaml", "best.ckpt"))
    return run.with_name(f"{name}_model") if is_taken else run
