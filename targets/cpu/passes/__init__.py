"""Lowering passes for ONNX Runtime on CPUs."""
