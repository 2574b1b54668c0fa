"""Folded networks as ONNX files, without PyTorch and the package onnx, whose import takes longer than all of this.

A file is a message of Protocol Buffers: fields with a number, each a whole number or so many bytes, of which some are
messages themselves. The numbers are those of ``onnx.proto``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

import numpy as np

from ..models.folding import OUTPUT_NAMES, Graph
from ..utils.version import __version__

__all__ = ["OPSET", "to_onnx"]

OPSET = 17
"""Version of ONNX's operators; of 2022, so that whatever reads ONNX today reads it."""

_IR_VERSION = 8
"""Version of the file's format that came with these operators."""

_FLOAT, _UINT8, _FLOAT16 = 1, 2, 10
_TYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.float16): _FLOAT16}

Value = Union[int, str, bytes]


def to_onnx(graph: Graph, metadata: Optional[Mapping[str, Any]] = None) -> bytes:
    """Serialize a graph as ONNX: input ``pixels`` ``(batch, H, W, channels)`` uint8, outputs `OUTPUT_NAMES`.

    Args:
        graph: In float32, or with streams in float16 (`Graph.half_streams`).
        metadata: Metadata of the file, JSON values by name.
    """
    bins, stages = sum(graph.stage_bins), len(graph.stage_bins)
    widths = {"age": 1, "p": bins, "eta": bins, "delta": stages, "width": stages, "contribution": stages}
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    contents: list[tuple[int, Value]] = [
        *((1, _node(*step, half=graph.half)) for step in graph.steps),
        (2, "SSRNet"),
        *((5, _tensor(name, value)) for name, value in graph.constants.items()),
        (11, _value_info("pixels", _UINT8, ("batch", *graph.img_size, graph.in_chans))),
        *((12, _value_info(name, _FLOAT, ("batch", widths[name]))) for name in OUTPUT_NAMES),
    ]
    return _message(
        (1, _IR_VERSION),
        (2, "ssrnet_hub"),
        (3, __version__),
        (7, _message(*contents)),
        (8, _message((1, ""), (2, OPSET))),
        *((14, _message((1, key), (2, value))) for key, value in said.items()),
    )


def _node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Mapping[str, Any], half: bool
) -> bytes:
    if operator == "Cast":
        attributes = {"to": _FLOAT16 if half and attributes["to"] == "streams" else _FLOAT}
    fields = [*((1, name) for name in inputs), *((2, name) for name in outputs), (4, operator)]
    return _message(*fields, *((5, _attribute(name, value)) for name, value in attributes.items()))


def _attribute(name: str, value: Union[int, list[int]]) -> bytes:
    if isinstance(value, list):
        return _message((1, name), *((8, one) for one in value), (20, 7))
    return _message((1, name), (3, value), (20, 2))


def _tensor(name: str, value: np.ndarray) -> bytes:
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return _message(*((1, side) for side in value.shape), (2, _TYPES[value.dtype]), (8, name), (9, little.tobytes()))


def _value_info(name: str, kind: int, shape: Iterable[Union[int, str]]) -> bytes:
    sides = _message(*((1, _message((1 if isinstance(side, int) else 2, side))) for side in shape))
    return _message((1, name), (2, _message((1, _message((1, kind), (2, sides))))))


def _message(*fields: tuple[int, Value]) -> bytes:
    """Fields by their numbers, in their order."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | 2), _varint(len(content)), content]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    """A whole number, 0 or more, seven bits a byte, the last ones first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
