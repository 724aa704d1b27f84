"""The shape of the house, read from its source: which file may import which, and what stands where."""

import ast
import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mindaudio_ds2 import config
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mindaudio_ds2"
VERBS = ("train.py", "eval.py", "transcribe.py", "export.py")

# A module imports modules of lower rank, and those of its own rank within its own room. The longest matching prefix
# counts. From FIRST_MINDSPORE_RANK on, MindSpore may be imported.
RANKS = {
    "": 0,  # mindaudio_ds2/__init__.py
    "errors": 0,
    "console": -1,
    "files": 1,
    "hparams": 1,
    "reading": 1,
    "models": 2,
    "yaml_reader": 2,
    "machine": 1,
    "machine.backend": 1,
    "machine.ranks": 1,
    "familiar_names": 2,
    "augmentation_config": 1,  # sections that "config" is made of
    "network_config": 1,
    "training_config": 1,
    "config": 2,
    "config_reader": 3,
    "corpus": 3,
    "text": 3,
    "corpus.opening": 5,  # measures audio
    "audio": 4,
    "audio.sound_files": 1,  # endings and folders, which the corpus needs, too
    "decoding": 4,
    "segmentation": 5,
    "streaming": 6,
    "batching": 5,  # plan, shapes, collate, feature_cache
    "ops.library": 5,
    "portable": 6,
    "machine.collectives": 6,  # MindSpore begins, at first inside functions
    "machine.devices": 6,
    "machine.runtime": 7,
    "ops": 8,
    "batching.dataset": 8,
    "model": 9,
    "machine.agreement": 10,
    "checkpoint": 10,
    "evaluate": 11,
    "scores": 12,
    "recognition": 11,
    "shrinking": 11,
    "widening": 11,
    "importers": 11,
    "training": 12,
    "training.compiled": 11,
    "transcription": 5,
    "transcribe": 12,  # MindSpore only inside a function, for checkpoints
    "robustness": 13,
    "transcript_formats": 6,
    "transcript_files": 7,
    "export": 12,
    "reporting": 13,
    "serving": 14,
    "browser": 14,
    "commands": 15,
    "__main__": 16,
}
FIRST_MINDSPORE_RANK = RANKS["machine.devices"]
SHARED_READERS = {"recipes.librispeech.tree"}  # LibriSpeech's tree is read by every recipe that has parts of it
RECIPE_IMPORTS = (
    "errors",
    "files",
    "reading",
    "yaml_reader",
    "corpus",
    "text",
    "audio.io",
    "audio.sound_files",
    "decoding.hotwords",
    "models",
    "segmentation.detectors",
)

OWN_READERS = {
    f"{PACKAGE}/reading.py": {"json.loads"},
    f"{PACKAGE}/yaml_reader.py": {"yaml.load"},
    f"{PACKAGE}/machine/collectives.py": {"pickle.loads"},  # of this run's other processes
    f"{PACKAGE}/batching/workers.py": {"pickle.loads"},  # between a process and those that it started
    "recipes/synthetic/speak.py": {"json.load"},  # of the process that started it
}

FORBIDDEN_NAMES = ("utils", "util", "common", "base", "manager", "helper", "helpers", "misc")
MAX_MODULE_LINES = 350
MAX_VERB_LINES = 50


def find_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name inside it; the package's own __init__ is ''."""
    modules = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = find_modules()
RECIPES = sorted((ROOT / "recipes").glob("*/*.py"))
CORPUS_RECIPES = [path for path in RECIPES if path.parent.name != "benchmark"]  # benchmarks measure all rooms
SOURCES = [*MODULES.values(), *CORPUS_RECIPES, *(ROOT / verb for verb in VERBS if (ROOT / verb).exists())]


def name_source(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax of a file, read once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


def find_imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it; `from x import y` gives x.y."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_source(path)}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_module_imports(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, by their dotted names inside it."""
    for name in find_imports(path):
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            inside = name[len(PACKAGE) + 1 :]
            while inside not in MODULES:  # a class or function: the module that defines it
                inside = inside.rpartition(".")[0]
            yield inside


def find_rank(module: str) -> int:
    prefix = module
    while prefix not in RANKS:
        prefix = prefix.rpartition(".")[0]
        assert prefix, f"{module} has no rank; decide where it stands and add it to RANKS"
    return RANKS[prefix]


def is_mindspore(name: str) -> bool:
    return name.split(".")[0] == "mindspore"


def may_import(importer: str, imported: str) -> bool:
    importer_rank, imported_rank = find_rank(importer), find_rank(imported)
    same_room = importer.split(".")[0] == imported.split(".")[0]
    return imported_rank < importer_rank or (same_room and imported_rank == importer_rank)


def find_offenders(paths: Iterable[Path], find: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """What each file does that it should not, by its name; files in order are left out."""
    found = {name_source(path): list(find(path)) for path in paths}
    return {name: offences for name, offences in found.items() if offences}


def test_librosa_is_for_the_tests_only() -> None:
    """It imports numba, which fails where no folder can be written."""
    assert not find_offenders(
        SOURCES, lambda path: [name for name in find_imports(path) if name.split(".")[0] == "librosa"]
    )


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / PACKAGE).rglob("*.py")}
    assert not [name_source(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_imports_point_one_way() -> None:
    for module in filter(None, MODULES):  # the face imports what it offers when it is asked for
        backwards = [name for name in find_module_imports(MODULES[module]) if name and not may_import(module, name)]
        assert not backwards, f"{module} (rank {find_rank(module)}) must not import {backwards}"


def test_no_imports_go_in_a_circle() -> None:
    """Of the package and of the recipes, which import each other within their own folders, but for SHARED_READERS."""
    recipes = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in RECIPES}
    remaining = {module: set(find_module_imports(path)) - {module, ""} for module, path in MODULES.items()}
    for recipe, path in recipes.items():
        names = {name if name in recipes else name.rpartition(".")[0] for name in find_imports(path)}
        remaining[recipe] = names & recipes.keys()
        outside = {name for name in remaining[recipe] if name.split(".")[1] != recipe.split(".")[1]}
        strangers = outside - SHARED_READERS
        assert not strangers, f"{recipe} imports from another recipe: {strangers}"
    while free := [module for module, imports in remaining.items() if not imports & remaining.keys()]:
        for module in free:
            del remaining[module]
    assert not remaining, f"these import each other: {sorted(remaining)}"


def test_mindspore_is_not_imported_before_the_line() -> None:
    before = [path for module, path in MODULES.items() if find_rank(module) < FIRST_MINDSPORE_RANK]
    assert not find_offenders(before, lambda path: [name for name in find_imports(path) if is_mindspore(name)])


def test_importing_what_stands_before_the_line_loads_no_heavy_library() -> None:
    names = [f"{PACKAGE}.{module}" for module in MODULES if module and find_rank(module) <= RANKS["machine.runtime"]]
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print(sorted({{"mindspore", "librosa", "soxr", "matplotlib", "torch"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_recipes_know_only_the_rooms_they_may() -> None:
    def find_strangers(path: Path) -> list[str]:
        return [
            name
            for name in find_module_imports(path)
            if name and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in RECIPE_IMPORTS)
        ] + [name for name in find_imports(path) if is_mindspore(name)]

    assert not find_offenders(CORPUS_RECIPES, find_strangers)


def test_environment_variables_are_read_in_runtime_only() -> None:
    words = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    # files: where the cache lies; models: where the user's lie; commands: before NumPy is loaded
    allowed = [MODULES[name] for name in ("machine.runtime", "machine.threads", "files", "models", "commands")]

    def find_uses(path: Path) -> set[str]:
        nodes = list(ast.walk(parse(path)))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        return words & (used | {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names})

    assert not find_offenders([path for path in SOURCES if path not in allowed], find_uses)


def test_every_verb_hears_through_one_method() -> None:
    """Who sets a recogniser up by himself has a second way from features to text. MINDIR and training need none."""
    users = {module for module, path in MODULES.items() if "feature_signature" in path.read_text(encoding="utf-8")}
    assert users == {"model.deepspeech2", "export.mindir", "training.compiled.step"}


def test_json_and_yaml_have_one_reader_each() -> None:
    """Others would let nesting, endless numbers and keys given twice through; see `reading`."""
    readers = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.load_all", "pickle.load", "pickle.loads"}

    def find_readers(path: Path) -> set[str]:
        attributes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)]
        calls = {f"{node.value.id}.{node.attr}" for node in attributes if isinstance(node.value, ast.Name)}
        return calls & readers - OWN_READERS.get(name_source(path), set())

    assert not find_offenders(SOURCES, find_readers)


def test_no_file_has_a_name_that_says_nothing() -> None:
    def split_name(path: Path) -> set[str]:
        return {word for part in path.relative_to(ROOT).with_suffix("").parts for word in part.lower().split("_")}

    assert not find_offenders(SOURCES, lambda path: split_name(path) & set(FORBIDDEN_NAMES))


def test_modules_fit_into_a_head() -> None:
    sizes = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {name: size for name, size in sizes.items() if size > MAX_MODULE_LINES}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_indexes_of_the_program(verb: str) -> None:
    tree = parse(ROOT / verb)
    assert len((ROOT / verb).read_text(encoding="utf-8").splitlines()) < MAX_VERB_LINES
    assert not [node for node in tree.body if isinstance(node, ast.ClassDef)]


SECTIONS = [cls for cls in vars(config).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]
FIELDS = [(cls, field.name) for cls in SECTIONS for field in dataclasses.fields(cls)]
KEYS = {Config: "config"} | {field.type: field.name for field in dataclasses.fields(Config)}


def find_read_attributes(node: ast.AST) -> set[str]:
    attributes = (inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute))
    return {inner.attr for inner in attributes if isinstance(inner.ctx, ast.Load)}


@functools.cache
def find_names(path: Path) -> tuple[set[str], set[str]]:
    """Attributes that a file reads, and these with all other names in it."""
    attributes = find_read_attributes(parse(path))
    return attributes, attributes | {node.id for node in ast.walk(parse(path)) if isinstance(node, ast.Name)}


@functools.cache
def find_method_reads(cls: type) -> set[str]:
    """Attributes read in the methods of a config class; its validation does not count as use."""
    module = MODULES[cls.__module__.removeprefix(f"{PACKAGE}.")]
    tree = parse(module)
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    methods = [node for node in body if isinstance(node, ast.FunctionDef) and node.name != "__post_init__"]
    return {name for method in methods for name in find_read_attributes(method)}


def is_read(cls: type, field: str) -> bool:
    """A file reads a section's field where it names the section, its class or its key, and has the attribute."""
    if field in find_method_reads(cls):
        return True
    own = tuple(MODULES[f"{kind}config"] for kind in ("", "augmentation_", "network_", "training_"))
    found = [find_names(path) for path in SOURCES if path not in own]
    return any(field in attributes and names & {cls.__name__, KEYS.get(cls)} for attributes, names in found)


def test_every_config_field_is_read_somewhere() -> None:
    idle = [f"{cls.__name__}.{field}" for cls, field in FIELDS if not is_read(cls, field)]
    assert not idle, "nothing reads these; use them or remove them"


HPARAMS = sorted((ROOT / "hparams").glob("*.yaml"))


@pytest.mark.parametrize("path", HPARAMS, ids=name_source)
def test_every_yaml_loads(path: Path) -> None:
    assert isinstance(read_config(path), Config)


def test_yaml_for_librispeech_is_among_those_checked() -> None:
    assert ROOT / "hparams" / "deepspeech2.yaml" in HPARAMS
