"""DeepSpeech2 speech recognition with MindSpore: train, evaluate, transcribe and export.

    from mindaudio_ds2 import Recognizer

    recognizer = Recognizer.load("runs/an4/best.ckpt")
    print(recognizer.transcribe("talk.mp3").text)

MindSpore is imported when a checkpoint is loaded, and not before.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindaudio_ds2.segmentation.sources import Hearing, Samples
    from mindaudio_ds2.transcribe import Recognizer
    from mindaudio_ds2.transcription import Transcription

__version__ = "0.1.0"
__all__ = ["Hearing", "Recognizer", "Samples", "Transcription", "__version__"]
_HOMES = {
    "Hearing": "segmentation.sources",
    "Recognizer": "transcribe",
    "Samples": "segmentation.sources",
    "Transcription": "transcription",
}


def __getattr__(name: str) -> Any:
    """Import what is offered here when it is first asked for."""
    if name in __all__:
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
