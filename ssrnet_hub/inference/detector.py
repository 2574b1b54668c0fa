"""Face detection, and landmarks of faces with known bounding boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Optional, Protocol, Union

import numpy as np
from PIL import Image

from ..images.alignment import Box, Framing, Landmarks, turn_points
from ..utils.forks import reset_threads_after_fork
from ..utils.torch_needed import torch_needed
from .cascade import LOOK, Cascade, Networks, cut, pairs, to_array
from .cascade_onnx import OnnxNetworks, place_cut_faces

if TYPE_CHECKING:
    import torch

__all__ = ["MIN_SCORE", "Detection", "Detector", "MTCNNDetector"]

MIN_SCORE = 0.9
"""Default detection threshold."""

_PIXELS_AT_ONCE, _PIXELS_AT_ONCE_ON_GPU = 1_000_000, 32_000_000
"""Most pixels in a batch of several pictures: on a CPU, larger batches cost memory and are no faster."""

_BACK = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
"""Transpose that makes faces upright again, by their rotation in degrees."""

_TURNED = 5.0
"""Margin in log-odds, summed over two looks, by which another rotation has to win for a face to count as rotated."""

_CERTAIN = 0.9999
"""Score above which a face is taken as upright without trying other rotations: beyond it, differences are noise."""

_SURE = 8.0
"""Minimum log-odds, search plus one look, of a rotated face for the photo to count as rotated."""

_CUT = 0.1
"""Fraction of the box outside the picture above which a face counts as cut off."""

_HIDDEN = 0.3
"""The same, above which the landmarks are those of the network for such faces."""

_AGREED = 0.06
"""Distance, as a fraction of the box, below which these landmarks and the others are averaged: both are noisy."""

_ROUNDS = (1.0,), (1.0,), (0.85, 1.0, 1.18)
"""Looks at such a face, in the square around the landmarks of the round before, scaled by each of these."""

_SQUARE = 2.9
"""Side of that square, in distances between the middle of the eyes and that of the mouth."""

_TRUST = 0.05
"""Distance outside the picture, as a fraction of the box, over which trust in the mouth corners decays by e."""


@dataclass(frozen=True)
class Detection:
    """A detected face.

    Attributes:
        box: x1, y1, x2, y2 in pixels, clipped to the picture.
        landmarks: Left eye, right eye, nose, left and right mouth corner (as seen by the viewer of the upright face), x
            and y in pixels; outside the picture where its edge cuts the face. None if not found.
        score: Detection confidence, in [0, 1].
        turned: Rotation of the face in degrees, counterclockwise as in `PIL.Image.Image.rotate`: 0, 90, 180, or 270.
    """

    box: Box
    landmarks: Optional[Landmarks]
    score: float
    turned: int = 0


class Detector(Protocol):
    """A callable that takes an upright RGB picture and returns its faces, largest first."""

    def __call__(self, image: Image.Image) -> list[Detection]: ...


class MTCNNDetector:
    """MTCNN with the networks of facenet-pytorch.

    O-Net sees each face a second time, in four rotations: this improves the landmarks and tells rotated faces from
    upright ones. If no face is upright, the picture is also searched in the other rotations.

    Args:
        min_score: Detection threshold, in [0, 1]; values below 0.7 have no effect.
        min_located: Threshold for landmarks in given bounding boxes.
        min_face: Size of the smallest face to detect, in pixels of the picture after the reduction to ``max_side``, or,
            below 1, as a fraction of its short side. Larger values are faster; faces below 12 pixels are never
            detected. Default: 20 pixels or 1/50 of the long side, whichever is larger.
        max_side: Larger pictures are reduced to this long side for detection, in pixels.
        device: Device of the three networks.
        runtime: ``"auto"`` and ``"onnx"`` use ONNX Runtime on the CPU and PyTorch elsewhere; ``"torch"`` and
            ``"eager"`` use PyTorch, with facenet-pytorch. All detect the same faces.
        max_faces: Maximum number of faces per picture, the largest of the most confident; also bounds the time for
            crowds. Default: no limit.
        upright_only: Treat all faces as upright, which is faster.

    Raises:
        ValueError: ``min_face`` is not a positive number, or ``min_score`` is not in [0, 1].
        MissingPackageError: PyTorch or facenet-pytorch is required and not installed.
    """

    def __init__(
        self,
        min_score: float = MIN_SCORE,
        min_located: float = 0.7,
        min_face: Optional[float] = None,
        max_side: int = 2048,
        device: Union[str, "torch.device"] = "cpu",
        max_faces: Optional[int] = None,
        upright_only: bool = False,
        runtime: str = "auto",
    ):
        if min_face is not None and not 0 < min_face < math.inf:
            raise ValueError(f"min_face is a number of pixels, or a fraction of the short side, not {min_face}")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score is a number from 0 to 1, not {min_score}")
        self.min_score = min_score
        self.min_located = min_located
        self.min_face = min_face
        self.max_side = max_side
        self.max_faces = max_faces
        self.upright_only = upright_only
        self.runtime = runtime
        self.to(device)

    def to(self, device: Union[str, "torch.device"]) -> "MTCNNDetector":
        """Move the detector to a device, in place."""
        self.device = str(device)
        on_cpu = self.device.partition(":")[0] == "cpu"
        self._pixels_at_once = _PIXELS_AT_ONCE if on_cpu else _PIXELS_AT_ONCE_ON_GPU
        networks: Networks
        if on_cpu and self.runtime in ("auto", "onnx"):
            networks = OnnxNetworks()
        else:
            with torch_needed(f"Finding faces on the device {device}" if not on_cpu else "Finding faces in PyTorch"):
                from .cascade_torch import TorchNetworks
            networks = TorchNetworks(device)
        self._cascade = Cascade(networks, self.max_faces)
        return self

    def __call__(self, image: Image.Image) -> list[Detection]:
        return self._search([image])[0]

    def batch(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """Detect the faces in several upright RGB pictures; pictures of the same size are processed together."""
        if type(self).__call__ is not MTCNNDetector.__call__:
            # of a subclass
            return [self(image) for image in images]
        return self._search(images)

    def _search(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        reset_threads_after_fork()
        found = self._search_upright(images)
        # one upright face makes the picture upright
        lost = [number for number, faces in enumerate(found) if all(face.doubtful for face in faces)]
        if not self.upright_only and lost:
            odds = {number: max([_SURE, *(face.odds for face in found[number])]) for number in lost}
            for turned, back in _BACK.items():
                again = self._search_upright([images[number].transpose(back) for number in lost])
                for number, faces in zip(lost, again, strict=True):
                    best = max((face.odds for face in faces if not face.doubtful), default=-math.inf)
                    if best > odds[number]:
                        odds[number] = best
                        found[number] = [face.turn(turned, images[number].size) for face in faces]
        return [
            sorted((face.detection for face in faces), key=lambda face: _area(face.box), reverse=True)
            for faces in found
        ]

    def _search_upright(self, images: Sequence[Image.Image]) -> list[list["_Found"]]:
        """The faces in pictures, without rotating these."""
        seen = [self._reduce(image) for image in images]
        by_size: dict[tuple[int, int], list[int]] = {}
        for number, picture in enumerate(seen):
            if min(picture.size) >= self._smallest(picture.size):
                by_size.setdefault(picture.size, []).append(number)
        hits: list[tuple[int, _Hit]] = []
        for size, numbers in by_size.items():
            count = max(self._pixels_at_once // (size[0] * size[1]), 1)
            for part in (numbers[start : start + count] for start in range(0, len(numbers), count)):
                answers = self._cascade.search([seen[number] for number in part], self._smallest(size))
                for number, answer in zip(part, answers, strict=True):
                    hits += [(number, hit) for hit in self._select(answer, size, images[number].size)]
        boxes, upright = np.array([hit.box for _, hit in hits]), [hit.score >= _CERTAIN for _, hit in hits]
        looks = self._ask([images[number] for number, _ in hits], boxes, upright, twice=False)
        found: list[list[_Found]] = [[] for _ in images]
        judged = [_judge(hit, look, images[number].size) for (number, hit), look in zip(hits, looks, strict=True)]
        hidden = [
            k
            for k, (number, hit) in enumerate(hits)
            if not judged[k].detection.turned and _beyond(hit.box, images[number].size) > _HIDDEN
        ]
        known = np.array([judged[k].detection.landmarks for k in hidden])
        placed = self._place([images[hits[k][0]] for k in hidden], boxes[hidden], known)
        for k, landmarks in zip(hidden, placed, strict=True):
            judged[k] = judged[k]._replace(detection=replace(judged[k].detection, landmarks=landmarks))
        for (number, _), face in zip(hits, judged, strict=True):
            found[number].append(face)
        return found

    def _place(self, images: Sequence[Image.Image], boxes: np.ndarray, known: np.ndarray) -> list[Landmarks]:
        """Landmarks of upright faces of which much is hidden, by their boxes ``(N, 4)`` and O-Net's ``(N, 5, 2)``."""
        if not len(boxes):
            return []
        middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1)
        largest = _AGREED * sides
        for scales in _ROUNDS:
            answers = []
            for scaled in (scale * sides for scale in scales):
                points = pairs(place_cut_faces(_crop(images, middles, scaled)).astype(float))
                answers.append(middles[:, None] + scaled[:, None, None] * (points - 0.5))
            landmarks = np.mean(answers, 0)
            eyes, mouths = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
            # a network that is lost says anything
            low, high = 0.5 * sides, 2 * sides
            middles, sides = (eyes + mouths) / 2, (_SQUARE * np.hypot(*(eyes - mouths).T)).clip(low, high)
        agreed = np.linalg.norm(landmarks - known, axis=2).max(1) < largest
        landmarks[agreed] = (landmarks + known)[agreed] / 2
        return [tuple(map(tuple, own.tolist())) for own in landmarks]

    def _select(self, answer: tuple[np.ndarray, ...], seen: tuple[int, int], size: tuple[int, int]) -> list["_Hit"]:
        """Detections of the cascade in coordinates of the original picture, largest first."""
        boxes, scores, points = (values.astype(float) for values in answer)
        scale = np.array(size) / seen
        hits = map(_Hit, boxes * np.tile(scale, 2), scores.tolist(), points * scale)
        kept = [hit for hit in hits if hit.score >= self.min_score and _area(_within(hit.box, size)) > 0]
        return sorted(kept, key=lambda hit: _area(_within(hit.box, size)), reverse=True)[: self.max_faces]

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

    def locate(self, image: Image.Image, boxes: Sequence[Box]) -> list[Detection]:
        """Find the landmarks of faces with known bounding boxes, with O-Net.

        Args:
            image: The upright RGB picture.
            boxes: Bounding boxes from any detector; they may extend beyond the picture.

        Returns:
            One detection per box, with the box as given. Landmarks are None if the network sees no face.
        """
        reset_threads_after_fork()
        if not len(boxes):
            return []
        given, found = np.array(boxes, float), []
        looks = self._ask([image] * len(given), given, [False] * len(given), twice=True)
        for box, look in zip(given, looks, strict=True):
            turn = look.turn
            score = float(look.scores[turn])
            landmarks = _to_landmarks(look.landmarks[turn], box, image.size) if score >= self.min_located else None
            if landmarks and not turn and _beyond(box, image.size) > _HIDDEN:
                (landmarks,) = self._place([image], box[None], np.array([landmarks]))
            found.append(Detection(tuple(box.tolist()), landmarks, score, 90 * turn))
        return found

    def _ask(
        self, images: Sequence[Image.Image], boxes: np.ndarray, upright: Sequence[bool], twice: bool
    ) -> list["_Look"]:
        """O-Net's answer for faces in each rotation.

        Args:
            images: The picture of each face.
            boxes: ``(N, 4)``.
            upright: Whether a face is known to be upright, so that the other rotations can be skipped.
            twice: Look at all faces again, in the boxes refined by the first look; otherwise only at those that do not
                look best upright.
        """
        looks = self._look(images, boxes[:, None], upright)
        again = [number for number, look in enumerate(looks) if twice or look.odds.argmax()]
        seconds = self._look(
            [images[number] for number in again],
            np.array([looks[number].boxes for number in again]),
            [upright[number] for number in again],
        )
        for number, look in zip(again, seconds, strict=True):
            looks[number] = look._replace(first=looks[number].first, odds=looks[number].odds + look.odds)
        return looks

    def _look(self, images: Sequence[Image.Image], boxes: np.ndarray, upright: Sequence[bool]) -> list["_Look"]:
        """One look at each face in each rotation, in a square around its box ``(N, 1, 4)``, or one per rotation
        ``(N, 4, 4)``.
        """
        if not len(boxes):
            return []
        sides = (boxes[..., 2:] - boxes[..., :2]).max(-1, keepdims=True)
        middles = (boxes[..., :2] + boxes[..., 2:]) / 2
        asked = np.ones((len(boxes), 4), bool)
        asked[np.array(upright) | self.upright_only, 1:] = False
        faces, turns = asked.nonzero()
        crops = _crop(
            [image for image in images for _ in range(boxes.shape[1])], middles.reshape(-1, 2), sides.reshape(-1)
        ).reshape(*boxes.shape[:2], 3, LOOK, LOOK)
        turned = [np.rot90(crops[face, turn % boxes.shape[1]], -turn, (1, 2)) for face, turn in np.argwhere(asked)]
        # rotations that are skipped score 0
        scores, moves, points = np.zeros((len(boxes), 4)), np.zeros((len(boxes), 4, 4)), np.zeros((len(boxes), 4, 5, 2))
        for known, answer in zip((scores, moves, points), self._cascade.look(np.stack(turned)), strict=True):
            known[faces, turns] = answer
        ends = moves.reshape(-1, 4, 2, 2) + np.array([[0, 0], [1, 1]])
        # from the crop as the network saw it to the picture: a quarter turn back is a factor of -i
        seen = ((np.concatenate([ends, points], 2) - 0.5) @ (1, 1j)) * (-1j) ** np.arange(4)[:, None]
        placed = middles[:, :, None] + sides[:, :, None] * np.stack([seen.real, seen.imag], -1)
        better = np.concatenate([placed[:, :, :2].min(2), placed[:, :, :2].max(2)], -1)
        odds = _log_odds(scores)
        return [_Look(*row) for row in zip(odds[:, 0], odds, scores, better, placed[:, :, 2:], strict=True)]


class _Hit(NamedTuple):
    """A detection of the cascade.

    Attributes:
        box: ``(4,)``; may extend beyond the picture.
        score: In [0, 1].
        landmarks: ``(5, 2)``.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray


class _Look(NamedTuple):
    """O-Net's answer for a face in each of ``T`` rotations.

    Attributes:
        first: Log-odds of the first look at the face upright.
        odds: Log-odds summed over the looks, ``(T,)``.
        scores: Of the last look, ``(T,)``.
        boxes: Refined bounding boxes, ``(T, 4)``.
        landmarks: ``(T, 5, 2)``.
    """

    first: float
    odds: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray

    @property
    def turn(self) -> int:
        """Rotation of the face in quarter turns."""
        turn = int(self.odds.argmax())
        return turn if self.odds[turn] - self.odds[0] > _TURNED and self.scores[turn] > 0.9 else 0


class _Found(NamedTuple):
    """A detection with what is known of its rotation.

    Attributes:
        detection: The face.
        odds: Log-odds of the search and the first look, both upright.
        doubtful: Whether another rotation looks better.
    """

    detection: Detection
    odds: float
    doubtful: bool

    def turn(self, turned: int, size: tuple[int, int]) -> "_Found":
        """The same face in the picture of this size as it was before it was rotated for the search."""
        found, seen = self.detection, size[::-1] if turned % 180 else size
        ends = turn_points(np.array(found.box).reshape(2, 2), turned, seen)
        box = tuple(np.concatenate([ends.min(0), ends.max(0)]).tolist())
        landmarks = tuple(map(tuple, turn_points(np.array(found.landmarks), turned, seen).tolist()))
        return self._replace(detection=Detection(box, landmarks, found.score, (found.turned + turned) % 360))


def _judge(hit: _Hit, look: _Look, size: tuple[int, int]) -> _Found:
    """Combine the search and the looks at a face in a picture of this size."""
    searched, beyond = float(_log_odds(np.array(hit.score))), _beyond(hit.box, size)
    if beyond > _HIDDEN:
        # the looks alone are easily wrong about what is left of a face
        look = look._replace(odds=look.odds + np.array([searched, 0, 0, 0]))
    turn = look.turn
    box, score, landmarks = hit
    if turn:
        box, score, landmarks = look.boxes[turn], float(look.scores[turn]), look.landmarks[turn]
    elif beyond > _CUT:
        # landmarks outside the picture are guesses: average two
        landmarks = (landmarks + look.landmarks[0]) / 2
    else:
        landmarks = look.landmarks[0]
    detection = Detection(tuple(_within(box, size).tolist()), _to_landmarks(landmarks, box, size), score, 90 * turn)
    return _Found(detection, searched + look.first, bool(look.odds.argmax()))


def _beyond(box: np.ndarray, size: tuple[int, int]) -> float:
    """How far a box extends beyond the picture, as a fraction of its longer side."""
    return float(np.abs(box - _within(box, size)).max() / (box[2:] - box[:2]).max())


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = scores.clip(1 - _CERTAIN, _CERTAIN)
    return np.log(scores / (1 - scores))


def _to_landmarks(points: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> Landmarks:
    """Landmarks ``(5, 2)`` of the network, with mouth corners outside the picture inferred from the eyes.

    Outside the picture, the network extrapolates eyes and nose well, but not how far below the eyes the mouth is.
    """
    beyond = (points - points.clip(0, size)) / (box[2:] - box[:2]).max()
    hidden = np.abs(beyond).max(1)
    if not hidden[:2].any():
        usual, seen = np.array(Framing().template) @ (1, 1j), points @ (1, 1j)
        usual = seen[0] + (usual - usual[0]) * (seen[1] - seen[0]) / (usual[1] - usual[0])
        trust = np.exp(-hidden / _TRUST)[3:, None]
        points = points.copy()
        points[3:] = trust * points[3:] + (1 - trust) * np.stack([usual.real, usual.imag], -1)[3:]
    return tuple(map(tuple, points.tolist()))


def _within(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A box clipped to a picture of this size."""
    return box.clip(0, [*size, *size])


def _crop(images: Sequence[Image.Image], middles: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Input of O-Net: squares of pictures by their centers ``(N, 2)`` and sides ``(N,)``."""
    parts, squares = [], []
    for image, middle, side in zip(images, middles, sides, strict=True):
        square, size = np.stack([middle - side / 2, middle + side / 2]), np.array(image.size)
        # with a margin for the interpolation of the outermost pixels
        low = np.floor(square[0] - side / LOOK).clip(0, size - 1)
        high = np.ceil(square[1] + side / LOOK).clip(low + 1, size)
        reduced = np.ceil((high - low) * min(2 * LOOK / float(side), 1.0)).astype(int)
        part = image.resize(tuple(reduced.tolist()), Image.Resampling.BICUBIC, (*low.tolist(), *high.tolist()), 3.0)
        parts.append(to_array(part))
        squares.append(((square - low) / (high - low) * reduced).ravel())
    return cut(parts, np.array(squares))


def _area(box: Union[Box, np.ndarray]) -> float:
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
