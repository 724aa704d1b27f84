"""Weights of MindAudio, the model zoo and deepspeech.pytorch: read into our checkpoints, and written for them."""
