"""Values shown in the help of the command, separate from the modules that use them, which are slow to import."""

__all__ = ["MAX_PIXELS", "ONNX_FILES", "RUNTIMES"]

MAX_PIXELS = 120_000_000
"""Default maximum size of an image, width x height."""

ONNX_FILES = {"float32": "model.onnx", "float16": "model_fp16.onnx", "int8": "model_int8.onnx"}
"""File names by precision, in the folder ``onnx`` of repositories on the Hub."""

RUNTIMES = ("auto", "onnx", "torch", "eager")
"""Runtimes that `make_runtime` accepts."""
