"""Finding the faces in a picture, and the landmarks of faces whose boxes are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Protocol, Union

import numpy as np
import torch
from PIL import Image, ImageOps

from ..images.alignment import Box, Landmarks, align
from ..utils.forks import reset_threads_after_fork
from .cascade import Cascade

__all__ = ["Detection", "Detector", "Locator", "MTCNNDetector"]


_PIXELS_AT_ONCE, _PIXELS_AT_ONCE_ON_GPU = 1_000_000, 32_000_000
"""Pixels of the pictures that are searched together, at most, but for a single one: on a CPU more of them bring nothing
but a need for memory."""


@dataclass(frozen=True)
class Detection:
    """A face that was found.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the picture, within it.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth (as the viewer sees them), x and y in
            pixels; they may lie outside of the picture where it cuts the face. None where they were not found.
        score: How sure the detector is, in [0, 1].
    """

    box: Box
    landmarks: Optional[Landmarks]
    score: float


class Detector(Protocol):
    """Anything that finds faces: called with an upright RGB picture, it answers the faces in it, the largest first."""

    def __call__(self, image: Image.Image) -> list[Detection]: ...


class Locator(Protocol):
    """Anything that finds the landmarks of faces whose boxes are known, as `MTCNNDetector.locate` does."""

    def locate(self, image: Image.Image, boxes: Sequence[Box]) -> list[Detection]: ...


class MTCNNDetector:
    """MTCNN with facenet-pytorch's networks, whose weights are part of its wheel.

    Where it finds nothing it looks once more, with a border around the picture: it does not see faces that the
    picture's edge cuts.

    Args:
        min_score: Faces below this score are dropped.
        min_located: Below this score a box of someone else's gets no landmarks.
        min_face: Side of the smallest face that has to be found, pixels of the picture as the detector sees it; below
            1, as a share of the picture's short side. The larger it is, the faster the search; below 12 pixels none
            is found. Without, 20 pixels, or 1/50 of the long side where that is more.
        max_side: A picture with a longer side is reduced to this for the search, pixels.
        device: Where the three networks run.
        max_faces: Faces in a picture, at most, the largest of those it is surest of; the time for pictures with very
            many is bounded as well. Without, as many as there are.

    Raises:
        ValueError: ``min_face`` is no number above 0.
    """

    def __init__(
        self,
        min_score: float = 0.9,
        min_located: float = 0.7,
        min_face: Optional[float] = None,
        max_side: int = 2048,
        device: Union[str, torch.device] = "cpu",
        max_faces: Optional[int] = None,
    ):
        if min_face is not None and not 0 < min_face < math.inf:
            raise ValueError(f"min_face is a number of pixels, or a share of the short side, not {min_face}")
        self.min_score = min_score
        self.min_located = min_located
        self.min_face = min_face
        self.max_side = max_side
        self.max_faces = max_faces
        self._cascade = Cascade(device, max_faces)
        on_cpu = torch.device(device).type == "cpu"
        self._pixels_at_once = _PIXELS_AT_ONCE if on_cpu else _PIXELS_AT_ONCE_ON_GPU

    def __call__(self, image: Image.Image) -> list[Detection]:
        return self._search([image])[0]

    def batch(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The faces in each of several upright RGB pictures, as a call finds them; those of one size are searched
        together.
        """
        if type(self).__call__ is not MTCNNDetector.__call__:
            # a subclass has its own way to look at a picture
            return [self(image) for image in images]
        return self._search(images)

    def _search(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        reset_threads_after_fork()
        seen = [self._reduce(image) for image in images]
        found: list[list[Detection]] = [[] for _ in images]
        for bordered in (False, True):
            by_size: dict[tuple[int, int], list[int]] = {}
            for number, picture in enumerate(seen):
                if not found[number] and min(picture.size) >= self._smallest(picture.size):
                    by_size.setdefault(picture.size, []).append(number)
            for size, numbers in by_size.items():
                border = max(size) // 4 if bordered else 0
                count = max(self._pixels_at_once // (size[0] * size[1]), 1)
                for part in (numbers[start : start + count] for start in range(0, len(numbers), count)):
                    pictures = [ImageOps.expand(seen[number], border) if border else seen[number] for number in part]
                    pixels = torch.stack([_to_tensor(picture) for picture in pictures])
                    answers = self._cascade.search(pixels, self._smallest(size))
                    for number, answer in zip(part, answers, strict=True):
                        found[number] = self._detections(answer, border, size, images[number].size)
        return [sorted(faces, key=_area, reverse=True)[: self.max_faces] for faces in found]

    def _reduce(self, image: Image.Image) -> Image.Image:
        if max(image.size) <= self.max_side:
            return image
        ratio = self.max_side / max(image.size)
        size = [max(round(side * ratio), 1) for side in image.size]
        return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)

    def _smallest(self, size: tuple[int, int]) -> float:
        if self.min_face is None:
            return max(20.0, max(size) / 50)
        return self.min_face * min(size) if self.min_face < 1 else self.min_face

    def _detections(
        self, answer: tuple[torch.Tensor, ...], border: int, seen: tuple[int, int], size: tuple[int, int]
    ) -> list[Detection]:
        """What the cascade answered for a picture seen with a border around it, in pixels of the picture itself."""
        boxes, scores, points = (v.cpu().double().numpy() for v in answer)
        scale = np.array(size) / seen
        boxes = ((boxes.reshape(-1, 2, 2) - border) * scale).clip(0, size)
        points = (points - border) * scale
        return [
            Detection(tuple(box.ravel().tolist()), tuple(map(tuple, landmarks.tolist())), float(score))
            for box, landmarks, score in zip(boxes, points, scores, strict=True)
            if score >= self.min_score and (box[1] > box[0]).all()
        ]

    def locate(self, image: Image.Image, boxes: Sequence[Box]) -> list[Detection]:
        """The landmarks of faces whose boxes are known, by the last of the three networks.

        Args:
            image: The upright RGB picture.
            boxes: A box around each face, of whatever detector; it may reach over the picture's edge.

        Returns:
            One detection a box, with the box as it was given; the landmarks are None where the network sees no face.
        """
        if not len(boxes):
            return []
        given = np.array(boxes, float)
        # the network says how its own boxes should be; landmarks are best in one that it put right
        _, better, _ = self._look(image, given)
        scores, _, points = self._look(image, better)
        return [
            Detection(box, tuple(map(tuple, landmarks.tolist())) if score >= self.min_located else None, score)
            for box, landmarks, score in zip(map(tuple, given.tolist()), points, scores.tolist(), strict=True)
        ]

    def _look(self, image: Image.Image, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores ``(N,)``, improved boxes ``(N, 4)`` and landmarks ``(N, 5, 2)`` of the last network."""
        reset_threads_after_fork()
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
        corners = (boxes[:, :2] + boxes[:, 2:] - sides) / 2
        squares = np.concatenate([corners, corners + sides], 1)
        unit = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
        crops = [align(image, c + s * unit, 48 * unit, 48) for c, s in zip(corners, sides, strict=True)]
        answers = self._cascade.look(torch.stack([_to_tensor(crop) for crop in crops]))
        scores, moves, points = (v.cpu().double().numpy() for v in answers)
        return scores, squares + sides * moves, corners[:, None] + sides[:, None] * points


def _to_tensor(image: Image.Image) -> torch.Tensor:
    """An RGB picture as ``(3, H, W)`` uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _area(face: Detection) -> float:
    x1, y1, x2, y2 = face.box
    return (x2 - x1) * (y2 - y1)
