"""DeepSpeech2 speech recognition with MindSpore: train, evaluate, transcribe and export."""

__version__ = "0.1.0"
