#!/usr/bin/env python3
"""Which operators training and recognition are made of, and where MindSpore has them: a table for docs/devices.md.

python recipes/benchmark/device_audit.py
python recipes/benchmark/device_audit.py --check     # whether the table is what would be written

Nobody here has a GPU or an Ascend device. But MindSpore compiles a graph before it chooses kernels, and writes it as
MINDIR on any machine; so a small network, with everything that a configuration can switch on, is built as for each
device, and operators and types are read from its graphs. device_platforms.json tells where MindSpore has them. What its
C++ chooses by the device is seen as on the CPU; that is the gradient of an LSTM only, which is put right here.
"""

import argparse
import contextlib
import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.nn.layer import rnns
from mindspore.ops.operations import comm_ops
from mindspore.train.mind_ir_pb2 import ModelProto, TensorProto

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.export.waveform import WaveformFeatures
from mindaudio_ds2.files import write_text
from mindaudio_ds2.hparams import find_hparams
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.machine.ranks import Place
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.training.learner import Learner
from recipes.benchmark.device_platforms import DATA, DEVICES, DOCUMENTED, KERNEL, PARTS, write_data
from recipes.benchmark.tables import put_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "devices.md"
VERSIONS = ("2.2", "2.3", "2.10")
NUM_UTTERANCES, NUM_FRAMES, NUM_LABELS, NUM_SAMPLES = 4, 20, 3, 3200
INSIDE = {"Depend", "UpdateState", "Load", "MakeTuple", "TupleGetItem", "Partial", "Switch"}  # structure, no kernels
GPU_GRADIENTS = {"LSTMGrad": ("LSTMGradData", "LSTMGradWeight")}
SIGNS = {DOCUMENTED: "yes", KERNEL: "kernel", PARTS: "parts"}
TRAINING, RECOGNITION, WAVEFORM = USES = ("training", "recognition", "features of MINDIR")

Types = dict[str, set[str]]
"""By operator, the types of what goes in and out."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network, and how it is trained.

    Attributes:
        device: that it is built for.
        rnn_type, precision, optimizer: as in a configuration.
        is_rich: both directions, and all that can be added to the loss, over several processes; or else one direction.
    """

    device: str
    rnn_type: Literal["lstm", "gru"]
    precision: Literal["fp32", "fp16", "bf16"]
    optimizer: Literal["adamw", "sgd", "lamb"]
    is_rich: bool


CASES = (
    Case("Ascend", "lstm", "fp16", "adamw", True),
    Case("Ascend", "gru", "bf16", "lamb", False),
    Case("GPU", "lstm", "fp16", "adamw", True),
    Case("GPU", "gru", "fp32", "sgd", False),
    Case("CPU", "lstm", "fp32", "adamw", True),
)


def make_config(case: Case) -> Config:
    """Everything of hparams/deepspeech2.yaml, but small, and with more switched on."""
    config = read_config(find_hparams("deepspeech2"))
    model = dataclasses.replace(
        config.model,
        conv_channels=[2],
        conv_kernel_frequency=[5],
        conv_kernel_time=[3],
        conv_stride_frequency=[16],
        conv_stride_time=[2],
        conv_bias=True,
        activation="clipped_relu" if case.is_rich else "tanh",
        rnn_type=case.rnn_type,
        rnn_num_layers=1,
        rnn_hidden_size=16,
        bidirectional=case.is_rich,
        lookahead_frames=3,
        rnn_dropout=0.1 if case.is_rich else 0.0,
        head_bias=True,
    )
    is_scaled = case.precision == "fp16"
    return dataclasses.replace(
        config,
        model=model,
        features=dataclasses.replace(config.features, normalization="speech" if case.is_rich else "utterance"),
        optimizer=dataclasses.replace(config.optimizer, name=case.optimizer),
        training=dataclasses.replace(
            config.training,
            ema_decay=0.99 if case.is_rich else 0.0,
            label_smoothing=0.1 if case.is_rich else 0.0,
            consistency_weight=0.2 if case.is_rich else 0.0,
            prune_share=0.5 if case.is_rich else 0.0,
        ),
        processes=dataclasses.replace(config.processes, sync_batch_norm=True),
        precision=dataclasses.replace(
            config.precision, compute=case.precision, loss_scale=1024.0 if is_scaled else 1.0, loss_scale_window=10
        ),
    )


@contextlib.contextmanager
def building_for(case: Case) -> Iterator[None]:
    """Let MindSpore's Python choose layers as on a device, and sum over processes that are not there."""
    real = rnns.context.get_context
    # An LSTM for a GPU stays as for the CPU, whose gradient MindSpore's C++ takes here: see GPU_GRADIENTS.
    device = "CPU" if (case.device, case.rnn_type) == ("GPU", "lstm") else case.device
    with (
        mock.patch.object(rnns.context, "get_context", lambda key: device if key == "device_target" else real(key)),
        mock.patch.object(comm_ops, "_get_group", lambda group: group),
    ):
        yield


def find_operators(case: Case) -> dict[str, Types]:
    """Operators of training, of recognition, and of the features that a MINDIR computes, from their graphs."""
    config = make_config(case)
    with building_for(case):
        backend = Backend(None, takes_open_shapes=False, stays_on_device=True)
        learner = Learner(config, backend, Ranks(Place(world_size=2)))
    shape = (NUM_UTTERANCES, NUM_FRAMES, config.features.num_bins)
    features = Tensor(np.zeros(shape, np.float32))
    lengths = Tensor(np.full(NUM_UTTERANCES, NUM_FRAMES, np.int32))
    labels = Tensor(np.ones((NUM_UTTERANCES, NUM_LABELS), np.int32))
    label_lengths = Tensor(np.full(NUM_UTTERANCES, NUM_LABELS, np.int32))
    number = Tensor(1.0, ms.float32)
    batch = [features, lengths, labels, label_lengths, number, number, number, Tensor([0.0], ms.float32)]
    if config.model.rnn_dropout:
        sizes = (config.model.rnn_num_layers, NUM_UTTERANCES, config.model.rnn_hidden_size)
        batch.append(Tensor(np.ones(sizes, np.float32)))
    step = learner.step.cells[-1].set_train(True)
    recognizer = Recognizer(learner.network).set_train(False)
    found = {TRAINING: read_graph(step, *batch), RECOGNITION: read_graph(recognizer, features, lengths)}
    waveforms = Tensor(np.zeros((NUM_UTTERANCES, NUM_SAMPLES), np.float32))
    front = WaveformFeatures(config.features).set_train(False)
    return found | {WAVEFORM: read_graph(front, waveforms, lengths)}


def read_graph(cell: nn.Cell, *inputs: Tensor) -> Types:
    """Operators of what MindSpore compiles of a Cell, before it chooses kernels."""
    model = ModelProto()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.mindir"
        ms.export(cell, *inputs, file_name=str(path), file_format="MINDIR")
        model.ParseFromString(path.read_bytes())
    names = {primitive.name: primitive.op_type for primitive in model.primitives}
    graphs = [model.graph, *model.functions]
    types: Types = defaultdict(set)  # of values
    for graph in graphs:
        for value in graph.input:
            types[value.name] |= {name_type(tensor.data_type) for tensor in value.tensor}
        for weight in graph.parameter:
            types[weight.name].add(name_type(weight.data_type))
        for node in graph.node:
            tensors = [tensor for each in node.attribute for tensor in _list_tensors(each)]
            types[node.output[0]] |= {name_type(tensor.data_type) for tensor in tensors}
    found: Types = defaultdict(set)
    for node in (node for graph in graphs for node in graph.node):
        name = names.get(node.op_type.removeprefix("REF::"))
        if name and name not in INSIDE:
            found[name].update(*(types[value] for value in (*node.input, *node.output)))
    return {name: found[name] - {"undefined"} for name in found}


def _list_tensors(attribute: Any) -> Iterator[Any]:
    yield from attribute.tensors
    for value in attribute.values:
        yield from _list_tensors(value)


def name_type(number: int) -> str:
    """A type of MINDIR as MindSpore's Python calls it."""
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


@dataclass
class Row:
    """What is known of an operator: where it is used, by device, with which types."""

    used: dict[str, set[str]]
    types: set[str]


def collect(cases: tuple[Case, ...] = CASES) -> dict[str, Row]:
    """Operators of several networks, by name."""
    rows: dict[str, Row] = {}
    for case in cases:
        for where, operators in find_operators(case).items():
            for name, types in operators.items():
                parts = GPU_GRADIENTS.get(name, (name,)) if case.device == "GPU" else (name,)
                for part in parts:
                    row = rows.setdefault(part, Row(defaultdict(set), set()))
                    row.used[case.device].add(where)
                    row.types |= types
    return dict(sorted(rows.items()))


def make_table(rows: dict[str, Row], data: dict[str, Any]) -> str:
    """A row for each operator, with a cell for each device that it is used on.

    Args:
        rows: from `collect`.
        data: device_platforms.json.
    """
    platforms, bfloat16 = data["operators"], data["bfloat16"][VERSIONS[-1]]
    lines = ["| operator | used in | types | Ascend | GPU | CPU |", "| --- | --- | --- | --- | --- | --- |"]
    for name, row in rows.items():
        where = set().union(*row.used.values())
        used = ", ".join(each for each in USES if each in where)
        cells = [describe(platforms[name], device) if device in row.used else "" for device in DEVICES]
        lines.append("| " + " | ".join([name, used, ", ".join(sorted(row.types)), *cells]) + " |")
    halves = [name for name, row in rows.items() if "bfloat16" in row.types and name not in bfloat16]
    lines += ["", f"With bfloat16 beyond the list of operators that MindSpore says have it: {', '.join(halves)}."]
    return "\n".join(lines)


def describe(versions: dict[str, dict[str, str]], device: str) -> str:
    """What the versions have for one operator on one device; one word where all have the same."""
    signs = [SIGNS[versions[each][device]] if device in versions[each] else "-" for each in VERSIONS]
    return signs[0] if len(set(signs)) == 1 else " / ".join(signs)


def read_data() -> dict[str, Any]:
    """device_platforms.json."""
    data: dict[str, Any] = parse_json(DATA.read_text(encoding="utf-8"))
    return data


def main() -> None:
    """Write the table into docs/devices.md, or compare it with what stands there.

    Raises:
        ConfigError: an operator has not been looked up yet, or the table is another one.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is out of date")
    options = parser.parse_args()
    runtime.start("CPU", seed=1)
    rows, data = collect(), read_data()
    unknown = sorted(rows.keys() - data["operators"].keys())
    if unknown:
        data["operators"] |= {name: {} for name in unknown}
        write_data(data)
        raise ConfigError(
            f"the graphs have operators that {DATA.name} has not: {', '.join(unknown)}. They are added; look them up "
            f"with recipes/benchmark/device_platforms.py, once for each of {', '.join(VERSIONS)}"
        )
    old = PAGE.read_text(encoding="utf-8")
    new = put_table(old, "devices", make_table(rows, data))
    if options.check and new != old:
        raise ConfigError(f"the table in {PAGE} is not that of the present graphs; write it without --check")
    write_text(PAGE, new)


if __name__ == "__main__":
    main()
