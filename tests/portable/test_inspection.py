"""Files that nobody should hand to onnxruntime are named, and neither loaded nor written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.config import to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.network_config import FeatureConfig, TextConfig
from mindaudio_ds2.portable.description import ENTRY, Description, read_description
from mindaudio_ds2.portable.inspection import OPERATORS, read_model_bytes
from mindaudio_ds2.portable.network import INPUT_NAMES, OUTPUT_NAMES, OnnxNetwork

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[Any], object]
DESCRIPTION = Description(
    features=FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 80, "utterance", [], []),
    text=TextConfig("AB ", "first", "upper", "error"),
    input="waveform",
    weights="fp32",
    is_stream=False,
    time_stride=2,
    seconds_per_output_frame=0.02,
    longest_seconds=17.5,
)


def make_model() -> Any:
    """Takes and gives what a network does, and computes next to nothing."""
    waveforms, lengths = INPUT_NAMES["waveform"]
    nodes = [
        helper.make_node("Unsqueeze", [waveforms, "two"], ["column"]),
        helper.make_node("Mul", ["column", "weights"], [OUTPUT_NAMES[0]]),
        helper.make_node("Identity", [lengths], [OUTPUT_NAMES[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(waveforms, TensorProto.FLOAT, ["B", "L"]),
            helper.make_tensor_value_info(lengths, TensorProto.INT64, ["B"]),
        ],
        [
            helper.make_tensor_value_info(OUTPUT_NAMES[0], TensorProto.FLOAT, ["B", "L", 4]),
            helper.make_tensor_value_info(OUTPUT_NAMES[1], TensorProto.INT64, ["B"]),
        ],
        [numpy_helper.from_array(np.array([2]), "two"), numpy_helper.from_array(np.ones(4, np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {ENTRY: DESCRIPTION.to_json()})
    return model


def test_a_plain_file_is_read_and_used(tmp_path: Path) -> None:
    onnx.save(make_model(), tmp_path / "m.onnx")
    assert read_model_bytes(tmp_path / "m.onnx") == (tmp_path / "m.onnx").read_bytes()
    network = OnnxNetwork(tmp_path / "m.onnx", 1)
    assert network.description == DESCRIPTION
    log_probs, lengths = network.recognize([np.ones(3, np.float32), np.ones(2, np.float32)])
    assert log_probs.shape == (2, 3, 4)
    assert lengths.tolist() == [3, 2]


def test_a_file_of_format_1_is_read_as_what_it_was(tmp_path: Path) -> None:
    model = make_model()
    entry = json.loads(model.metadata_props[0].value)
    entry["format_version"] = 1
    for key in ("normalization", "corpus_mean", "corpus_deviation"):
        del entry["features"][key]
    for key in ("tokenizer", "units", "unit_scores"):
        del entry["text"][key]
    model.metadata_props[0].value = json.dumps(entry)
    onnx.save(model, tmp_path / "m.onnx")
    assert OnnxNetwork(tmp_path / "m.onnx", 1).description == DESCRIPTION


def point_elsewhere(model: Any) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def hold_a_graph(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))


HOSTILE: dict[str, tuple[Change, str]] = {
    "weights in another file": (point_elsewhere, "another file"),
    "an operator of a foreign library": (lambda m: setattr(m.graph.node[0], "domain", "evil"), r"evil\.Unsqueeze"),
    "an unknown operator": (lambda m: setattr(m.graph.node[0], "op_type", "Loop"), "the operator Loop"),
    "a graph inside an operator": (hold_a_graph, "a graph of its own"),
    "a huge shape": (lambda m: m.graph.initializer[1].dims.append(2**40), "has 16 bytes"),
    "a negative shape": (lambda m: m.graph.initializer[1].dims.append(-1), "the shape"),
    "a huge number": (
        lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([2**40]), "two")),
        "as if to fill the memory",
    ),
    "a huge attribute": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("pads", [0, 2**40])),
        "as if to fill the memory",
    ),
    "functions": (lambda m: m.functions.add(), "functions"),
    "text as weights": (
        lambda m: m.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"])),
        "has the type 8",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = HOSTILE[case]
    model = make_model()
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=rf"m\.onnx is refused: .*{message}"):
        OnnxNetwork(path)
    assert [*tmp_path.iterdir()] == [path]


def varint(value: int) -> bytes:
    """A whole number as protocol buffers write it."""
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def part(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


WHOLE = b"\x08\x01\x10\x07"  # one value of 64 bits
HUGE, HUGE_RAW = varint(2**40), (2**40).to_bytes(8, "little")
TENSORS = {
    "a huge number by itself": (WHOLE + b"\x38" + HUGE, "damaged"),
    "a number of more than 64 bits": (WHOLE + part(7, b"\xff" * 9 + b"\x7f"), "damaged"),
    "a shape of more than 64 bits": (b"\x08" + b"\xff" * 9 + b"\x7f\x10\x07", "damaged"),
    "a huge raw number before none": (WHOLE + part(9, HUGE_RAW) + part(7, b""), "more than once"),
    "a huge number among 32 bits": (b"\x08\x01\x10\x06" + part(9, b"\xff\xff\xff\x7f"), "fill the memory"),
    "the same, packed": (b"\x08\x01\x10\x06" + part(5, varint(2**31 - 1)), "fill the memory"),
    "no values": (WHOLE, "has 0 bytes"),
    "more dimensions than can be shown": (b"\x08\x01" * 20000 + b"\x10\x07", "20000 dimensions"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_tensor_that_was_written_by_hand_hides_nothing(case: str, tmp_path: Path) -> None:
    tensor, message = TENSORS[case]
    model = make_model()
    graph = model.graph.SerializeToString() + part(5, tensor + part(8, b"huge"))
    model.ClearField("graph")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString() + part(7, graph))
    with pytest.raises(CheckpointError, match=rf"m\.onnx is .*{message}") as caught:
        read_model_bytes(tmp_path / "m.onnx")
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_lengths_and_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def add_lengths(model: Any) -> None:
        model.graph.node[2].op_type = "Add"
        model.graph.node[2].input.append("two")

    def negate_lengths(model: Any) -> None:
        model.graph.node[2].op_type = "Neg"

    def give_more_lengths(model: Any) -> None:
        model.graph.node[2].op_type = "Concat"
        model.graph.node[2].input.append("two")
        model.graph.node[2].attribute.append(helper.make_attribute("axis", 0))

    def forget_a_letter(model: Any) -> None:
        entry = json.loads(model.metadata_props[0].value)
        entry["text"]["characters"] = "A "
        model.metadata_props[0].value = json.dumps(entry)

    for change, message in (
        (add_lengths, r"gives the lengths \[5\]"),
        (negate_lengths, r"gives the lengths \[-3\]"),
        (give_more_lengths, r"gives the lengths \[3 2\]"),
        (forget_a_letter, r"gives an array \(1, 3, 4\) for 1 recordings, and its tokenizer has 3 labels"),
    ):
        model = make_model()
        change(model)
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(CheckpointError, match=rf"m\.onnx {message}"):
            OnnxNetwork(tmp_path / "m.onnx", 1).recognize([np.ones(3, np.float32)])


@pytest.mark.parametrize("content", [b"", b"\x08", b"PK\x03\x04zip", b"\xff" * 40, b"\x3a\x7f" + b"x" * 10])
def test_what_is_no_onnx_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.onnx (is|cannot)"):
        OnnxNetwork(tmp_path / "m.onnx")


def test_a_file_cut_anywhere_is_an_error_and_no_crash(tmp_path: Path) -> None:
    content = make_model().SerializeToString()
    for size in range(0, len(content), 7):
        (tmp_path / "m.onnx").write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            OnnxNetwork(tmp_path / "m.onnx")


def test_a_missing_file_and_a_foreign_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.onnx cannot be read"):
        OnnxNetwork(tmp_path / "gone.onnx")
    model = make_model()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match="not a network of this package"):
        OnnxNetwork(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", 4),
        ("format_version", True),
        ("time_stride", 0),
        ("time_stride", "2"),
        ("seconds_per_output_frame", float("inf")),
        ("input", "video"),
        ("features", {}),
        ("text", None),
        ("text", {**to_mapping(DESCRIPTION.text), "tokenizer": "units.json"}),
        ("text", {**to_mapping(DESCRIPTION.text), "units": ["A"], "unit_scores": ["x"]}),
        ("is_stream", 1),
        ("unknown", 1),
    ],
)
def test_a_description_is_read_strictly(key: str, value: object) -> None:
    mapping = json.loads(DESCRIPTION.to_json())
    mapping[key] = value
    with pytest.raises(CheckpointError, match=r"m\.onnx is not a network of this package"):
        read_description(json.dumps(mapping), "m.onnx")


def test_every_operator_on_the_list_is_one_of_onnx_or_onnxruntime() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    theirs = {"DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
    assert known | theirs >= OPERATORS
