"""All that a run folder holds for a report. What is not there is said, not an error."""

import dataclasses
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


@dataclass(frozen=True)
class Scores:
    """What eval.py left of one manifest.

    Attributes:
        summary: eval_<split>.json.
        lines: one an utterance; empty where there are none that belong to the summary.
        utterances: of the manifest by id, where it can still be read; empty otherwise.
        missing: what could not be read, with reasons.
    """

    summary: dict[str, Any]
    lines: tuple[ScoredLine, ...]
    utterances: dict[str, Utterance]
    missing: tuple[str, ...]

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


def read_run_folder(path: Path) -> RunFolder:
    """Read a run folder.

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
    run.scores = [_read_scores(summary) for summary in sorted(path.glob("eval_*.json"))]
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


def _read_scores(path: Path) -> Scores:
    summary = _parse(path, path.read_text(encoding="utf-8"))
    missing = []
    lines = path.with_name(f"{path.stem}_utterances.jsonl")
    scored: tuple[ScoredLine, ...] = ()
    if lines.exists():
        rows = [_parse(lines, line) for line in lines.read_text(encoding="utf-8").splitlines()]
        names = [column.name for column in dataclasses.fields(ScoredLine)]
        scored = tuple(ScoredLine(**{name: row[name] for name in names}) for row in rows)
        if sum(line.word_errors for line in scored) != summary["word_errors"]:
            missing.append(f"{lines} has other errors than {path}; run eval.py again")
            scored = ()
    else:
        missing.append(f"{lines} does not exist; eval.py writes it")
    utterances: dict[str, Utterance] = {}
    try:
        read = open_manifest(summary["manifest"], summary.get("data_root"))
        utterances = {utterance.id: utterance for utterance in read}
    except ManifestError:  # its text would quote lines of whatever file the summary names
        missing.append(f"speakers and audio are not known: {summary['manifest']} is no manifest that can be read")
    return Scores(summary, scored, utterances, tuple(missing))


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = parse_json(text)
    except ReadError as error:
        raise OutputError(f"{path} is damaged ({error}); run again what wrote it, or remove it") from error
    return parsed
