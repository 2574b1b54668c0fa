"""From a photo to the age of every face in it."""

import copy
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeGuard, Union, overload

from PIL import Image

from ..errors import ArchitectureError, BoxError, ConfigError, PhotoError, RuntimeUnavailableError
from ..hub.checkpoints import Checkpoint, find_checkpoint
from ..images.alignment import Box, Framing, Landmarks, nose_offset
from ..images.loading import MAX_PIXELS, Photo, by_pixels, load_photo
from ..models.zoo import FEMALE_MALE
from ..utils.defaults import RUNTIMES
from ..utils.forks import reset_threads_after_fork
from ..utils.side_by_side import side_by_side
from ..utils.torch_needed import torch_needed
from .calibration import NOT_A_FACE, Calibration
from .detector import MIN_SCORE, Detection, Detector, MTCNNDetector
from .network import Network, is_cpu
from .onnx_network import OnnxNetwork
from .stages import Stage, explain

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

__all__ = ["AgeEstimator", "Face"]

_SMALL = 40.0
"""Side of the crop in the photo, pixels, below which a face without detail is called small and not blurred."""

_PROFILE = 0.5
"""`nose_offset` above which a face is in profile: the nose is farther to the side than an eye."""

_LEAST_VISIBLE = 5 / 6
"""Share of a crop that has to be in the photo: where the forehead, the mouth or half of the face is missing, ages are
anything."""


@dataclass(frozen=True)
class Face:
    """A face and its age.

    Attributes:
        age: Years, clamped to the range [0, V] of the weights; NaN where ``raw_age`` is.
        raw_age: Raw output of the network, years.
        in_range: Whether ``raw_age`` is within [0, V].
        V: Upper end of the range of the weights, years.
        box: x1, y1, x2, y2 in pixels of the upright photo; None for a crop without detection.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth, from the viewer's point of view on the
            upright face; x, y in pixels; None if they were not found or not detected.
        score: Confidence of the detector, in [0, 1]; None for a crop without detection.
        aligned: Whether the face was aligned by its landmarks to the frame that the weights expect. False without
            landmarks, for crops taken as they are, and with weights that expect the box only.
        gender_score: From 0 (female) to 1 (male), clamped to that range; None without gender weights. The score of
            weights with the opposite sign, such as the authors' for MORPH2, is inverted.
        stages: Stages of the network; their contributions add up to ``raw_age``.
        crop: Face crop that the network saw, upright, before it was scaled to the input size.
        turned: Rotation of the face in the photo, degrees counterclockwise as in `PIL.Image.Image.rotate`: 0, 90,
            180, or 270.
        visible: Fraction of the crop within the photo, in [0, 1]; the rest is black.
        side: Side of the crop in pixels of the photo, or of the crop that was passed.
        calibration: Calibration of the weights for `interval`, `doubts`, and `oddness`; None without one.
    """

    age: float
    raw_age: float
    in_range: bool
    V: float
    box: Optional[Box]
    landmarks: Optional[Landmarks]
    score: Optional[float]
    aligned: bool
    gender_score: Optional[float]
    stages: tuple[Stage, ...]
    crop: Image.Image = field(repr=False, compare=False)
    turned: int = 0
    visible: float = 1.0
    side: float = math.nan
    calibration: Optional[Calibration] = field(default=None, repr=False, compare=False)

    @cached_property
    def _description(self) -> "np.ndarray":
        assert self.calibration
        return self.calibration.describe(self.stages, self.crop)

    @cached_property
    def oddness(self) -> Optional[float]:
        """Out-of-distribution score of the crop and the stages, about 1 for an ordinary face; see `Calibration`. None
        if the weights have no calibration.
        """
        return None if self.calibration is None else self.calibration.oddness(self._description)

    @cached_property
    def doubts(self) -> Optional[tuple[str, ...]]:
        """Reasons not to trust the age: ``"blurred"``, ``"small"``, ``"covered"``, ``"turned"``, ``"profile"``,
        ``"cut off"`` by the edge of the photo, ``"not a face"``, or ``"uncertain"``; empty if there are none. None if
        the weights have no calibration.
        """
        if self.calibration is None:
            return None
        told = list(self.calibration.doubt(self.age, self._description))
        if "blurred" in told and self.side < _SMALL:
            told[told.index("blurred")] = "small"
        if self.landmarks and nose_offset(self.landmarks) > _PROFILE:
            told.append("profile")
        if self.visible < _LEAST_VISIBLE:
            # the black beyond the edge resembles a face the other way up, or none
            told = [*(doubt for doubt in told if doubt not in ("turned", NOT_A_FACE)), "cut off"]
        return tuple(told)

    @property
    def reliable(self) -> Optional[bool]:
        """False if there are `doubts`: do not trust the age then. None if the weights have no calibration."""
        return None if self.doubts is None else not self.doubts

    def interval(self, level: float = 0.9) -> Optional[tuple[float, float]]:
        """Prediction interval: contains the true age with probability ``level``, for faces like the training data.

        Returns:
            Lower and upper end, years, within [0, V]; None if the weights have no calibration or the age is NaN.

        Raises:
            ValueError: ``level`` is not between 0 and 1, or closer to 1 than the calibration supports.
        """
        if self.calibration is None or math.isnan(self.age):
            return None
        low, high = self.calibration.bounds(self.age, level, self._description)
        return max(low, 0.0), min(high, self.V)

    def explain(self) -> str:
        """The stages in words: ``stage 1 says 27.2, stage 2 adds 1.5, stage 3 adds 1.9: 30.6 years``."""
        said = explain(self.stages)
        return (
            said if self.in_range or math.isnan(self.raw_age) else f"{said}, out of range and shown as {self.age:.1f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything except the crop, as plain numbers, lists, and None; non-finite numbers are None as well.

        ``interval`` is the 90% interval.
        """
        left_out = ("crop", "stages", "calibration")
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        trust = {
            "interval": self.interval(),
            "oddness": self.oddness,
            "reliable": self.reliable,
            "doubts": self.doubts,
        }
        return _plain({**values, **trust, "stages": [asdict(stage) for stage in self.stages]})

    def to_json(self, **kwargs: Any) -> str:
        """`to_dict` as JSON; ``kwargs`` as for `json.dumps`."""
        return json.dumps(self.to_dict(), **kwargs)


class AgeEstimator:
    """Detects faces in photos and estimates their ages.

    ::

        est = AgeEstimator()
        for face in est("photo.jpg"):
            print(face.age, face.explain())

    It can be copied, pickled, and sent to other processes. In a forked process it runs on a single thread.

    Args:
        model: Name, folder, or repository for `from_pretrained`, a `Checkpoint`, or a model, compiled by
            `torch.compile` or not, which is copied. Default: the embedded weights.
        detector: Face detector. Default: `MTCNNDetector`.
        device: Device of the models and the default detector. Default: that of the model, or the CPU.
        gender: Gender weights, as ``model``; without them `Face.gender_score` is None.
        framing: How faces are cropped for the model. Default: the framing in the config of the weights; if there is
            none, that of the embedded weights, with a warning.
        max_pixels: Largest photo to decode, width x height.
        min_face: Smallest face to detect with the default detector; see `MTCNNDetector`.
        min_score: Lowest score to keep with the default detector, in [0, 1]; see `MTCNNDetector`.
        runtime: Runtime of the age networks; results are the same. ``"auto"``, the fastest available; ``"onnx"``, ONNX
            Runtime; ``"torch"``; or ``"eager"``, the unmodified model. With the first two, PyTorch is not imported for
            named weights on the CPU, unless their architecture requires it. On the CPU the default detector always
            uses ONNX Runtime; for another one, pass ``detector=MTCNNDetector(runtime=...)``.

    Raises:
        SSRNetHubError: A model could not be loaded (see `from_pretrained`), or the device or runtime is not available.
        ArchitectureError: A gender model was passed as ``model``, or an age model as ``gender``.
        ValueError: ``min_face`` or ``min_score`` is out of range, or passed together with a detector.

    Attributes:
        batch_size: Maximum number of faces per forward pass; smaller for models that need more memory per face.
    """

    def __init__(
        self,
        model: Union[str, os.PathLike, Checkpoint, "nn.Module", None] = None,
        detector: Optional[Detector] = None,
        device: Union[str, "torch.device", None] = None,
        *,
        gender: Union[str, os.PathLike, "nn.Module", None] = None,
        framing: Optional[Framing] = None,
        max_pixels: int = MAX_PIXELS,
        min_face: Optional[float] = None,
        min_score: Optional[float] = None,
        runtime: str = "auto",
    ):
        reset_threads_after_fork()
        if detector is not None and (min_face is not None or min_score is not None):
            raise ValueError("min_face and min_score are for the default detector: set them on the one you pass.")
        self._age = _make_network(model, device, framing, runtime)
        self._gender = None if gender is None else _make_network(gender, self._place, None, runtime)
        self.framing = self._age.framing
        if self._age.task == "gender":
            raise ArchitectureError(
                "These weights predict gender, not age: pass them as gender= (--gender of the command)."
            )
        if self._gender and self._gender.task != "gender":
            raise ArchitectureError("gender= takes gender weights, but these predict age.")
        self.batch_size = min(network.batch_size for network in (self._age, self._gender) if network)
        calibration = self._age.extras.get("calibration")
        self._calibration = None if calibration is None else Calibration.from_dict(calibration)
        self._gender_ends = self._gender and _read_ends(self._gender.extras)
        self._has_own_detector = detector is not None
        if detector is None:
            min_score = MIN_SCORE if min_score is None else min_score
            detector = MTCNNDetector(min_score, min_face=min_face, device=self._place)
        self.detector = detector
        self.max_pixels = max_pixels
        self._locator: Optional[MTCNNDetector] = None

    @property
    def model(self) -> "nn.Module":
        """The PyTorch model; imports PyTorch on first access. Changes to it affect the ages only with
        ``runtime="eager"``.

        Raises:
            MissingPackageError: PyTorch is not installed.
        """
        return self._age.model

    @property
    def device(self) -> "torch.device":
        """Device of the model; imports PyTorch on first access.

        Raises:
            MissingPackageError: PyTorch is not installed.
        """
        return self._age.device

    @property
    def calibrated(self) -> bool:
        """Whether the weights have a calibration, which intervals require."""
        return self._calibration is not None

    @property
    def _place(self) -> Union[str, "torch.device"]:
        return "cpu" if isinstance(self._age, OnnxNetwork) else self._age.device

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is a sequence of texts as well
        self, photo: Photo, boxes: Optional[Iterable[Sequence[float]]] = None
    ) -> list[Face]: ...

    @overload
    def __call__(
        self, photo: Sequence[Photo], boxes: Optional[Iterable[Optional[Iterable[Sequence[float]]]]] = None
    ) -> list[list[Face]]: ...

    def __call__(self, photo: Any, boxes: Any = None) -> Any:
        """Faces in a photo, largest first; or those in the given boxes, in the order of the boxes.

        Args:
            photo: A path, bytes, a file object, a PIL image, an RGB array ``(H, W, 3)``, or a tensor ``(3, H, W)``. A
                list or tuple of photos is passed to `batch`.
            boxes: x1, y1, x2, y2 of each face in pixels of the upright photo, ``(N, 4)``. Only the landmarks are
                detected then.

        Raises:
            PhotoError: The photo cannot be read; `PhotoTooLargeError` if it has more than ``max_pixels``.
            BoxError: A box is not four numbers, has no area, or lies outside the photo.
        """
        if isinstance(photo, (list, tuple)):
            return self.batch(photo, boxes)
        return self.batch([photo], None if boxes is None else [boxes])[0]

    def batch(
        self, photos: Iterable[Photo], boxes: Optional[Iterable[Optional[Iterable[Sequence[float]]]]] = None
    ) -> list[list[Face]]:
        """Faces in each of several photos: the same as calling the estimator on each, in fewer forward passes.

        Args:
            photos: As in a call.
            boxes: The boxes of each photo, as in a call, or None to detect faces in it.

        Raises:
            PhotoError: One of the photos cannot be read.
            BoxError: One of the boxes is invalid.
            ValueError: The number of lists of boxes differs from the number of photos.
        """
        _assert_several(photos)
        reset_threads_after_fork()
        found: list[_Cut] = []
        counts = []
        images = (load_photo(photo, self.max_pixels) for photo in photos)
        for part in by_pixels(zip(images, repeat(None) if boxes is None else boxes, strict=boxes is not None)):
            searched = iter(self._detect([image for image, own in part if own is None]))
            for image, own in part:
                detections = next(searched) if own is None else self._locate(image, _to_boxes(own, image.size))
                with side_by_side(partial(self._cut, image), detections) as cuts:
                    found += cuts
                counts.append(len(detections))
        faces = iter(self._estimate(found))
        return [[next(faces) for _ in range(count)] for count in counts]

    def crops(self, crops: Iterable[Photo], align: bool = False) -> list[Face]:
        """Estimate the ages of face crops, one face per crop.

        Args:
            crops: Photos as in a call, one face each.
            align: Detect the face in each crop and align it to the frame that the weights expect; a crop without a
                detected face is used as it is. If False, crops must already have that frame (`framing`).

        Raises:
            PhotoError: One of the crops cannot be read.
        """
        _assert_several(crops)
        reset_threads_after_fork()
        images = (load_photo(crop, self.max_pixels) for crop in crops)
        return self._estimate([self._find(image) if align else _as_cut(image) for image in images])

    def to(self, device: Union[str, "torch.device"]) -> "AgeEstimator":
        """Move the estimator to a device, in place. A detector that you passed stays where it is.

        Raises:
            DeviceError: The device is not available; the estimator is unchanged.
            RuntimeUnavailableError: The runtime does not support this device; the estimator is unchanged.
        """
        age, gender = self._age.to(device), self._gender and self._gender.to(device)
        if isinstance(self.detector, MTCNNDetector) and not self._has_own_detector:
            # copies of this estimator share it
            self.detector = copy.copy(self.detector).to(device)
        self._age, self._gender = age, gender
        self._locator = None
        return self

    def upright_only(self) -> "AgeEstimator":
        """The same estimator and networks, assuming that all faces are upright: faster, for video and cameras.

        A detector that you passed is not changed.
        """
        other = copy.copy(self)
        if isinstance(self.detector, MTCNNDetector):
            other.detector = copy.copy(self.detector)
            other.detector.upright_only = True
        return other

    def _detect(self, images: list[Image.Image]) -> list[list[Detection]]:
        batch = getattr(self.detector, "batch", None)
        return batch(images) if batch else [self.detector(image) for image in images]

    def _locate(self, image: Image.Image, boxes: list[Box]) -> list[Detection]:
        locate = getattr(self.detector, "locate", None)
        if locate is None:
            self._locator = self._locator or MTCNNDetector(device=self._place)
            locate = self._locator.locate
        return locate(image, boxes)

    def _find(self, crop: Image.Image) -> "_Cut":
        """The one face of a crop."""
        whole = (0.0, 0.0, float(crop.width), float(crop.height))
        face = next(iter(self.detector(crop)), None)
        if face is None or face.landmarks is None:
            (face,) = self._locate(crop, [whole if face is None else face.box])
        return _as_cut(crop) if face.landmarks is None else self._cut(crop, face)

    def _cut(self, image: Image.Image, detection: Detection) -> "_Cut":
        where = detection.box, detection.landmarks, detection.turned
        crop = self.framing.crop(image, *where)
        for_gender = self._gender.framing.crop(image, *where) if self._gender else None
        visible, side = self.framing.visible(image.size, *where), self.framing.side(*where)
        return _Cut(crop, for_gender, side, detection, visible)

    def _estimate(self, cuts: Sequence["_Cut"]) -> list[Face]:
        faces: list[Face] = []
        for start in range(0, len(cuts), self.batch_size):
            part = cuts[start : start + self.batch_size]
            ages, stages = self._age([cut.crop for cut in part])
            scores = self._gender_scores(self._gender, part) if self._gender else [None] * len(part)
            faces += map(self._face, part, ages, stages, scores)
        return faces

    def _gender_scores(self, gender: Network, cuts: Sequence["_Cut"]) -> Sequence[Optional[float]]:
        scores, _ = gender(cut.crop if cut.for_gender is None else cut.for_gender for cut in cuts)
        # NaN stays NaN
        clamped = [score if math.isnan(score) else min(max(score, 0.0), 1.0) for score in scores]
        return clamped if self._gender_ends == FEMALE_MALE else [1 - score for score in clamped]

    def _face(self, cut: "_Cut", raw_age: float, stages: tuple[Stage, ...], gender_score: Optional[float]) -> Face:
        age = min(max(raw_age, 0.0), self._age.V)
        found = cut.detection
        return Face(
            age=age,
            raw_age=raw_age,
            in_range=age == raw_age,
            V=self._age.V,
            box=found.box if found else None,
            landmarks=found.landmarks if found else None,
            score=found.score if found else None,
            aligned=found is not None and found.landmarks is not None and self.framing.template is not None,
            gender_score=gender_score,
            stages=stages,
            crop=cut.crop,
            turned=found.turned if found else 0,
            visible=cut.visible,
            side=cut.side,
            calibration=self._calibration,
        )


class _Cut(NamedTuple):
    """A face cut out for the networks, and where it was found, if it was searched."""

    crop: Image.Image
    for_gender: Optional[Image.Image]
    side: float
    detection: Optional[Detection] = None
    visible: float = 1.0


def _as_cut(crop: Image.Image) -> _Cut:
    """Use a crop without alignment."""
    return _Cut(crop, crop, float(min(crop.size)))


def _make_network(
    model: Union[str, os.PathLike, Checkpoint, "nn.Module", None],
    device: Union[str, "torch.device", None],
    framing: Optional[Framing],
    runtime: str,
) -> Network:
    """Load a model, without PyTorch and its slow import if ONNX Runtime suffices."""
    if runtime not in RUNTIMES:
        raise RuntimeUnavailableError(f"The runtime must be one of {', '.join(RUNTIMES)}, not {runtime!r}.")
    if not _is_module(model):
        checkpoint = model if isinstance(model, Checkpoint) else find_checkpoint(model)  # type: ignore[arg-type]  # no module
        if runtime in ("auto", "onnx") and is_cpu(device) and OnnxNetwork.takes(checkpoint):
            return OnnxNetwork(checkpoint, framing, runtime)
        with torch_needed("A model that is not run by ONNX Runtime on the CPU"):
            from ..hub.loading import load_checkpoint

            own: nn.Module = load_checkpoint(checkpoint)
    else:
        # it may be trained further, or moved
        own = copy.deepcopy(model).eval()
    from .torch_network import TorchNetwork

    return TorchNetwork(own, device, framing, runtime)


def _is_module(model: Any) -> TypeGuard["nn.Module"]:
    torch = sys.modules.get("torch")  # without which nobody has one
    return torch is not None and isinstance(model, torch.nn.Module)


def _read_ends(extras: dict[str, Any]) -> tuple[str, str]:
    """Who is at 0 and who at 1 of a score of gender."""
    ends = extras.get("ends", FEMALE_MALE)
    if ends not in (list(FEMALE_MALE), list(FEMALE_MALE[::-1]), FEMALE_MALE):
        raise ConfigError(f"The ends of the gender score in config.json must be female and male, not {ends!r:.200}")
    return tuple(ends)


def _to_boxes(boxes: Iterable[Sequence[float]], size: tuple[int, int]) -> list[Box]:
    """Check boxes that a person gave."""
    if isinstance(boxes, str) or not isinstance(boxes, Iterable):
        raise BoxError(f"Boxes must be a list of x1, y1, x2, y2, not {boxes!r:.200}.")
    checked = []
    for box in boxes:
        try:
            x1, y1, x2, y2 = map(float, box)
        except (TypeError, ValueError, OverflowError) as e:
            raise BoxError(f"Invalid bounding box: expected four numbers x1, y1, x2, y2, got {box!r:.200}.") from e
        # larger ones overflow in what is computed from them
        if not all(abs(value) < 1e100 for value in (x1, y1, x2, y2)):
            raise BoxError(f"Invalid bounding box: expected four numbers x1, y1, x2, y2, got {box!r:.200}.")
        if not (x1 < x2 and y1 < y2):
            raise BoxError(
                f"Invalid bounding box {x1:g}, {y1:g}, {x2:g}, {y2:g}: it has no area; x1, y1, x2, y2 are two corners."
            )
        if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
            raise BoxError(
                f"Invalid bounding box {x1:g}, {y1:g}, {x2:g}, {y2:g}: outside the photo of {size[0]}x{size[1]}."
            )
        checked.append((x1, y1, x2, y2))
    return checked


def _is_array_of_one(photos: Any) -> bool:
    """Whether `load_photo` takes an array or a tensor for one photo: ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``."""
    axes = getattr(photos, "ndim", None)
    channels = photos.shape[0 if hasattr(photos, "permute") else 2] if axes == 3 else 0
    return axes == 2 or channels in (1, 3, 4)


def _assert_several(photos: Any) -> None:
    single = isinstance(photos, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    if single or hasattr(photos, "read") or _is_array_of_one(photos):
        raise PhotoError(f"Expected a list of photos, got a single {type(photos).__name__}: put it in a list.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
