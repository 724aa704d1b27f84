"""What runs where MindSpore is not installed: a network in an ONNX file, through onnxruntime."""
