"""The cascade of MTCNN around the three networks of facenet-pytorch. The only module that knows facenet-pytorch.

The first network scans the picture at several scales for candidates, the second and the third look at each candidate
closer. The networks, scales, thresholds and rules are facenet-pytorch's; what is ours is how pixels reach the networks:
the candidates of a stage are cut out of pictures at such scales, all of a scale at once, where facenet-pytorch resizes
them one by one from the full picture; beyond the picture's edge all networks see grey, where facenet-pytorch shows the
first nothing and the others what is left of a candidate, stretched; and a pixel's channels lie beside each other in
memory.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from ..utils.inference_mode import inference

__all__ = ["LOOK", "Cascade", "cut"]

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
"""Pixels of grey around what the first network scans, so that it sees faces of which the picture has half."""

_WITHOUT_MARGIN = 2
"""Scales that have no margin: the first ones make most of the work, and nobody misses halves of the smallest faces."""

_FADE = 0.07
"""Share of a crop's side within which the picture's last pixels fade into grey beyond its edge, by a factor e: with
grey alone the networks take the edge for the end of the face, and with these pixels alone they see it go on too far."""

_DETAIL = 1.4
"""Candidates are cut out of a scale at which they are at least so much larger than the network wants them: from the
smallest scale that need not be enlarged, some hard faces are lost."""


_CROPS_AT_ONCE = 256
"""Candidates in one forward pass of the second and third network, at most."""

_CANDIDATES_A_FACE, _LEAST_FACES = (20, 4), 50
"""Where the number of faces is bounded, so many candidates for each go to the second and third network, the surest; as
for so many faces at least, for a picture has candidates without any face as well. A real face brings about 6 and 3."""


class Cascade:
    """The three networks of MTCNN, and the way of the candidates through them.

    Args:
        device: Where they run.
        max_faces: Faces in a picture that time is taken for; without, as many as there are.
    """

    def __init__(self, device: Union[str, torch.device] = "cpu", max_faces: Optional[int] = None):
        self._most = [max_faces and count * max(max_faces, _LEAST_FACES) for count in _CANDIDATES_A_FACE]
        from facenet_pytorch.models import mtcnn

        self.device = torch.device(device)
        self._pnet, self._rnet, self._onet = (
            _load(net).eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
            for net in (mtcnn.PNet, mtcnn.RNet, mtcnn.ONet)
        )
        if self.device.type == "cpu":
            # what PyTorch is slow at where channels are few and lie beside each other
            self._pnet.prelu1, self._pnet.pool1 = _PReLU(self._pnet.get_parameter("prelu1.weight")), _MaxPool()

    @property
    def _rules(self) -> ModuleType:
        # no attribute of the object, which could not be pickled then
        from facenet_pytorch.models.utils import detect_face

        return detect_face

    @inference()
    def search(self, pixels: Tensor, min_face: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The faces in pictures of one size.

        Args:
            pixels: ``(B, 3, H, W)`` uint8, RGB.
            min_face: Side of the smallest face that has to be found, pixels, 12 or more.

        Returns:
            For each picture boxes ``(N, 4)``, x1, y1, x2, y2 in pixels, which may reach over the edge; scores ``(N,)``;
            landmarks ``(N, 5, 2)``.
        """
        levels = _Levels(pixels.to(self.device), min_face)
        return self._confirm(levels, self._refine(levels, self._propose(levels)))

    @inference()
    def look(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the last network says of crops that are known to be about a face.

        Args:
            crops: ``(N, 3, 48, 48)``, as `cut` answers them.

        Returns:
            Scores ``(N,)``; moves of the crop's corners to the face's box ``(N, 4)`` and landmarks ``(N, 5, 2)``, in
            shares of the crop's side.
        """
        crops = crops.to(self.device).contiguous(memory_format=torch.channels_last)
        parts = zip(*map(self._onet, crops.split(_CROPS_AT_ONCE)), strict=True)
        moves, points, probs = map(torch.cat, parts)
        return probs[:, 1], moves, _pairs(points)

    def _propose(self, levels: "_Levels") -> list[Tensor]:
        """Candidates of the first network, for each picture squares ``(N, 4)``."""
        found = [[torch.zeros(0, 9, dtype=torch.float32, device=self.device)] for _ in range(levels.count)]
        for step, (scale, level) in enumerate(levels.scanned()):
            # without a margin, what is smaller than a cell cannot be seen
            margin = 0 if step < _WITHOUT_MARGIN and min(level.shape[2:]) >= _CELL else _MARGIN
            moves, probs = self._pnet(F.pad(level, (margin,) * 4) if margin else level)
            boxes, pictures = _candidates(moves, probs, scale, margin)
            for number, own in enumerate(found):
                part = boxes[pictures == number]
                own.append(part[nms(part[:, :4], part[:, 4], 0.5)])
        return [self._join(torch.cat(own))[: self._most[0]] for own in found]

    def _join(self, boxes: Tensor) -> Tensor:
        """The candidates of all scales, as squares, the surest first."""
        boxes = boxes[nms(boxes[:, :4], boxes[:, 4], 0.7)]
        sides = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
        return self._rules.rerec(boxes[:, :4] + boxes[:, 5:] * sides)

    def _refine(self, levels: "_Levels", boxes: list[Tensor]) -> list[Tensor]:
        """What the second network keeps of candidates, better placed: for each picture squares ``(N, 4)``."""
        refined = []
        for own, moves, probs in _ask(self._rnet, levels, boxes, 24):
            own, moves, scores = _above(_THRESHOLDS[1], probs[:, 1], own, moves)
            kept = nms(own, scores, 0.7)[: self._most[1]]
            refined.append(self._rules.rerec(self._rules.bbreg(own[kept], moves[kept])))
        return refined

    def _confirm(self, levels: "_Levels", boxes: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What the last network keeps of them, as `search` answers it."""
        confirmed = []
        for own, moves, points, probs in _ask(self._onet, levels, boxes, LOOK):
            own, moves, points, scores = _above(_THRESHOLDS[2], probs[:, 1], own, moves, _pairs(points))
            points = points * (own[:, None, 2:] - own[:, None, :2] + 1) + own[:, None, :2] - 1
            own = self._rules.bbreg(own, moves)
            # the one rule that torchvision lacks: overlap as a share of the smaller box
            kept = self._rules.batched_nms_numpy(own, scores, torch.zeros_like(scores), 0.7, "Min")
            confirmed.append((own[kept], scores[kept], points[kept]))
        return confirmed


class _Levels:
    """Pictures of one size at the scales that they are looked at, each made once and when it is needed."""

    def __init__(self, pixels: Tensor, min_face: float):
        self._full = pixels.contiguous(memory_format=torch.channels_last)
        self.count, _, self._height, self._width = pixels.shape
        self._made: dict[float, Tensor] = {}
        # a picture is not enlarged for what is smaller still; of the largest faces it has half
        first, last = (_step(face) for face in (max(min_face, _CELL), 2 * min(self._height, self._width)))
        ladder = [_CELL / _STOCK_FACE * _FACTOR**step for step in range(min(first, 0), last + 1)]
        self._scanned = ladder[max(first, 0) :]
        self._scales = [1.0, *(scale for scale in ladder if scale < 1)]

    def __getitem__(self, scale: float) -> Tensor:
        """The pictures at a scale, ``(B, 3, h, w)``, normalized."""
        if scale not in self._made:
            self._made[scale] = _normalize(self._resize(scale))
        return self._made[scale]

    def _resize(self, scale: float) -> Tensor:
        if scale == 1:
            return self._full
        size = (int(self._height * scale + 1), int(self._width * scale + 1))
        return F.interpolate(self._full, size, mode="bilinear", antialias=True)

    def scanned(self) -> Iterator[tuple[float, Tensor]]:
        """The scales that the first network looks at, from the one where the smallest faces fill it, down."""
        with ExitStack() as stack:
            resized: Iterator[Tensor] = map(self._resize, self._scanned)
            if self._full.device.type == "cpu" and torch.get_num_threads() > 1:
                # PyTorch resizes such pictures on one thread
                pool = stack.enter_context(ThreadPoolExecutor(torch.get_num_threads()))
                resized = pool.map(self._resize, self._scanned)
            for scale, picture in zip(self._scanned, resized, strict=True):
                self._made[scale] = _normalize(picture)
                yield scale, self._made[scale]

    def cut(self, picture: int, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Cut boxes out of a picture; beyond its edge they are grey.

        Args:
            picture: Its number.
            boxes: ``(N, 4)``, pixels.
            side: Of the crops.

        Returns:
            The boxes that are not outside of the picture, ``(M, 4)``, and their crops ``(M, 3, side, side)``.
        """
        size = boxes.new_tensor([self._width, self._height])
        # as facenet-pytorch has it, the first pixel is number 1, and the last is part of the box
        corners = torch.cat([boxes[:, :2].floor() - 1, boxes[:, 2:].floor()], 1)
        inside = (corners[:, 2:] > corners[:, :2].clamp(min=0)).all(1) & (corners[:, :2] < size).all(1)
        boxes, corners = boxes[inside], corners[inside]
        sides = (corners[:, 2:] - corners[:, :2]).amax(1, keepdim=True)
        enough = sides * boxes.new_tensor(self._scales) >= _DETAIL * side
        numbers = enough.sum(1).clamp(min=1) - 1
        crops = boxes.new_empty(len(boxes), side, side, 3).permute(0, 3, 1, 2)
        for number in numbers.unique().tolist():
            members = numbers == number
            level = self[self._scales[number]][picture : picture + 1]
            crops[members] = _sample(level, corners[members] / size.repeat(2), side)
        return boxes, crops


@inference()
def cut(picture: Tensor, square: Sequence[float]) -> Tensor:
    """Cut a square out of a picture for `Cascade.look`.

    Args:
        picture: ``(3, h, w)`` uint8, RGB, of about the size that the square is seen at, or up to twice that.
        square: x1, y1, x2, y2 in shares of the picture; beyond its edge the crop fades into grey.

    Returns:
        ``(3, 48, 48)``.
    """
    corners = torch.tensor([square], dtype=torch.float32, device=picture.device)
    return _sample(_normalize(picture[None]), corners, LOOK)[0]


def _load(net: type[nn.Module]) -> nn.Module:
    """One of facenet-pytorch's networks with its weights, in their precision, which need not be the default dtype."""
    file = Path(inspect.getfile(net)).parents[1] / "data" / f"{net.__name__.lower()}.pt"
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = net(pretrained=False)
    network.load_state_dict({name: value.contiguous() for name, value in weights.items()}, assign=True)
    return network


class _PReLU(nn.Module):
    """`nn.PReLU` of all channels of a row at once."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("weight", weight)
        self.weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(count * height, width * channels)
        activated = F.prelu(rows, self.weight.repeat(width))
        return activated.view(count, height, width, channels).permute(0, 3, 1, 2)


class _MaxPool(nn.Module):
    """``nn.MaxPool2d(2, 2, ceil_mode=True)`` as the larger of two rows, and of two columns."""

    def forward(self, x: Tensor) -> Tensor:
        x = self._larger(x[:, :, ::2], x[:, :, 1::2], 2)
        return self._larger(x[:, :, :, ::2], x[:, :, :, 1::2], 3)

    @staticmethod
    def _larger(x: Tensor, other: Tensor, dim: int) -> Tensor:
        if x.shape == other.shape:
            return torch.maximum(x, other)
        # the last one stays as it is
        x = x.clone(memory_format=torch.channels_last)
        paired = x.narrow(dim, 0, other.shape[dim])
        torch.maximum(paired, other, out=paired)
        return x


def _step(face: float) -> int:
    """How far down the ladder a face of this side fills what the first network sees, or a little more than that."""
    return math.floor(math.log(_STOCK_FACE / face, _FACTOR) + 1e-9)


def _candidates(moves: Tensor, probs: Tensor, scale: float, margin: int) -> tuple[Tensor, Tensor]:
    """What the first network sees at a scale: boxes with scores and moves ``(N, 9)``, and the picture of each."""
    pictures, rows, columns = (probs[:, 1] >= _THRESHOLDS[0]).nonzero(as_tuple=True)
    # where each of its views begins, a stride of 2 from one to the next
    starts = (2 * torch.stack([columns, rows], 1) - margin).to(moves.dtype)
    boxes = (torch.cat([starts + 1, starts + _CELL], 1) / scale).floor()
    return torch.cat([boxes, probs[pictures, 1:, rows, columns], moves[pictures, :, rows, columns]], 1), pictures


def _sample(level: Tensor, corners: Tensor, side: int) -> Tensor:
    """Parts of a picture ``(1, 3, h, w)``, their corners in shares of it, resized to ``(N, 3, side, side)``."""
    # two points a pixel of the crop, either way, so that none of the picture is skipped
    middles = (torch.arange(2 * side, dtype=corners.dtype, device=corners.device) + 0.5) / (2 * side)
    begins, lengths = corners[:, :2, None], (corners[:, 2:] - corners[:, :2])[:, :, None]
    points = begins + lengths * middles
    (x, y), shape = (points * 2 - 1).unbind(1), (len(corners), 2 * side, 2 * side)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    crops = F.grid_sample(level.expand(len(corners), -1, -1, -1), grid, padding_mode="border", align_corners=False)
    # the mean of each four, in a quarter of the time that a pooling layer takes
    rows = crops[:, :, ::2] + crops[:, :, 1::2]
    crops = (rows[..., ::2] + rows[..., 1::2]) / 4
    over = ((corners < 0) | (corners > 1)).any(1)
    if over.any():
        beyond = (points - points.clamp(0, 1)).abs()[over] / lengths[over]
        x, y = (-beyond / _FADE).exp()[:, :, ::2].unbind(1)
        crops[over] *= y[:, None, :, None] * x[:, None, None, :]
    return crops


def _normalize(pixels: Tensor) -> Tensor:
    # (pixels - 127.5) / 128, to the bit
    return pixels.to(torch.float32).mul_(1 / 128).sub_(127.5 / 128)


def _pairs(points: Tensor) -> Tensor:
    """Landmarks as the last network answers them, five x and five y, as ``(N, 5, 2)``."""
    return points.view(-1, 2, 5).transpose(1, 2)


def _above(threshold: float, scores: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The rows of tensors whose score is above a threshold, and these scores."""
    kept = scores > threshold
    return (*(other[kept] for other in others), scores[kept])


def _ask(network: nn.Module, levels: _Levels, boxes: list[Tensor], side: int) -> Iterator[tuple[Tensor, ...]]:
    """What a network says of the boxes in each picture: those that are not outside of it, and the answers."""
    cuts = [levels.cut(picture, own, side) for picture, own in enumerate(boxes)]
    crops = torch.cat([crops for _, crops in cuts])
    # of none at all the networks can make nothing: they are asked about an empty one, which is left out again
    asked = crops if len(crops) else crops.new_zeros(1, *crops.shape[1:])
    parts = zip(*map(network, asked.split(_CROPS_AT_ONCE)), strict=True)
    answers = [torch.cat(part)[: len(crops)].split([len(own) for own, _ in cuts]) for part in parts]
    return zip((own for own, _ in cuts), *answers, strict=True)
