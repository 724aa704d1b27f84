"""All that a run folder holds for a report. What is not there is said, not an error."""

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.errors import ConfigError, ManifestError, OutputError
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.reporting.metrics import Run, read_run


@dataclass(frozen=True)
class ScoredLine:
    """A line of eval_<split>_utterances.jsonl, as eval.py writes it."""

    id: str
    reference: str
    hypothesis: str
    word_errors: int
    num_words: int
    character_errors: int
    num_characters: int


_TEXTS = ("split", "checkpoint", "manifest", "decoder", "date")
_COUNTS = ("num_utterances", "num_words", "word_errors", "substitutions", "deletions", "insertions")
SUMMARY_KINDS: dict[str, type] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_COUNTS, int),
    **dict.fromkeys(("wer", "cer", "real_time_factor"), float),
}
"""What a report shows of eval_<split>.json."""


@dataclass(frozen=True)
class Reach:
    """Which files may be opened because a run folder names them: it may come from anybody.

    Attributes:
        run: the run folder.
        data_root: the folder whose files the person who asks for a report has in mind.
    """

    run: Path
    data_root: Path = Path()

    def require(self, path: str | Path) -> Path:
        """The path, if it lies in one of both folders. Links out of the run folder lead nowhere.

        Raises:
            OutputError: it does not.
        """
        real, run, named = Path(os.path.realpath(path)), Path(os.path.realpath(self.run)), Path(os.path.abspath(path))
        is_in_run = real.is_relative_to(run)
        is_in_data = named.is_relative_to(os.path.abspath(self.data_root)) and not named.is_relative_to(
            os.path.abspath(self.run)
        )
        if not is_in_run and not is_in_data:
            raise OutputError(
                f"{path} was not opened: it is named by the run folder and lies neither there nor in "
                f"{os.path.abspath(self.data_root)}; allow its folder with --data_root"
            )
        return Path(path)


@dataclass(frozen=True)
class Scores:
    """What eval.py left of one manifest.

    Attributes:
        summary: eval_<split>.json.
        lines: one an utterance; empty where there are none that belong to the summary.
        utterances: of the manifest by id, where it can still be read; empty otherwise.
        missing: what could not be read, with reasons.
        reach: which other files may be opened.
    """

    summary: dict[str, Any]
    lines: tuple[ScoredLine, ...]
    utterances: dict[str, Utterance]
    missing: tuple[str, ...]
    reach: Reach

    @property
    def split(self) -> str:
        """Name of the manifest without its ending."""
        return str(self.summary["split"])


@dataclass
class RunFolder:
    """A run, as far as it has come.

    Attributes:
        path: the folder.
        metrics: None before the first step.
        config_text: config.yaml as it stands there; empty where there is none.
        config: the same, where this version can read it.
        environment: environment.json; empty where there is none.
        scores: of each eval_<split>.json, by name.
        excluded: lines of excluded.jsonl.
        missing: what is not there, with what writes it.
    """

    path: Path
    metrics: Run | None = None
    config_text: str = ""
    config: Config | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    scores: list[Scores] = field(default_factory=list)
    excluded: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_run_folder(path: Path, data_root: Path = Path()) -> RunFolder:
    """Read a run folder.

    Args:
        path: the folder.
        data_root: manifests, audio and checkpoints that the run names are opened only there and in the run folder; by
            default where the program was started.

    Raises:
        OutputError: there is no such folder, nothing of a run in it, or a damaged file.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise OutputError(f"{path} is no folder; name the run_dir of a run of train.py")
    try:
        run.metrics = read_run(path, path.resolve().name)
    except OutputError as error:
        run.missing.append(str(error))
    _read_config(run)
    environment = path / "environment.json"
    if environment.exists():
        run.environment = _parse(environment, environment.read_text(encoding="utf-8"))
    else:
        run.missing.append(f"{environment} does not exist; train.py writes it")
    run.scores = [_read_scores(summary, Reach(path, data_root)) for summary in sorted(path.glob("eval_*.json"))]
    if not run.scores:
        command = f"python eval.py --pre_trained_model_path {path / 'best.ckpt'}"
        run.missing.append(f"{path} holds no eval_<manifest>.json; {command} writes it")
    if run.metrics is None and not run.scores:
        raise OutputError(f"{path} holds neither metrics nor an evaluation: {'; '.join(run.missing)}")
    excluded = path / "excluded.jsonl"
    if excluded.exists():
        run.excluded = [_parse(excluded, line) for line in excluded.read_text(encoding="utf-8").splitlines()]
    return run


def _read_config(run: RunFolder) -> None:
    path = run.path / "config.yaml"
    if not path.exists():
        run.missing.append(f"{path} does not exist; train.py writes it")
        return
    run.config_text = path.read_text(encoding="utf-8")
    try:
        run.config = read_config(path)
    except ConfigError:  # the text is shown all the same
        run.missing.append(f"{path} is of another version, so the sizes of the network are not told here")


def _read_scores(path: Path, reach: Reach) -> Scores:
    summary = _parse(path, path.read_text(encoding="utf-8"))
    _require_kinds(path, summary, SUMMARY_KINDS)
    missing = []
    lines = path.with_name(f"{path.stem}_utterances.jsonl")
    scored: tuple[ScoredLine, ...] = ()
    if lines.exists():
        rows = [_parse(lines, line) for line in lines.read_text(encoding="utf-8").splitlines()]
        kinds = typing.get_type_hints(ScoredLine)
        for row in rows:
            _require_kinds(lines, row, kinds)
        scored = tuple(ScoredLine(**{name: row[name] for name in kinds}) for row in rows)
        if sum(line.word_errors for line in scored) != summary["word_errors"]:
            missing.append(f"{lines} has other errors than {path}; run eval.py again")
            scored = ()
    else:
        missing.append(f"{lines} does not exist; eval.py writes it")
    utterances: dict[str, Utterance] = {}
    try:
        manifest = reach.require(summary["manifest"])
        if not manifest.is_file():
            raise ManifestError("")  # a pipe would be waited for
        read = open_manifest(manifest, summary.get("data_root"))
        utterances = {utterance.id: utterance for utterance in read}
    except ManifestError:  # its text would quote lines of whatever file the summary names
        missing.append(f"speakers and audio are not known: {summary['manifest']} is no manifest that can be read")
    except OutputError as error:
        missing.append(f"speakers and audio are not known: {error}")
    return Scores(summary, scored, utterances, tuple(missing), reach)


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = parse_json(text)
    except ReadError as error:
        raise OutputError(f"{path} is damaged ({error}); run again what wrote it, or remove it") from error
    if not isinstance(parsed, dict):
        raise OutputError(f"{path} is damaged (no JSON object); run again what wrote it, or remove it")
    return parsed


def _require_kinds(path: Path, row: dict[str, Any], kinds: Mapping[str, type]) -> None:
    """What is shown has its kind, a float also where it is whole; anybody may have written the file."""
    wrong = [
        name
        for name, kind in kinds.items()
        if type(row.get(name)) is not kind and not (kind is float and type(row.get(name)) is int)
    ]
    if wrong:
        raise OutputError(f"{path} is not as eval.py writes it ({', '.join(wrong)}); run it again, or remove the file")
