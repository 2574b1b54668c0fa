"""How a face is cut out for the weights that look at it. The framing belongs to the weights and travels with them."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ..errors import ConfigError
from ..utils.untrusted import checked, listing, number, optional, record, whole

__all__ = ["AUTHORS_FRAMING", "Box", "Framing", "Landmarks", "align", "iou", "nose_offset", "turn_points"]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright picture."""

Landmarks = tuple[tuple[float, float], ...]
"""Left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them; x, y in pixels."""

# where MTCNN finds them in the square around its box, in fractions of its side: the median over UTKFace's train chips
# with a border around them, left and right made alike
_BOX_LANDMARKS = ((0.310, 0.351), (0.690, 0.351), (0.500, 0.574), (0.333, 0.743), (0.667, 0.743))

# where MTCNN finds the five landmarks on UTKFace's aligned chips, in fractions of the side
_UTKFACE_TEMPLATE = ((0.299, 0.292), (0.693, 0.292), (0.494, 0.527), (0.319, 0.690), (0.673, 0.693))

_SAMPLES = 16
"""Number of points along each side of a crop that are tested for being within the picture."""

_FIELDS = record(
    {
        "size": whole(16, 512),
        "template": optional(listing(listing(number(-2, 2), 2, 2), 5, 5)),
        "margin": number(0, 2),
    }
)


@dataclass(frozen=True)
class Framing:
    """How weights expect faces to be cropped.

    With a ``template`` the face is aligned: a similarity transform (rotation, scale, shift) maps its five landmarks to
    the template; missing landmarks are assumed to be at their usual positions in the box. Without a template the box is
    widened by ``margin``, clipped to the picture, and stretched to a square.

    Attributes:
        size: Side of the crop, pixels.
        template: Five landmarks (x, y) in fractions of the side, or None.
        margin: Share of the size of the box to add on each side; used without a template.
    """

    size: int = 128
    template: Optional[Landmarks] = _UTKFACE_TEMPLATE
    margin: float = 0.0

    @classmethod
    def from_dict(cls, config: Any) -> "Framing":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: A value is missing, unknown, or out of bounds.
        """
        framing = cls(**checked("In config.json, framing", _FIELDS, config))
        points = np.array(framing.template if framing.template is not None else _UTKFACE_TEMPLATE)
        if np.ptp(points, axis=0).max() < 0.05:
            raise ConfigError(
                f"The framing in config.json has a template whose landmarks nearly coincide: {config!r:.200}."
            )
        return framing

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-serializable values."""
        return {**asdict(self), "template": self.template and [list(point) for point in self.template]}

    def crop(self, image: Image.Image, box: Box, landmarks: Optional[Landmarks], turned: int = 0) -> Image.Image:
        """Cut a face out of an RGB picture.

        Args:
            image: The upright picture.
            box: The detector's box.
            landmarks: Its five landmarks, if they were found.
            turned: Degrees by which the face is turned, counterclockwise: 0, 90, 180 or 270.

        Returns:
            A picture of ``size`` x ``size``; black where the frame reaches over the edge.
        """
        if self.template is None:
            return _crop_box(image, box, self.margin, self.size).rotate(-turned)
        points = _usual_landmarks(box, turned) if landmarks is None else np.array(landmarks)
        return align(image, points, np.array(self.template) * self.size, self.size)

    def visible(self, size: tuple[int, int], box: Box, landmarks: Optional[Landmarks], turned: int = 0) -> float:
        """The share of `crop` that a picture of this size fills, in [0, 1]; the rest is black."""
        if self.template is None:
            return 1.0
        turn, shift = self._place(box, landmarks, turned)
        middles = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
        z = turn * (middles + 1j * middles[:, None]) + shift
        return float(((z.real >= 0) & (z.real < size[0]) & (z.imag >= 0) & (z.imag < size[1])).mean())

    def side(self, box: Box, landmarks: Optional[Landmarks], turned: int = 0) -> float:
        """The side of what `crop` shows, pixels of the picture."""
        if self.template is None:
            return (1 + 2 * self.margin) * min(box[2] - box[0], box[3] - box[1])
        return float(abs(self._place(box, landmarks, turned)[0]))

    def _place(self, box: Box, landmarks: Optional[Landmarks], turned: int) -> tuple[complex, complex]:
        """Transform from fractions of the crop to the picture, as from `_fit`."""
        points = _usual_landmarks(box, turned) if landmarks is None else np.array(landmarks)
        return _fit(points, np.array(self.template))


AUTHORS_FRAMING = Framing(size=64, template=None, margin=0.4)
"""Framing of the weights of the paper's authors, as in their demo."""


def turn_points(points: np.ndarray, turned: int, size: tuple[float, float]) -> np.ndarray:
    """Where points of a picture are once it is turned.

    Args:
        points: ``(N, 2)``, pixels.
        turned: Degrees, counterclockwise: 0, 90, 180 or 270.
        size: Of the picture before, width and height.
    """
    middle = np.array(size) / 2
    # a quarter is a factor of -i, as y runs down
    z = (points - middle) @ (1, 1j) * (-1j) ** (turned // 90)
    return np.stack([z.real, z.imag], -1) + (middle[::-1] if turned % 180 else middle)


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union of two boxes, ``(4,)`` each, in [0, 1]."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    both = (np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])).clip(0).prod()
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - both
    return float(both / union) if union > 0 else 0.0


def nose_offset(landmarks: Landmarks) -> float:
    """How far a nose is from the middle of the eyes, along the line through them and in distances between them: 0 for a
    face seen from the front.
    """
    left, right, nose = np.array(landmarks[:3]) @ (1, 1j)
    if left == right:
        return math.inf
    return float(abs(((nose - left) / (right - left)).real - 0.5))


def _usual_landmarks(box: Box, turned: int) -> np.ndarray:
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1)
    center = (x1 + x2) / 2, (y1 + y2) / 2
    return center + side * (turn_points(np.array(_BOX_LANDMARKS), turned, (1, 1)) - 0.5)


def _crop_box(image: Image.Image, box: Box, margin: float, size: int) -> Image.Image:
    x1, y1, x2, y2 = box
    dx, dy = margin * (x2 - x1), margin * (y2 - y1)
    x1, y1 = max(x1 - dx, 0), max(y1 - dy, 0)
    x2, y2 = min(x2 + dx, image.width), min(y2 + dy, image.height)
    return _resize(image, (size, size), (x1, y1, x2, y2))


def _resize(image: Image.Image, size: tuple[int, int], box: Optional[tuple[float, float, float, float]]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def align(image: Image.Image, landmarks: np.ndarray, template: np.ndarray, size: int) -> Image.Image:
    """Align a picture by the similarity transform that maps landmarks to a template with the least squared error.

    Args:
        image: The picture.
        landmarks: Points in the picture, ``(N, 2)``, pixels.
        template: Their positions in the result, ``(N, 2)``, pixels.
        size: Side of the result, pixels.

    Returns:
        A picture of ``size`` x ``size``, black beyond the edge of the input.
    """
    turn, shift = _fit(landmarks, template)
    scale = max(abs(turn), 1e-3)

    # the warp reads single pixels: to shrink without aliasing, first resize the part that it reads
    corners = turn * np.array([0, size, size * 1j, size * (1 + 1j)]) + shift
    reach = 3 * scale
    x1, y1 = (max(math.floor(v.min() - reach), 0) for v in (corners.real, corners.imag))
    x2 = min(math.ceil(corners.real.max() + reach), image.width)
    y2 = min(math.ceil(corners.imag.max() + reach), image.height)
    if x2 <= x1 or y2 <= y1:
        return Image.new(image.mode, (size, size))
    shrink = max(scale, 1.0)
    part_size = max(round((x2 - x1) / shrink), 1), max(round((y2 - y1) / shrink), 1)
    part = _resize(image, part_size, (x1, y1, x2, y2))
    fx, fy = part_size[0] / (x2 - x1), part_size[1] / (y2 - y1)
    matrix = (
        *(turn.real * fx, -turn.imag * fx, (shift.real - x1) * fx),
        *(turn.imag * fy, turn.real * fy, (shift.imag - y1) * fy),
    )
    return part.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _fit(landmarks: np.ndarray, template: np.ndarray) -> tuple[complex, complex]:
    """The least squares similarity, as complex numbers: landmark = turn * template + shift."""
    source, target = landmarks @ (1, 1j), template @ (1, 1j)
    centered = target - target.mean()
    turn = np.vdot(centered, source - source.mean()) / np.vdot(centered, centered).real
    return turn, source.mean() - turn * target.mean()
