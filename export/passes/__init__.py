"""Passes over `onnx_ir` graphs; one pass a file, named for what it does."""
