"""Lines of results.jsonl, and the tables that the README makes of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import write_text
from recipes.benchmark.beside import make_beside_table
from recipes.benchmark.contender import CONTENDERS, MINDSPORE_OFFICIAL, PYTORCH
from recipes.benchmark.ladder import make_ladder_table
from recipes.benchmark.others import QUIET_SHARE

Line = dict[str, Any]

MARKERS = {
    "steps": ("<!-- steps: written by recipes/benchmark/benchmark.py -->", "<!-- end of steps -->"),
    "shapes": ("<!-- shapes: written by recipes/benchmark/benchmark_shapes.py -->", "<!-- end of shapes -->"),
    "pieces": ("<!-- pieces: written by recipes/benchmark/benchmark.py -->", "<!-- end of pieces -->"),
    "beside": ("<!-- beside: written by recipes/benchmark/benchmark.py -->", "<!-- end of beside -->"),
    "ladder": ("<!-- ladder: written by recipes/benchmark/benchmark.py -->", "<!-- end of ladder -->"),
    "scaling": ("<!-- scaling: written by recipes/benchmark/benchmark_scaling.py -->", "<!-- end of scaling -->"),
    "recurrent": (
        "<!-- recurrent: written by recipes/benchmark/benchmark_recurrent.py -->",
        "<!-- end of recurrent -->",
    ),
    "precision": (
        "<!-- precision: written by recipes/benchmark/benchmark_precision.py -->",
        "<!-- end of precision -->",
    ),
    "devices": ("<!-- devices: written by recipes/benchmark/device_audit.py -->", "<!-- end of devices -->"),
    "machines": ("<!-- machines: written by recipes/benchmark/benchmark_scaling.py -->", "<!-- end of machines -->"),
}


def keep(folder: Path, lines: Iterable[Line]) -> None:
    """Append lines to results.jsonl and rewrite the tables in README.md, and two in docs/benchmarks.md.

    Raises:
        OutputError: a file cannot be written, or the README has no place for a table.
    """
    path = folder / "results.jsonl"
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{row}\n" for row in [*old, *(json.dumps(line) for line in lines)]))
    everything = read_lines(folder)
    readme = folder / "README.md"
    if not readme.exists():
        return
    text = readme.read_text(encoding="utf-8")
    for name, make_table in (
        ("steps", make_steps_table),
        ("pieces", make_pieces_table),
        ("shapes", make_shapes_table),
    ):
        text = put_table(text, name, make_table(everything))
    write_text(readme, text)
    _keep_page(folder.parent.parent / "docs" / "benchmarks.md", everything)


def _keep_page(page: Path, lines: Sequence[Line]) -> None:
    """Rewrite the tables of the project's own page; results elsewhere have none above them."""
    if not page.exists():
        return
    text = page.read_text(encoding="utf-8")
    for name, make_table in (("beside", make_beside_table), ("ladder", make_ladder_table)):
        if MARKERS[name][0] in text:
            text = put_table(text, name, make_table(lines))
    write_text(page, text)


def read_lines(folder: Path) -> list[Line]:
    """All lines, oldest first. Those of benchmark.py have a task, those of benchmark_shapes.py have none."""
    return [json.loads(row) for row in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def show(folder: Path, run: str) -> str:
    """The tables of one run, by the time of its start."""
    lines = [line for line in read_lines(folder) if line.get("run") == run]
    parts = [make_steps_table(lines), make_pieces_table(lines)]
    return "\n\n".join(part for part in parts if part)


def put_table(readme: str, name: str, table: str) -> str:
    """Replace what stands between the markers of a table.

    Raises:
        OutputError: the markers are missing.
    """
    begin, end = MARKERS[name]
    if begin not in readme or end not in readme:
        raise OutputError(f"the README has no place for the table; put these lines into it: {begin} and {end}")
    before, rest = readme.split(begin, 1)
    inside = f"{table}\n" if table else ""
    return f"{before}{begin}\n{inside}{end}{rest.split(end, 1)[1]}"


def choose_newest(lines: Iterable[Line]) -> list[Line]:
    """The newest line for each network, case and contender, cases in the order in which they first came."""
    newest: dict[tuple[str, str, str], Line] = {}
    for line in lines:
        newest[line["network"], line["case"], line["contender"]] = line
    order = list(dict.fromkeys((network, case) for network, case, _ in newest))
    return sorted(
        newest.values(),
        key=lambda line: (order.index((line["network"], line["case"])), CONTENDERS.index(line["contender"])),
    )


def make_steps_table(lines: Sequence[Line]) -> str:
    """Whole steps as Markdown, a table for each network; empty without any.

    Ratios and the share of the limit compare with lines of the same run only, because machines differ from day to day.
    """
    steps = [line for line in lines if "task" in line and "pieces" not in line]
    newest = choose_newest(steps)
    texts = []
    for network in dict.fromkeys(line["network"] for line in newest):
        rows = [
            "| case | contender | audio seconds a second | x pytorch | x mindspore-official "
            "| x mindspore-official at batch 1 | GFLOP/s | share of limit | compiling | first step after | peak memory "
            "| date | commit |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        rows += [_make_row(line, steps) for line in newest if line["network"] == network]
        texts.append(f"**{network}**\n\n" + "\n".join(rows))
    return "\n\n".join(texts)


def _make_row(line: Line, lines: Sequence[Line]) -> str:
    start = f"| {line['case']} | {line['contender']} |"
    end = f"{line['date']}{_note_load(line)} | {_name_commit(line)} |"
    if "failure" in line:
        return f"{start} failed: {_escape(line['failure'])} {'| ' * 8}| {end}"
    same_run = [other for other in lines if other["run"] == line["run"] and "failure" not in other]
    peers = {other["contender"]: other for other in same_run if _is_same_case(other, line)}
    alone = [
        other
        for other in same_run
        if other["contender"] == MINDSPORE_OFFICIAL
        and other["batch"] == 1
        and other["network"] == line["network"]
        and other["case"] == line["case"].replace(f", {line['batch']} x ", ", 1 x ")
    ]
    limit = max(other["gemm_gflops"] for other in same_run)
    cells = [
        f"{line['audio_seconds_per_second']:.2f}",
        _ratio(line, peers.get(PYTORCH)),
        _ratio(line, peers.get(MINDSPORE_OFFICIAL)),
        _ratio(line, alone[0] if alone else None),
        f"{line['gflops']:.0f}",
        f"{100 * line['gflops'] / limit:.0f} % of {limit:.0f}",
        f"{line['compile_seconds']:.1f} s",
        f"{line['first_step_seconds']:.1f} s",
        f"{line['peak_memory_mb'] / 1024:.1f} GB",
    ]
    return f"{start} {' | '.join(cells)} | {end}"


def _is_same_case(a: Line, b: Line) -> bool:
    return bool(a["network"] == b["network"] and a["case"] == b["case"])


def _ratio(line: Line, other: Line | None) -> str:
    return f"{line['audio_seconds_per_second'] / other['audio_seconds_per_second']:.2f}" if other else ""


def _name_commit(line: Line) -> str:
    return f"{line['commit']}{'+' if line['dirty'] else ''}"


def _note_load(line: Line) -> str:
    share: float = line.get("others_share") or 0.0  # none where it failed, or is not known
    return f", busy machine (others took {100 * share:.0f} %)" if share > QUIET_SHARE else ""


def make_pieces_table(lines: Sequence[Line]) -> str:
    """Pieces of steps as Markdown, a table for each network and case; empty without any."""
    newest = choose_newest(line for line in lines if "pieces" in line)
    texts = []
    for network, case in dict.fromkeys((line["network"], line["case"]) for line in newest):
        chosen = [line for line in newest if (line["network"], line["case"]) == (network, case)]
        names = dict.fromkeys(name for line in chosen for name in line["pieces"])
        heads = [_make_head(line) for line in chosen]
        rows = [f"| piece | {' | '.join(heads)} |", f"| --- |{' --- |' * len(chosen)}"]
        rows += [
            f"| {name} | {' | '.join(_make_piece(line['pieces'].get(name)) for line in chosen)} |" for name in names
        ]
        limits = ["" if "failure" in line else f"{line['gemm_gflops']:.0f} GFLOP/s" for line in chosen]
        rows.append(f"| the fastest matrix product | {' | '.join(limits)} |")
        texts.append(f"**{network}, {case}**\n\n" + "\n".join(rows))
    return "\n\n".join(texts)


def make_shapes_table(lines: Sequence[Line]) -> str:
    """What recipes/benchmark/benchmark_shapes.py measured, as Markdown, newest last; empty without any."""
    chosen = [line for line in lines if "num_shapes" in line]
    if not chosen:
        return ""
    rows = [
        "| date | commit | network | kernels | shapes | shapes met | time on new shapes "
        "| audio seconds a second after that |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in chosen:
        kernels = line.get("kernels", "stock")  # lines without the field are older than the choice
        rows.append(
            f"| {line['date']}{_note_load(line)} | {_name_commit(line)} | {line['network']} | {kernels} "
            f"| {line['contender']} | {line['num_shapes']} | {line['seconds_on_new_shapes']:.1f} s "
            f"| {line['audio_seconds_per_second']:.1f} |"
        )
    return "\n".join(rows)


def _make_head(line: Line) -> str:
    failure = f" failed: {_escape(line['failure'])}" if "failure" in line else ""
    return f"{line['contender']} ({line['date']}{_note_load(line)}, {_name_commit(line)}){failure}"


def _make_piece(piece: Line | None) -> str:
    if piece is None:
        return ""
    rate = f", {piece['gflops']:.0f} GFLOP/s" if "gflops" in piece else ""
    return f"{piece['seconds']:.4f} s{rate}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
