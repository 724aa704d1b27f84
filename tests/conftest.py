import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.ops.native_library import NativeLibrary
from tests.tiny_corpus import configure, corpus, finished_run, learned_run, run_verb  # noqa: F401 (fixtures)

# The same examples on every run, and no time limit for one of them: machines are slow at times.
settings.register_profile("mindaudio_ds2", deadline=None, derandomize=True)
settings.load_profile("mindaudio_ds2")

# Networks with and without native kernels live in one process here; programs that tests start must give the same bits.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

# A shell starts what it puts into the background with Ctrl-C ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

LONGEST = (
    "test_processes",
    "test_verbs",
    "test_native",
    "test_run_scripts",
    "test_trainer",
    "test_interruption",
    "test_frozen_norms",
    "test_documented_commands",
    "test_device_step",
    "test_deepspeech2",
    "test_dropout",
    "test_mindir",
    "test_units_run",
    "test_weight_average",
    "test_consistency",
    "test_pruning",
    "test_teacher",
    "test_streaming_network",
    "test_step",
    "test_optimizer",
    "test_bad_input",
    "test_config",
)
"""Files that take longest. They begin, so that no process is alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real speech, for the tests that want some: DS2_TEST_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("DS2_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real speech in {folder}; set DS2_TEST_DATA to a folder that holds an4/")
    return folder


@pytest.fixture(scope="session")
def kernels() -> Path:
    """The library of native CPU kernels, or the one that DS2_TEST_KERNELS names; skips where there is no compiler."""
    from mindaudio_ds2.ops.library import find_kernels

    given = os.environ.get("DS2_TEST_KERNELS")  # scripts/sanitize.sh compiles its own
    found = Path(given) if given else find_kernels("auto", "CPU")
    if found is None:
        pytest.skip("no C++ compiler for the native kernels")
    return found


@pytest.fixture(scope="session")
def library(kernels: Path) -> NativeLibrary:
    """The native kernels, to be called from NumPy."""
    return NativeLibrary(kernels)


@pytest.fixture(scope="session")
def mindspore_cpu() -> None:
    """MindSpore in graph mode on the CPU. Ask for it before importing anything that imports MindSpore."""
    from mindaudio_ds2.machine import runtime

    runtime.start("CPU", seed=1)
    # MindSpore 2.10 looks for garbage before each compile, and what was loaded until here is most of what it looks at.
    gc.freeze()
