"""The table of operators in docs/devices.md: against a graph of today, and against what must be named."""

from pathlib import Path

import pytest

from recipes.benchmark.device_platforms import DOCUMENTED, KERNEL, PARTS, find_platforms

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- devices: written by recipes/benchmark/device_audit.py -->", "<!-- end of devices -->"


def read_page() -> tuple[dict[str, list[str]], str]:
    """Cells of the table by operator, and what stands around it."""
    before, rest = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8").split(BEGIN)
    table, behind = rest.split(END)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows[2:]}, before + behind


def test_the_table_has_every_operator_of_a_training_step_and_of_recognition(mindspore_cpu: None) -> None:
    """Of one network as it is built for Ascend; the script goes through all of them."""
    from recipes.benchmark.device_audit import CASES, collect, describe, read_data

    rows, _ = read_page()
    found, platforms = collect(CASES[:1]), read_data()["operators"]
    assert {"DynamicRNN", "DynamicRNNGrad", "CTCLossV2Grad", "AllReduce", "Adam", "Conv2D"} <= found.keys()
    assert "float16" in found["DynamicRNN"].types
    for name, row in found.items():
        assert name in rows, f"{name} is new: run recipes/benchmark/device_audit.py"
        used, types, ascend, _, _ = rows[name]
        assert all(where in used for where in row.used["Ascend"])
        assert row.types <= set(types.split(", "))
        assert ascend == describe(platforms[name], "Ascend")


def test_what_mindspore_does_not_have_somewhere_is_named_on_the_page() -> None:
    """A bar in a cell is a version that has no such operator on a device whose graph has it."""
    rows, text = read_page()
    assert len(rows) > 60
    lacking = [name for name, cells in rows.items() if any("-" in cell.split() for cell in cells[2:])]
    assert lacking
    assert not [name for name in lacking if f"`{name}`" not in text]


def test_platforms_come_from_the_documentation_first_and_from_kernels_else(tmp_path: Path) -> None:
    ops = tmp_path / "ops"
    ops.mkdir()
    platforms = "Supported Platforms:\n        ``Ascend`` ``GPU``\n"
    ops.joinpath("a.py").write_text(
        f'class Told:\n    """Does.\n\n    {platforms}    """\n\n'
        'class Referring:\n    """Refer to :func:`mindspore.ops.refers` for more."""\n\n'
        f'def refers():\n    """Does.\n\n    {platforms}    """\n\n'
        'class Silent:\n    """Does."""\n',
        encoding="utf-8",
    )
    ops.joinpath("made_here_doc.yaml").write_text(f"made_here:\n    description: |\n        {platforms}", "utf-8")
    tmp_path.joinpath("kernels.cc").write_text(
        "MS_KERNEL_FACTORY_REG(NativeCpuKernelMod, Told, ToldCpu);\n"
        "MS_REG_GPU_KERNEL_ONE(\n  Silent, KernelAttr(), SilentGpu, float)\n"
        "REG_ADPT_DESC(Silent, kName, ADPT_DESC(Silent))\n"
        'REG_FALLBACK_BUILDER("Silent").SetBody(x);\n'
        "MS_ACLNN_KERNEL_FACTORY_REG(Other, OtherAscend);\n",
        encoding="utf-8",
    )
    names = ("Told", "Referring", "MadeHere", "Silent", "Other", "Unknown")
    found = find_platforms(names, tmp_path, tmp_path)
    documented = {"Ascend": DOCUMENTED, "GPU": DOCUMENTED}
    assert found["Told"] == {**documented, "CPU": KERNEL}
    assert found["Referring"] == found["MadeHere"] == documented
    assert found["Silent"] == {"Ascend": KERNEL, "GPU": KERNEL, "CPU": PARTS}
    assert found["Other"] == {"Ascend": KERNEL}
    assert found["Unknown"] == {}


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"2.2": {"GPU": KERNEL}, "2.3": {"GPU": KERNEL}, "2.10": {"GPU": KERNEL}}, "kernel"),
        ({"2.2": {}, "2.3": {"GPU": PARTS}, "2.10": {"GPU": DOCUMENTED}}, "- / parts / yes"),
    ],
)
def test_a_cell_says_once_what_is_the_same(
    versions: dict[str, dict[str, str]], expected: str, mindspore_cpu: None
) -> None:
    from recipes.benchmark.device_audit import describe

    assert describe(versions, "GPU") == expected
