"""The cached library of kernels: never loaded unless it is as it was written."""

from pathlib import Path

import pytest

from mindaudio_ds2.ops import library

COMPILED = b"a library" * 100
CPUINFO = Path("/proc/cpuinfo")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library in a cache of its own, from a compiler that only writes bytes."""
    monkeypatch.setattr(library, "list_cache_folders", lambda: iter([tmp_path]))
    monkeypatch.setattr(library, "_find_compiler", lambda: "one")
    monkeypatch.setattr(library, "_name_compiler", lambda compiler: compiler)
    monkeypatch.setattr(library, "compile_library", lambda path: path.write_bytes(COMPILED))
    return library._build_cached()


def test_a_whole_library_is_taken_from_the_cache(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached.read_bytes().startswith(COMPILED)
    monkeypatch.setattr(library, "compile_library", lambda path: pytest.fail("compiled again"))
    assert library._build_cached() == cached


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:100], lambda b: b"", lambda b: b"x" + b[1:]])
def test_a_damaged_library_is_compiled_again(cached: Path, damage: object) -> None:
    whole = cached.read_bytes()
    cached.write_bytes(damage(whole))  # type: ignore[operator]
    assert library._build_cached() == cached
    assert cached.read_bytes() == whole


def test_another_compiler_has_a_library_of_its_own(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_find_compiler", lambda: "another")
    assert library._build_cached() != cached


def test_a_compiler_that_does_not_know_the_newest_instructions_leaves_them_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(library, "_compile", lambda compiler, flags, folder, unit: compiled.append((unit.stem, flags)))
    monkeypatch.setattr(library, "_run", lambda command: "")
    library.compile_library(tmp_path / "all.so", "c++")
    all_units = [unit for unit, _ in compiled]
    compiled.clear()
    monkeypatch.setattr(library, "_knows", lambda compiler, unit, folder: False)
    library.compile_library(tmp_path / "fewer.so", "c++")
    assert set(all_units) - {unit for unit, _ in compiled} == set(all_units) & {"isa_amx"}
    is_said = "isa_amx" in all_units
    assert all(("-DDS2_WITHOUT_AMX" in flags) == is_said for _, flags in compiled)


@pytest.mark.skipif(not CPUINFO.exists(), reason="what the processor has is read from /proc/cpuinfo")
def test_bfloat16_is_found_where_the_system_names_it(kernels: Path) -> None:
    flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), "").split()
    assert library.has_bfloat16(kernels) == ("avx512_bf16" in flags)
