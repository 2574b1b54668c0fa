"""The cascade of MTCNN around its three networks, on NumPy arrays.

The first network scans the picture for candidates at several scales, and the others refine them. The networks, scales,
thresholds, and rules are facenet-pytorch's. The input of the networks differs: candidates are cropped from
pictures at these scales, where facenet-pytorch resizes each from the full picture; and beyond the picture's edge all
networks see gray, where facenet-pytorch shows the first network nothing, and the others a stretched remainder.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Optional, Protocol

import numpy as np
from PIL import Image

from ..utils.forks import count_threads
from ..utils.side_by_side import side_by_side
from .cascade_onnx import average, nms

__all__ = ["LOOK", "Cascade", "Networks", "cut", "pairs", "to_array"]

LOOK = 48
"""Side of what the last network looks at, pixels."""

_FACTOR = 0.709
"""From one scale to the next."""

_STOCK_FACE = 20
"""Smallest face that facenet-pytorch looks for by default, pixels. Scales are always some of the ladder that begins
there: faces that are hard to find are found at some scales and not between them."""

_THRESHOLDS = (0.6, 0.7, 0.7)
"""Least score of a candidate after each network."""

_CELL = 12
"""Side of what the first network sees at once, pixels."""

_MARGIN = _CELL // 2
"""Pixels of gray around what the first network scans, so that it sees faces of which the picture has half."""

_WITHOUT_MARGIN = 2
"""Scales that have no margin: the first ones make most of the work, and nobody misses halves of the smallest faces."""

_FADE = 0.07
"""Fraction of a crop's side over which the picture's last pixels fade to gray beyond its edge, by a factor of e. With
gray alone, the networks take the edge for the end of the face; with the pixels alone, they extend the face too far."""

_DETAIL = 1.4
"""Candidates are cropped at a scale where they are larger than the network's input by at least this factor. From the
smallest scale that requires no enlargement, some hard faces are lost."""

_CROPS_AT_ONCE = 256
"""Candidates that are cut out for the second and third network together, at most."""

_CUT_AT_ONCE = 64
"""Of which so many are computed together."""

_PIXELS_AT_ONCE = 30_000
"""Pixels that such crops are made from at a time."""

_REDUCED, _LEAST_REDUCED = 1.5, 512
"""A large picture is halved, once or more, for scales that are at least so much smaller still, down to a long side of
so many pixels: to resize it from its full size each time would take as long as to search it."""

_CANDIDATES_A_FACE, _LEAST_FACES = (20, 4), 50
"""Where the number of faces is bounded, so many candidates for each go to the second and third network, the surest; as
for so many faces at least, for a picture has candidates without any face as well. A real face brings about 6 and 3."""


class Networks(Protocol):
    """The three networks of MTCNN. Moves are from a box to where it should be, in shares of its sides, x1, y1, x2, y2;
    scores are in [0, 1]; all are float32.
    """

    def propose(self, pixels: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
        """Run P-Net on pictures ``(B, H, W, 3)``, uint8, with a gray margin: box offsets ``(B, 4, h, w)`` and scores
        ``(B, h, w)`` for windows of 12 by 12 pixels at a stride of 2.
        """

    def refine(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run R-Net on normalized crops ``(N, 3, 24, 24)``, float32: box offsets ``(N, 4)`` and scores ``(N,)``."""

    def confirm(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run O-Net on crops ``(N, 3, 48, 48)``: box offsets ``(N, 4)``, five x and five y of landmarks as fractions of
        the box ``(N, 10)``, and scores ``(N,)``.
        """


class Cascade:
    """The way of the candidates through the three networks of MTCNN.

    Args:
        networks: These three.
        max_faces: Faces in a picture that time is taken for; without, as many as there are.
    """

    def __init__(self, networks: Networks, max_faces: Optional[int] = None):
        self._networks = networks
        self._most = [max_faces and count * max(max_faces, _LEAST_FACES) for count in _CANDIDATES_A_FACE]

    def search(self, pictures: Sequence[Image.Image], min_face: float) -> list[tuple[np.ndarray, ...]]:
        """The faces in RGB pictures of one size.

        Args:
            pictures: One or more.
            min_face: Side of the smallest face that has to be found, pixels, 12 or more.

        Returns:
            For each picture boxes ``(N, 4)``, x1, y1, x2, y2 in pixels, which may reach over the edge; scores ``(N,)``;
            landmarks ``(N, 5, 2)``.
        """
        levels = _Levels(pictures, min_face)
        return self._confirm(levels, self._refine(levels, self._propose(levels)))

    def look(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run O-Net on crops around known faces.

        Args:
            crops: ``(N, 3, 48, 48)``, from `cut`.

        Returns:
            Scores ``(N,)``; offsets of the corners to the box ``(N, 4)`` and landmarks ``(N, 5, 2)``, as fractions
            of the crop's side.
        """
        parts = [crops[start : start + _CROPS_AT_ONCE] for start in range(0, len(crops), _CROPS_AT_ONCE)]
        answers = zip(*map(self._networks.confirm, parts), strict=True)
        moves, points, scores = map(np.concatenate, answers)
        return scores, moves, pairs(points)

    def _propose(self, levels: "_Levels") -> list[np.ndarray]:
        """Candidates of the first network, for each picture squares ``(N, 4)``."""
        found = [[np.zeros((0, 9), np.float32)] for _ in range(levels.count)]
        for step, (scale, level) in enumerate(levels.scanned()):
            # without a margin, what is smaller than a cell cannot be seen
            margin = 0 if step < _WITHOUT_MARGIN and min(level.shape[1:3]) >= _CELL else _MARGIN
            boxes, pictures = _candidates(*self._networks.propose(level, margin), scale, margin)
            for number, own in enumerate(found):
                part = boxes[pictures == number]
                own.append(part[nms(part[:, :4], part[:, 4], 0.5)])
        return [self._join(np.concatenate(own))[: self._most[0]] for own in found]

    def _join(self, boxes: np.ndarray) -> np.ndarray:
        """The candidates of all scales, as squares, the surest first."""
        boxes = boxes[nms(boxes[:, :4], boxes[:, 4], 0.7)]
        return _to_squares(boxes[:, :4] + boxes[:, 5:] * np.tile(boxes[:, 2:4] - boxes[:, :2], 2))

    def _refine(self, levels: "_Levels", boxes: list[np.ndarray]) -> list[np.ndarray]:
        """Filter and refine candidates with R-Net: squares ``(N, 4)`` per picture."""
        refined = []
        for own, moves, scores in _ask(self._networks.refine, levels, boxes, 24):
            own, moves, scores = _above(_THRESHOLDS[1], scores, own, moves)
            kept = nms(own, scores, 0.7)[: self._most[1]]
            refined.append(_to_squares(_move(own[kept], moves[kept])))
        return refined

    def _confirm(self, levels: "_Levels", boxes: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        """Filter and refine them with O-Net; returns what `search` does."""
        confirmed: list[tuple[np.ndarray, ...]] = []
        for own, moves, points, scores in _ask(self._networks.confirm, levels, boxes, LOOK):
            own, moves, points, scores = _above(_THRESHOLDS[2], scores, own, moves, pairs(points))
            points = points * (own[:, None, 2:] - own[:, None, :2] + 1) + own[:, None, :2] - 1
            own = _move(own, moves)
            kept = _nms_by_smaller(own, scores, 0.7)
            confirmed.append((own[kept], scores[kept], points[kept]))
        return confirmed


class _Levels:
    """Pictures of one size at the scales that they are looked at, each made once and when it is needed."""

    def __init__(self, pictures: Sequence[Image.Image], min_face: float):
        self.count, (self._width, self._height) = len(pictures), pictures[0].size
        self._reduced = {1: pictures}
        self._made: dict[float, np.ndarray] = {}
        # a picture is not enlarged for what is smaller still; of the largest faces it has half
        first, last = (_step(face) for face in (max(min_face, _CELL), 2 * min(self._height, self._width)))
        ladder = [_CELL / _STOCK_FACE * _FACTOR**step for step in range(min(first, 0), last + 1)]
        self._scanned = ladder[max(first, 0) :]
        self._scales = [1.0, *(scale for scale in ladder if scale < 1)]

    def __getitem__(self, scale: float) -> np.ndarray:
        """The pictures at a scale, ``(B, h, w, 3)``, uint8."""
        if scale not in self._made:
            self._made[scale] = self._resize(scale)
        return self._made[scale]

    def _size(self, scale: float) -> tuple[int, int]:
        """Width and height at a scale."""
        if scale == 1:
            return self._width, self._height
        return int(self._width * scale + 1), int(self._height * scale + 1)

    def _resize(self, scale: float) -> np.ndarray:
        factor = 1
        while 2 * factor * max(_REDUCED * scale, _LEAST_REDUCED / max(self._width, self._height)) <= 1:
            factor *= 2
        pictures, box = self._reduce(factor), (0, 0, self._width / factor, self._height / factor)
        if scale != 1:
            pictures = [picture.resize(self._size(scale), Image.Resampling.BILINEAR, box) for picture in pictures]
        arrays = [to_array(picture) for picture in pictures]
        return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]

    def _reduce(self, factor: int) -> Sequence[Image.Image]:
        if factor not in self._reduced:
            self._reduced[factor] = [picture.reduce(2) for picture in self._reduce(factor // 2)]
        return self._reduced[factor]

    def scanned(self) -> Iterator[tuple[float, np.ndarray]]:
        """The scales that the first network looks at, from the one where the smallest faces fill it, down."""
        # those that candidates are cut out of are larger: they are made while the last ones are looked at
        larger = [scale for scale in self._scales if self._scanned and scale > self._scanned[0]]
        wanted = [*self._scanned, *(larger if count_threads() > 1 else [])]
        with side_by_side(self._resize, wanted) as resized:
            for scale, level in zip(wanted, resized, strict=True):
                self._made[scale] = level
                if scale in self._scanned:
                    yield scale, level

    def within(self, boxes: np.ndarray) -> np.ndarray:
        """The boxes that are not outside of the pictures."""
        corners = _corners(boxes)
        inside = corners[:, 2:] > corners[:, :2].clip(0)
        return boxes[(inside & (corners[:, :2] < [self._width, self._height])).all(1)]

    def cut(self, pictures: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
        """Cut boxes out of pictures; beyond their edges they are gray.

        Args:
            pictures: Their numbers, ``(N,)``.
            boxes: ``(N, 4)``, pixels, not outside of the picture.
            side: Of the crops.

        Returns:
            ``(N, 3, side, side)``, float32, normalized.
        """
        corners = _corners(boxes)
        sides = (corners[:, 2:] - corners[:, :2]).max(1, keepdims=True)
        enough = sides * np.array(self._scales, np.float32) >= _DETAIL * side
        numbers = enough.sum(1).clip(1) - 1
        # in pixels of the scale
        sizes = np.array([self._size(scale) for scale in self._scales])[numbers]
        squares = corners * np.tile(sizes / [self._width, self._height], 2)
        crops = np.empty((len(boxes), 3, side, side), np.float32)
        # those together that parts of one size are cut out for
        order = np.lexsort((sides[:, 0], numbers))
        parts = [order[start : start + _CUT_AT_ONCE] for start in range(0, len(order), _CUT_AT_ONCE)]
        levels = {number: self[self._scales[number]] for number in np.unique(numbers)}

        def sample(members: np.ndarray) -> np.ndarray:
            return _sample([levels[numbers[k]][pictures[k]] for k in members], squares[members], side)

        with side_by_side(sample, parts) as sampled:
            for members, own in zip(parts, sampled, strict=True):
                crops[members] = own
        return crops


def cut(pictures: Sequence[np.ndarray], squares: np.ndarray) -> np.ndarray:
    """Cut squares out of pictures for `Cascade.look`.

    Args:
        pictures: ``(h, w, 3)`` uint8, RGB, of about the size that the square is seen at, or up to twice that.
        squares: Of each x1, y1, x2, y2 in pixels, ``(N, 4)``; beyond its edge the crop fades into gray.

    Returns:
        ``(N, 3, 48, 48)``, float32, normalized.
    """
    parts = [slice(start, start + _CUT_AT_ONCE) for start in range(0, len(pictures), _CUT_AT_ONCE)]
    return np.concatenate([_sample(pictures[part], squares[part], LOOK) for part in parts])


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB picture as ``(H, W, 3)`` uint8; `numpy.asarray` copies it more than once."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _step(face: float) -> int:
    """How far down the ladder a face of this side fills what the first network sees, or a little more than that."""
    return math.floor(math.log(_STOCK_FACE / face, _FACTOR) + 1e-9)


def _candidates(moves: np.ndarray, scores: np.ndarray, scale: float, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of P-Net at a scale: boxes with scores and offsets ``(N, 9)``, and the picture of each."""
    pictures, rows, columns = (scores >= _THRESHOLDS[0]).nonzero()
    # where each of its views begins, a stride of 2 from one to the next
    starts = (2 * np.stack([columns, rows], 1) - margin).astype(np.float32)
    boxes = np.floor(np.concatenate([starts + 1, starts + _CELL], 1) / np.float32(scale))
    return np.column_stack([boxes, scores[pictures, rows, columns], moves[pictures, :, rows, columns]]), pictures


def _ask(network: Callable, levels: _Levels, boxes: list[np.ndarray], side: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Run a network on the boxes of each picture; returns the boxes that are not outside of it, and the outputs."""
    boxes = [levels.within(own) for own in boxes]
    counts = [len(own) for own in boxes]
    pictures, together = np.repeat(np.arange(levels.count), counts), np.concatenate(boxes)
    answers = []
    for start in range(0, len(together), _CROPS_AT_ONCE):
        part = slice(start, start + _CROPS_AT_ONCE)
        answers.append(network(levels.cut(pictures[part], together[part], side)))
    # the networks need a non-empty batch: a dummy is added and dropped again
    answers = answers or [network(np.zeros((1, 3, side, side), np.float32))]
    ends = np.cumsum(counts)
    split = [np.split(np.concatenate(part)[: len(together)], ends[:-1]) for part in zip(*answers, strict=True)]
    return zip(boxes, *split, strict=True)


def _sample(pictures: Sequence[np.ndarray], squares: np.ndarray, side: int) -> np.ndarray:
    """Crop squares from pictures ``(h, w, 3)``, in pixels, resize to ``(N, 3, side, side)``, and normalize.

    The samples are on a grid along the picture's axes: rows are averaged first, then columns.
    """
    sizes = np.array([picture.shape[1::-1] for picture in pictures])
    (left, columns), (top, rows) = (_weigh(squares[:, k::2], sizes[:, k], side) for k in range(2))
    height, width = rows.shape[2], columns.shape[2]
    crops = np.empty((len(pictures), 3, side, side), np.float32)
    # a few at a time, which stay in the processor's caches
    step = _PIXELS_AT_ONCE // (height * width) + 1
    for start in range(0, len(crops), step):
        few = slice(start, start + step)
        parts = np.zeros((len(crops[few]), height, width, 3), np.uint8)
        for part, picture, x, y in zip(parts, pictures[few], left[few], top[few], strict=True):
            seen = picture[y : y + height, x : x + width]
            part[: seen.shape[0], : seen.shape[1]] = seen
        crops[few] = average(parts, rows[few], columns[few])
    return crops


def _weigh(ends: np.ndarray, sizes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """How pixels along an axis are averaged.

    Args:
        ends: Where squares begin and end, pixels, ``(N, 2)``.
        sizes: Of the pictures, pixels, ``(N,)``.
        side: Of the crops.

    Returns:
        The first pixel that is looked at ``(N,)``, and the weights of this one and those after it, as many for all
        squares, ``(N, side, P)``.
    """
    begins, lengths, ends = ends[:, :1], ends[:, 1:] - ends[:, :1], sizes[:, None]
    # two bilinear samples per pixel of the crop, so that no pixel of the picture is skipped
    points = begins + lengths * ((np.arange(2 * side) + 0.5) / (2 * side))
    inner = (points - 0.5).clip(0, ends - 1)
    pixels = inner.astype(np.int64)
    count = (pixels[:, -1] - pixels[:, 0]).max() + 2
    first = np.minimum(pixels[:, :1], ends - count).clip(0)
    weights = np.zeros((len(ends), 2 * side, count + 1), np.float32)
    at = np.arange(0, weights.size, count + 1).reshape(pixels.shape) + pixels - first
    share = (inner - pixels) / 2
    weights.reshape(-1)[at] = 0.5 - share
    weights.reshape(-1)[at + 1] = share
    weights = (weights[:, ::2] + weights[:, 1::2])[:, :, :count]
    beyond = np.abs(points - points.clip(0, ends))[:, ::2]
    if beyond.any():
        weights *= np.exp(beyond / lengths / -_FADE)[:, :, None]
    return first[:, 0], weights


def _corners(boxes: np.ndarray) -> np.ndarray:
    # as facenet-pytorch has it, the first pixel is number 1, and the last is part of the box
    return np.concatenate([np.floor(boxes[:, :2]) - 1, np.floor(boxes[:, 2:])], 1)


def _to_squares(boxes: np.ndarray) -> np.ndarray:
    """The squares around the middles of boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.max(1, keepdims=True)
    starts = boxes[:, :2] + sides * 0.5 - side * 0.5
    return np.concatenate([starts, starts + side], 1)


def _move(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    return boxes + moves * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _nms_by_smaller(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression by overlap as a share of the smaller box."""
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    order, kept = scores.argsort()[::-1], []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        starts, ends = (pick(boxes[best], boxes[order]) for pick in (np.maximum, np.minimum))
        shared = (ends[:, 2:] - starts[:, :2] + 1).clip(0).prod(1)
        order = order[shared / np.minimum(areas[best], areas[order]) <= threshold]
    return np.array(kept, int)


def pairs(points: np.ndarray) -> np.ndarray:
    """Reshape O-Net's landmarks, five x and five y, to ``(N, 5, 2)``."""
    return points.reshape(-1, 2, 5).transpose(0, 2, 1)


def _above(threshold: float, scores: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rows of arrays whose score is above a threshold, and these scores."""
    kept = scores > threshold
    return (*(other[kept] for other in others), scores[kept])
