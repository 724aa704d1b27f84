"""What README.md, README_CN.md and docs/ name exists: files, commands, keys of the configuration, links."""

import re
from pathlib import Path

import pytest

from mindaudio_ds2.commands import list_commands
from mindaudio_ds2.config import flatten, to_mapping
from mindaudio_ds2.config_reader import read_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "README_CN.md", *sorted((ROOT / "docs").glob("*.md"))]
KEYS = set(flatten(to_mapping(read_config(ROOT / "hparams" / "an4.yaml"))))
FILE_ENDINGS = {"md", "json", "mindir", "py", "ckpt", "onnx"}
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}


def name_page(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_files_and_scripts_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.-])((?:scripts|recipes|hparams|docs)/[\w/.-]+\.(?:py|sh|yaml|md))", text))
    assert not [name for name in named if not (ROOT / name).exists()]
    verbs = set(re.findall(r"python (\w+\.py)", text))
    assert not [verb for verb in verbs if not (ROOT / verb).exists()]


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_links_of_a_page_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (path.parent / target).exists()]


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_commands_that_a_page_names_exist(path: Path) -> None:
    named = set(re.findall(r"mindaudio-ds2 ([a-z]\w+)", path.read_text(encoding="utf-8")))
    assert named <= set(list_commands())


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_keys_that_a_page_names_exist(path: Path) -> None:
    words = set(re.findall(r"(?<![\w/.-])(?:--)?([a-z_]+\.[a-z_]+)(?![\w./(])", path.read_text(encoding="utf-8")))
    named = {word for word in words if word.split(".")[0] in SECTIONS and word.split(".")[1] not in FILE_ENDINGS}
    assert named <= KEYS


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_both_languages_give_the_same_rates() -> None:
    rates = [
        re.findall(r"[\d.]+ %", (ROOT / name).read_text(encoding="utf-8").split(heading)[1].split("\n## ")[0])
        for name, heading in (("README.md", "## Results"), ("README_CN.md", "## 结果"))
    ]
    assert rates[1]
    assert set(rates[1]) <= set(rates[0])
