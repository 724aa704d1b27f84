"""Trained networks as files that other programs run: MINDIR by MindSpore, ONNX from the weights."""
