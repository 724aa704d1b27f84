"""The shared library of the native kernels: found beside this file in a built wheel, or compiled at first use.

The kernels in `csrc/` are compiled once for each instruction set and choose among them when they are loaded, so that
one library runs on every processor of its architecture. What was compiled is kept in the user's cache folder under a
name made of the sources' and the compiler's hash: other sources, another compiler or other flags never meet an old
library. Behind it stands its checksum, which is compared before it is loaded.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mindaudio_ds2 import console
from mindaudio_ds2.errors import DeviceError, OutputError
from mindaudio_ds2.files import list_cache_folders, write_atomically

SOURCE_FOLDER = Path(__file__).parent / "csrc"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-ffp-contract=fast", "-Wall", "-Wextra")
AVX512_FLAGS = ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512")
# A source named isa_X.cpp is compiled for X; one for another architecture is left out.
ISA_FLAGS = {
    "isa_generic": (),
    "isa_avx2": ("-mavx2", "-mfma"),
    "isa_avx512": AVX512_FLAGS,
    "isa_avx512_bf16": (*AVX512_FLAGS, "-mavx512bf16"),
    "isa_avx512_vnni": (*AVX512_FLAGS, "-mavx512vnni"),
    "isa_amx": (*AVX512_FLAGS, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
}
# Compilers that are too old for a unit compile the others with this instead.
REPLACEMENTS = {"isa_amx": "-DDS2_WITHOUT_AMX"}
SEAL = b"\nmindaudio_ds2 sha256 "
X86_ONLY = ("isa_avx2", "isa_avx512", "isa_avx512_bf16", "isa_avx512_vnni", "isa_amx")


class CompileError(Exception):
    """The kernels cannot be compiled here. Says why, on one line."""


@functools.lru_cache(maxsize=4)  # asked for by every network that is built; the answer does not change
def find_kernels(mode: str, device_target: str) -> Path | None:
    """The library to use, compiled if need be.

    Args:
        mode: `ops.native` of the configuration. "off": none. "auto": one where it can be had; else a line on stderr
            says why not. "on": an error where it cannot be had.
        device_target: the kernels are for "CPU"; other devices never use them.

    Returns:
        The path of the library, or None for MindSpore's own operators.

    Raises:
        DeviceError: mode "on", and there is no library for this device, or no compiler.
    """
    if mode == "off" or (mode == "auto" and device_target != "CPU"):
        return None
    if device_target != "CPU":
        raise DeviceError(f"ops.native is on, but native kernels are for the CPU, not {device_target}; set it to auto")
    try:
        return _find_installed() or _build_cached()
    except CompileError as error:
        if mode == "on":
            raise DeviceError(f"ops.native is on, but {error}. Install a C++ compiler, or set it to auto") from None
        console.write_line(f"using MindSpore's own operators, which are slower: {error}")
        return None


def load_early(kernels: Path) -> None:
    """Load the library before MindSpore's hundred others.

    MindSpore 2.10 opens it by name for each operator and call, and the loader then compares that name with those of all
    libraries, in the order in which they came.
    """
    ctypes.CDLL(str(kernels))


def has_bfloat16(kernels: Path) -> bool:
    """Whether this processor multiplies in bfloat16: the library wants AVX512-BF16, and takes AMX, too."""
    return bool(ctypes.CDLL(str(kernels)).ds2_has_bfloat16())


def _find_installed() -> Path | None:
    """The library that setup.py left beside this file, if it was made from the sources that stand there now."""
    digest = hash_sources().encode()
    return next(
        (path for path in sorted(Path(__file__).parent.glob("kernels*.so")) if digest in path.read_bytes()), None
    )


def _build_cached() -> Path:
    """The library in the first cache folder that has it whole, else compiled into the first that can be written."""
    name = f"kernels-{hash_sources()}-{platform.machine()}-{_name_compiler(_find_compiler())}.so"
    folders = list(list_cache_folders())
    if found := next((folder / name for folder in folders if _is_whole(folder / name)), None):
        return found
    path = next((folder / name for folder in folders if os.access(folder, os.W_OK)), None)
    if path is None:
        raise CompileError("the native kernels cannot be stored: no cache folder can be written; set XDG_CACHE_HOME")
    try:
        write_atomically(path, _compile_and_seal)
    except OutputError as error:
        raise CompileError(f"the native kernels cannot be stored ({error})") from None
    return path


def _find_compiler() -> str:
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise CompileError(f"the native kernels need a C++ compiler, and there is none of {', '.join(COMPILERS)}")
    return compiler


@functools.lru_cache(maxsize=4)
def _name_compiler(compiler: str) -> str:
    """A name for the program and its version: 8 hexadecimal digits."""
    about = _run([compiler, "--version"]) + str(Path(compiler).resolve())
    return hashlib.sha256(about.encode()).hexdigest()[:8]


def _compile_and_seal(path: Path) -> None:
    """Compile, and put the checksum behind the library, where no loader looks."""
    compile_library(path)
    content = path.read_bytes()
    path.write_bytes(content + SEAL + hashlib.sha256(content).hexdigest().encode())


def _is_whole(path: Path) -> bool:
    """Whether a library is there and as it was written; loading a truncated one would end the program (SIGBUS)."""
    try:
        content, seal, digest = path.read_bytes().rpartition(SEAL)
    except OSError:
        return False
    return bool(seal) and hashlib.sha256(content).hexdigest().encode() == digest


def hash_sources() -> str:
    """A name for the sources together with how they are compiled: 16 hexadecimal digits."""
    digest = hashlib.sha256(repr((FLAGS, ISA_FLAGS)).encode())
    for path in sorted(SOURCE_FOLDER.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def compile_library(output: Path, compiler: str | None = None, more_flags: Sequence[str] = ()) -> None:
    """Compile and link all of `csrc/`; takes some ten seconds.

    Args:
        output: the shared library to write.
        compiler: a C++ compiler; None takes the first that is found.
        more_flags: for compiling and linking, behind the others.

    Raises:
        CompileError: no compiler, or it fails.
    """
    compiler = compiler or _find_compiler()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        units = _list_units()
        unknown = [
            unit for unit in units if unit.stem in REPLACEMENTS and not _knows(compiler, unit.stem, Path(folder))
        ]
        flags = (*more_flags, *(REPLACEMENTS[unit.stem] for unit in unknown))
        compile_unit = functools.partial(_compile, compiler, flags, Path(folder))
        objects = list(pool.map(compile_unit, [unit for unit in units if unit not in unknown]))
        _run([compiler, "-shared", "-fopenmp", *more_flags, *map(str, objects), "-o", str(output)])


def _list_units() -> list[Path]:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return [path for path in sorted(SOURCE_FOLDER.glob("*.cpp")) if is_x86 or path.stem not in X86_ONLY]


def _knows(compiler: str, unit: str, folder: Path) -> bool:
    """Whether the compiler, and its assembler, know the flags of a unit."""
    source = folder / "nothing.cpp"
    source.write_text("int nothing;\n")
    try:
        _run([compiler, *ISA_FLAGS[unit], "-c", str(source), "-o", str(folder / "nothing.o")])
    except CompileError:
        return False
    return True


def _compile(compiler: str, more_flags: tuple[str, ...], folder: Path, source: Path) -> Path:
    output = folder / f"{source.stem}.o"
    flags = [*FLAGS, *ISA_FLAGS.get(source.stem, ()), *more_flags, f'-DDS2_SOURCE_HASH="{hash_sources()}"']
    _run([compiler, *flags, "-c", str(source), "-o", str(output)])
    return output


def _run(command: list[str]) -> str:
    """What the compiler prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} cannot be run ({error})") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise CompileError(f"{command[0]} could not compile the native kernels ({lines[0].strip()})")
    return done.stdout
