"""From a checkpoint of another project to one of ours."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import build_network, check_size, fill, save_checkpoint
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.importers.labels import check_labels, to_text_config
from mindaudio_ds2.importers.layouts import LAYOUTS, Layout
from mindaudio_ds2.importers.source import Source, read_source
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.models import require_new_checkpoint
from mindaudio_ds2.network_config import FeatureConfig, ModelConfig

_LOOKAHEAD = "lookahead.conv.weight"
_RNN_TYPES: dict[int, Literal["lstm", "gru"]] = {4: "lstm", 3: "gru"}  # by the number of gates


@dataclasses.dataclass(frozen=True)
class Choices:
    """What is said by name because the file may not tell it; None takes the file's word, or else the project's own.

    Attributes:
        format: a key of `LAYOUTS`.
        labels: the characters in the order of their ids, `_` for the blank.
        sample_rate_hz: of the audio it was trained with.
        window: of the features.
        window_seconds: of the features.
        hop_seconds: of the features.
    """

    format: str | None = None
    labels: Sequence[str] | None = None
    sample_rate_hz: int | None = None
    window: str | None = None
    window_seconds: float | None = None
    hop_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Imported:
    """What became of a file.

    Attributes:
        config: the network's configuration, complete; everything but features, alphabet and network is the template's.
        project: whose file it was.
        num_weights: values of the network, running statistics included.
        assumed: what neither the file nor a choice told, and what was taken; sentences.
        left_out: entries of the file that are no part of the network.
        config_path: the YAML to go on training with.
        has_checksums: whether damage within the file would have been found.
    """

    config: Config
    project: str
    num_weights: int
    assumed: list[str]
    left_out: list[str]
    config_path: Path
    has_checksums: bool


def import_checkpoint(source_path: str | Path, output: str | Path, template: Config, choices: Choices) -> Imported:
    """Write `output`, a checkpoint of ours with the weights of another project's, and beside it its YAML.

    Args:
        source_path: a checkpoint of MindAudio, the model zoo or deepspeech.pytorch.
        output: ends with `.ckpt`.
        template: gives what no checkpoint of theirs tells: batching, optimiser, paths.
        choices: what the file may not tell.

    Returns:
        What was written, and what was assumed.

    Raises:
        CheckpointError: unusable, ambiguous, or not the network of its project; then nothing is written.
        ConfigError: the settings it was trained with cannot be.
        OutputError: `output` cannot be written.
    """
    output = Path(output)
    require_new_checkpoint(output, source_path)
    source = read_source(source_path)
    layout = LAYOUTS[_choose_format(source, choices.format)]
    assumed: list[str] = []
    model = _measure(source, layout, template.model)
    labels = _settle_labels(source, layout, choices.labels, assumed)
    features = _settle_features(source, layout, choices, template.features, assumed)
    text, rows = to_text_config(labels)
    config = dataclasses.replace(template, run_dir=f"runs/{output.stem}", text=text, features=features, model=model)
    check_size(config, sum(array.size for array in source.arrays.values()), str(source.path))
    network = build_network(config)
    weights = _convert(source, layout, network, features)
    weights["head.weight"] = weights["head.weight"][rows]
    fill(network.weights(), weights, str(source.path))
    save_checkpoint(output, config, network.weights(), {}, {})
    config_path = output.with_suffix(".yaml")
    write_text(config_path, yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True))
    num_weights = sum(array.size for array in weights.values())
    return Imported(config, layout.project, num_weights, assumed, source.left_out, config_path, source.has_checksums)


def _choose_format(source: Source, chosen: str | None) -> str:
    if chosen is not None and chosen not in source.formats:
        raise CheckpointError(
            f"{source.path} is not of {LAYOUTS[chosen].project}: its names are those of {', '.join(source.formats)}"
        )
    if chosen is None and len(source.formats) > 1:
        windows = ", ".join(f"{name} computes features with {LAYOUTS[name].window}" for name in source.formats)
        raise CheckpointError(
            f"{source.path}: the names are the same in {' and '.join(source.formats)}, but {windows}; "
            f"say which one it is, with --format {source.formats[0]}, say"
        )
    return chosen or source.formats[0]


def _measure(source: Source, layout: Layout, template: ModelConfig) -> ModelConfig:
    """The network's sizes and switches: what is the same in all networks of the project, and what the shapes tell."""
    recurrent = [name for name in sorted(source.arrays) if name.endswith("weight_hh_l0")]
    shapes = [source.arrays[name].shape for name in recurrent]
    if not shapes or len(shapes[0]) != 2:
        raise CheckpointError(
            f"{source.path}: missing weight_hh_l0 of the recurrent layers, whose shape tells the network's size"
        )
    rows, hidden = shapes[0]
    if rows % hidden or rows // hidden not in _RNN_TYPES:
        raise CheckpointError(
            f"{source.path}: {recurrent[0]} has shape {shapes[0]}, neither LSTM (4 rows for each column) nor GRU (3); "
            "other recurrent cells cannot be imported"
        )
    layers = {m.group(1) for m in (re.match(r"(?:rnns|RNN\.lstms)\.(\d+)\.", name) for name in source.arrays) if m}
    lookahead = source.arrays.get("lookahead.0.conv.weight")
    measured: dict[str, Any] = {
        "rnn_type": _RNN_TYPES[rows // hidden],
        "rnn_num_layers": len(layers),
        "rnn_hidden_size": hidden,
        "bidirectional": any(name.endswith("_l0_reverse") for name in source.arrays),
        "lookahead_frames": template.lookahead_frames if lookahead is None else lookahead.shape[-1],
    }
    return ModelConfig(**(measured | dict(layout.model)))


def _settle_labels(source: Source, layout: Layout, chosen: Sequence[str] | None, assumed: list[str]) -> Sequence[str]:
    head = source.arrays.get(layout.name_weight("head.weight"))
    told = source.settings.get("labels")
    if told is not None:
        check_labels(told, str(source.path))
    labels = _settle(source, "--alphabet", told, None if chosen is None else list(chosen), None)
    if labels is None:
        labels = list(layout.labels)
        assumed.append(f"alphabet and blank: {''.join(labels)!r}, {layout.project}'s own (--alphabet)")
    check_labels(labels, str(source.path))
    if head is not None and len(head) != len(labels):
        where = (
            "the file's own labels" if told is not None else "the labels given" if chosen else "its project's labels"
        )
        raise CheckpointError(
            f"{source.path} has {len(head)} outputs, but {where} are {len(labels)} characters with the blank; "
            "give the labels.json it was trained with, with --alphabet"
        )
    return list(labels)


def _settle_features(
    source: Source, layout: Layout, choices: Choices, template: FeatureConfig, assumed: list[str]
) -> FeatureConfig:
    settled: dict[str, Any] = {}
    for key, option, theirs, default in (
        ("sample_rate_hz", "--sample_rate", "sample_rate", 16000),
        ("window", "--window", "window", layout.window),
        ("window_seconds", "--window_seconds", "window_size", 0.02),
        ("hop_seconds", "--hop_seconds", "window_stride", 0.01),
    ):
        settled[key] = _settle(source, option, source.settings.get(theirs), getattr(choices, key), None)
        if settled[key] is None:
            settled[key] = default
            assumed.append(f"features.{key}: {default}, {layout.project}'s own ({option})")
    if settled["window"] not in ("hamming", "hann"):
        raise CheckpointError(f"{source.path}: features with window {settled['window']!r}; here are hamming and hann")
    rate = settled["sample_rate_hz"]
    window_samples, hop_samples = int(rate * settled["window_seconds"]), int(rate * settled["hop_seconds"])
    num_mel_bands = min(template.num_mel_bands, window_samples // 2)  # has no effect on a log_spectrogram
    return FeatureConfig(
        sample_rate_hz=rate,
        kind="log_spectrogram",
        window=settled["window"],
        window_seconds=window_samples / rate,  # they cut off parts of a sample, where we would round
        hop_seconds=hop_samples / rate,
        fft_size=window_samples,
        num_mel_bands=num_mel_bands,
        normalization="utterance",
        corpus_mean=[],
        corpus_deviation=[],
    )


def _settle(source: Source, option: str, told: Any, chosen: Any, default: Any) -> Any:
    if told is not None and chosen is not None and told != chosen:
        raise CheckpointError(f"{source.path} says {told!r}, but {option} says {chosen!r}; leave the option out")
    return told if told is not None else chosen if chosen is not None else default


def _convert(
    source: Source, layout: Layout, network: DeepSpeech2, features: FeatureConfig
) -> dict[str, NDArray[np.float32]]:
    """The source's arrays by our names and in our shapes; everything that does not fit is listed at once."""
    expected = {layout.name_weight(name): name for name in network.weights()}
    shapes = {name: tuple(parameter.shape) for name, parameter in network.weights().items()}
    shapes |= {name: (*shape[:2], *shape[3:]) for name, shape in shapes.items() if name == _LOOKAHEAD}
    present = [name for name in expected if name in source.arrays]
    problems = [f"missing {name}" for name in expected if name not in source.arrays]
    problems += [f"unknown {name}" for name in source.arrays if name not in expected]
    problems += [
        f"{name} has shape {source.arrays[name].shape}, {layout.project}'s network of this size "
        f"with {features.num_bins} bins of features has {shapes[expected[name]]}"
        for name in present
        if source.arrays[name].shape != shapes[expected[name]]
    ]
    problems += [f"{name} holds values that are not finite" for name in present if not _is_finite(source.arrays[name])]
    if problems:
        shown = "\n  ".join(problems)
        raise CheckpointError(
            f"{source.path} is not a network that {layout.project} builds; was it trained with other code, or with "
            f"features of another size (--sample_rate, --window_seconds)? Nothing was written:\n  {shown}"
        )
    arrays = {expected[name]: source.arrays[name] for name in expected}
    return {name: array[:, :, None] if name == _LOOKAHEAD else array for name, array in arrays.items()}


def _is_finite(array: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(array).all())
