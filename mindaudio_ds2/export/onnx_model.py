"""A checkpoint as an ONNX model in memory: graph, metadata, and the vocabulary that stands beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from mindaudio_ds2.checkpoint import Checkpoint, find_longest_seconds
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.export.compression import compress
from mindaudio_ds2.export.frontend import add_features
from mindaudio_ds2.export.graph import Graph
from mindaudio_ds2.export.layers import NetworkWriter, Weights
from mindaudio_ds2.export.streaming import add_stream
from mindaudio_ds2.network_config import WORD_START
from mindaudio_ds2.portable.description import ENTRY, Description, Input, WeightKind
from mindaudio_ds2.portable.network import INPUT_NAMES, OUTPUT_NAMES
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.text.tokenizer import Tokenizer

SCORE_KEYS = ("wer", "cer", "num_utterances", "num_words", "decoder", "date")


@dataclass(frozen=True)
class OnnxForm:
    """Which ONNX file.

    Attributes:
        input: what it takes.
        weights: how its weights are stored.
        is_stream: whether it takes chunks; of features, from networks without a backward direction.
        licence: of the weights, as text for the file.
    """

    input: Input = "waveform"
    weights: WeightKind = "fp32"
    is_stream: bool = False
    licence: str = ""

    @property
    def file_name(self) -> str:
        """As `onnx-asr` looks for it: model.onnx, model.int8.onnx."""
        kind = "" if self.weights == "fp32" else f".{self.weights}"
        return f"model{'.stream' if self.is_stream else ''}{kind}.onnx"


def build_onnx(checkpoint: Checkpoint, form: OnnxForm, scores: dict[str, Any]) -> onnx.ModelProto:
    """Write a network as an ONNX model.

    The whole form takes `waveforms` (B, L) float32 and `waveforms_lens` (B,) int64 in samples, or `features` (B, T, F)
    and `features_lens` in frames, and gives `logprobs` (B, S, V) float32 and `logprobs_lens` (B,) int64. The form for
    streams is that of `add_stream`.

    Args:
        checkpoint: the network.
        form: which file.
        scores: for the metadata.

    Raises:
        CheckpointError: a stream of a network with a backward direction.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if form.is_stream and config.model.bidirectional:
        raise CheckpointError(
            "a stream needs a network without a backward direction (model.bidirectional: false); leave out --stream"
        )
    if form.is_stream and form.input == "waveform":
        raise CheckpointError("a stream takes features: export it with --input features, or without --stream")
    graph = Graph()
    if form.is_stream:
        add_stream(graph, config.model, config.features.num_bins, weights)
    else:
        _add_whole(graph, config, weights, form.input)
    model = compress(graph.to_model(), form.weights)
    description = Description(
        features=config.features,
        text=config.text,
        input=form.input,
        weights=form.weights,
        is_stream=form.is_stream,
        time_stride=config.model.time_stride,
        seconds_per_output_frame=config.seconds_per_output_frame,
        longest_seconds=find_longest_seconds(checkpoint),
        licence=form.licence,
        decoder={"name": "greedy"},
        scores=scores,
        network=to_mapping(config.model),
    )
    onnx.helper.set_model_props(model, {ENTRY: description.to_json(), "licence": form.licence})
    return model


def _add_whole(graph: Graph, config: Config, weights: Weights, kind: Input) -> None:
    values, lengths = INPUT_NAMES[kind]
    graph.add_input(
        values, TensorProto.FLOAT, ["B", "L"] if kind == "waveform" else ["B", "T", config.features.num_bins]
    )
    graph.add_input(lengths, TensorProto.INT64, ["B"])
    if kind == "waveform":
        features, lengths = add_features(graph, values, lengths, config.features)
    else:
        features = graph.add("Transpose", values, perm=[0, 2, 1])
        mask = graph.add("Unsqueeze", graph.mask(lengths, graph.size(features, 2)), graph.constant([1]))
        features = graph.add("Where", mask, features, graph.constant(0.0))
    log_probs, lengths = NetworkWriter(graph, config.model, weights).add_network(features, lengths)
    size = Tokenizer(config.text).size
    graph.add_output(log_probs, OUTPUT_NAMES[0], TensorProto.FLOAT, ["B", "S", size])
    graph.add_output(lengths, OUTPUT_NAMES[1], TensorProto.INT64, ["B"])


def write_vocabulary(tokenizer: Tokenizer) -> str:
    """The labels as `vocab.txt`: one a line with its id, `▁` for a space and `<blk>` for the blank."""
    names = [symbol.replace(" ", WORD_START) or "<blk>" for symbol in tokenizer.symbols]
    return "".join(f"{name} {label}\n" for label, name in enumerate(names))


def find_scores(checkpoint_path: Path) -> dict[str, Any]:
    """Rates that `eval.py` has left beside the checkpoint, by the manifest's name, but for those of rounded weights."""
    scores = {}
    for path in sorted(checkpoint_path.parent.glob("eval_*.json")):
        try:
            summary = parse_json(path.read_text(encoding="utf-8"))
            if Path(summary["checkpoint"]).name == checkpoint_path.name and summary.get("weights") != "int8":
                scores[summary["split"]] = {key: summary[key] for key in SCORE_KEYS}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of another version, or not ours
    return scores
