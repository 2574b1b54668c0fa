"""The networks of MTCNN in ONNX Runtime, and what else the cascade computes there. The graphs are written by
``scripts/maintain/export_mtcnn.py``; all detectors of a process share them.
"""

from functools import cache
from pathlib import Path

import numpy as np

from ..utils.forks import count_threads
from .onnx_session import Session

__all__ = ["OnnxNetworks", "average", "nms", "place_cut_faces"]

_FOLDER = Path(__file__).parent / "mtcnn"

_PIXELS_AT_ONCE = 100_000
"""Pixels that the first network looks at together, so that its features stay in the processor's caches."""

_AT_ONCE_24, _AT_ONCE_48 = 16, 8
"""Crops that the second and the third network look at together, likewise."""

_STRIDE, _CELL = 2, 12
"""Of the views of the first network, pixels."""


class OnnxNetworks:
    """facenet-pytorch's networks on the CPU, as `cascade.Networks` has them."""

    def propose(self, pixels: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
        count, height, width = pixels.shape[0], pixels.shape[1] + 2 * margin, pixels.shape[2] + 2 * margin
        together = max(_PIXELS_AT_ONCE // (height * width), 1)
        # as many rows of views, and the rows of pixels that they see
        rows = max((_PIXELS_AT_ONCE // width - _CELL) // _STRIDE + 1, 16)
        pictures = []
        for first in range(0, count, together):
            strips, top = [], 0
            while top == 0 or top + _CELL <= height:
                bottom = top + _STRIDE * (rows - 1) + _CELL
                # the last row of views may reach over the edge by a pixel
                bottom = height if bottom + _STRIDE > height else bottom
                strip = _pad(pixels[first : first + together], margin, top, bottom)
                strips.append(_run("pnet", pixels=strip))
                top += _STRIDE * rows
            pictures.append([np.concatenate(parts, 2) for parts in zip(*strips, strict=True)])
        moves, scores = (np.concatenate(parts) for parts in zip(*pictures, strict=True))
        return moves, scores[:, 0]

    def refine(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moves, scores = _run_by_parts("rnet", crops, _AT_ONCE_24)
        return moves, scores[:, 0]

    def confirm(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moves, points, scores = _run_by_parts("onet", crops, _AT_ONCE_48)
        return moves, points, scores[:, 0]


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression.

    Args:
        boxes: ``(N, 4)``, float32.
        scores: ``(N,)``, float32.
        threshold: Overlap, as intersection over union, above which the box of the lower score is left out.

    Returns:
        Numbers of the boxes that are kept, the surest first; of equals, the first.
    """
    limit = np.array([threshold], np.float32)
    (kept,) = _run("nms", boxes=boxes[None], scores=scores[None, None], count=np.array([len(boxes)]), threshold=limit)
    return kept[:, 2]


def place_cut_faces(crops: np.ndarray) -> np.ndarray:
    """Landmarks of faces of which the edge of the photo hides much, from O-Net trained further on such faces by
    ``scripts/maintain/train_cut_faces.py``.

    Args:
        crops: ``(N, 3, 48, 48)``, float32, normalized.

    Returns:
        Five x and five y as fractions of the crop's side ``(N, 10)``, outside of [0, 1] if beyond the crop.
    """
    (points,) = _run_by_parts("cut_faces", crops, _AT_ONCE_48)
    return points


def average(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Weighted means of rows, and then of columns, of pictures; NumPy's own threads would be in the networks' way.

    Args:
        pixels: ``(B, H, W, 3)`` uint8.
        rows: Weights ``(B, h, H)``, float32.
        columns: Weights ``(B, w, W)``, float32.

    Returns:
        ``(B, 3, h, w)``, float32, normalized.
    """
    (crops,) = _run("average", pixels=pixels, rows=rows, columns=columns)
    return crops


def _pad(pixels: np.ndarray, margin: int, top: int, bottom: int) -> np.ndarray:
    """Rows of pictures ``(B, h, w, 3)`` that got a margin of gray, as ``(B, 3, bottom - top, w + 2 * margin)``."""
    count, height, width, _ = pixels.shape
    first, last = np.clip([top - margin, bottom - margin], 0, height)
    padded = np.full((count, 3, bottom - top, width + 2 * margin), 127.5, np.float32)
    start = first + margin - top
    padded[:, :, start : start + last - first, margin : margin + width] = pixels[:, first:last].transpose(0, 3, 1, 2)
    return padded


def _run_by_parts(name: str, crops: np.ndarray, at_once: int) -> list[np.ndarray]:
    parts = [_run(name, crops=crops[start : start + at_once]) for start in range(0, len(crops), at_once)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _run(name: str, **inputs: np.ndarray) -> list[np.ndarray]:
    # what is done before another thread has woken up is done on one
    threads = 1 if name in ("average", "nms") else count_threads()
    return _open(name, threads).run(None, inputs)


@cache
def _open(name: str, threads: int) -> Session:
    return Session(_FOLDER / f"{name}.onnx", threads)
