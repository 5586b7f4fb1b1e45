"""From a checkpoint to the canonical graph: read it safely, trace it once, write it at the highest level ONNX has."""
