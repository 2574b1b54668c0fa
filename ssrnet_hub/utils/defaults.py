"""Values that the command shows in its help, away from the slow imports of the modules that they belong to."""

__all__ = ["MAX_PIXELS", "ONNX_FILES", "RUNTIMES"]

MAX_PIXELS = 120_000_000
"""Default limit on the size of a picture, width x height."""

ONNX_FILES = {"float32": "model.onnx", "float16": "model_fp16.onnx", "int8": "model_int8.onnx"}
"""Names of the files by precision, as the Hub's repositories have them in their folder ``onnx``."""

RUNTIMES = ("auto", "onnx", "torch", "eager")
"""What `make_runtime` takes."""
