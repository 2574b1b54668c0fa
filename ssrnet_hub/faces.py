"""Finding the faces in a picture, and the landmarks of faces whose boxes are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Protocol, Union

import numpy as np
import torch
from PIL import Image, ImageOps

from .cascade import Cascade
from .framing import Box, Landmarks, align

__all__ = ["Detection", "Detector", "Locator", "MTCNNDetector"]


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
    ):
        if min_face is not None and not 0 < min_face < math.inf:
            raise ValueError(f"min_face is a number of pixels, or a share of the short side, not {min_face}")
        self.min_score = min_score
        self.min_located = min_located
        self.min_face = min_face
        self.max_side = max_side
        self._cascade = Cascade(device)

    def __call__(self, image: Image.Image) -> list[Detection]:
        seen = image
        if max(image.size) > self.max_side:
            ratio = self.max_side / max(image.size)
            size = [max(round(side * ratio), 1) for side in image.size]
            seen = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        min_face = self._smallest(seen.size)
        if min(seen.size) < min_face:
            return []
        faces = self._search(seen, 0, image.size, min_face)
        faces = faces or self._search(seen, max(seen.size) // 4, image.size, min_face)
        return sorted(faces, key=_area, reverse=True)

    def _smallest(self, size: tuple[int, int]) -> float:
        if self.min_face is None:
            return max(20.0, max(size) / 50)
        return self.min_face * min(size) if self.min_face < 1 else self.min_face

    def _search(self, seen: Image.Image, border: int, size: tuple[int, int], min_face: float) -> list[Detection]:
        """The faces in a picture with a border around it, in pixels of the picture at another size."""
        pixels = _to_tensor(ImageOps.expand(seen, border) if border else seen)
        boxes, scores, points = (v.cpu().double().numpy() for v in self._cascade.search(pixels, min_face))
        scale = np.array(size) / seen.size
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
