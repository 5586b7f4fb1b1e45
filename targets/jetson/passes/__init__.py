"""Lowering passes for TensorRT."""
