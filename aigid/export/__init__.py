"""From a checkpoint to a model repository: ONNX graphs, INT8, TensorRT engines, parity."""
