"""From a photo to the age of every face in it."""

import json
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Union

import timm
import torch
from PIL import Image
from torch import nn

from .errors import ArchitectureError, PhotoError
from .faces import Detection, Detector, MTCNNDetector
from .framing import Box, Framing, Landmarks
from .hub import from_pretrained, get_extras, move_model
from .photos import MAX_PIXELS, Photo, load_photo
from .stages import Stage, explain, split_stages

__all__ = ["AgeEstimator", "Face"]


@dataclass(frozen=True)
class Face:
    """A face and its age.

    Attributes:
        age: Years, clamped to the range [0, V] of the weights; NaN where ``raw_age`` is.
        raw_age: Years, as the network answered.
        in_range: Whether the network's answer was within [0, V].
        V: Range of the weights, years.
        box: x1, y1, x2, y2 in pixels of the upright photo; None for a crop.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them; x, y in
            pixels; None for a crop.
        score: How sure the detector is that this is a face, in [0, 1]; None for a crop.
        stages: How the network got to ``raw_age``: the contributions of its stages add up to it.
        crop: What the network looked at, before it was scaled to its input.
    """

    age: float
    raw_age: float
    in_range: bool
    V: float
    box: Optional[Box]
    landmarks: Optional[Landmarks]
    score: Optional[float]
    stages: tuple[Stage, ...]
    crop: Image.Image = field(repr=False, compare=False)

    def explain(self) -> str:
        """The stages in words: ``stage 1 says 23.1, stage 2 adds 5.0, stage 3 adds 0.4: 28.5 years``."""
        said = explain(self.stages)
        return (
            said if self.in_range or math.isnan(self.raw_age) else f"{said}, out of range and shown as {self.age:.1f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the crop, as plain numbers, lists and None; None also for what is not a finite number."""
        values = {k: v for k, v in vars(self).items() if k not in ("crop", "stages")}
        return _plain({**values, "stages": [asdict(stage) for stage in self.stages]})

    def to_json(self, **kwargs: Any) -> str:
        """`to_dict` as JSON; ``kwargs`` as for `json.dumps`."""
        return json.dumps(self.to_dict(), **kwargs)


class AgeEstimator:
    """Finds the faces in photos and tells their ages.

        est = AgeEstimator()
        for face in est("photo.jpg"):
            print(face.age, face.explain())

    Args:
        model: A name, folder or repository for `from_pretrained`, or a model; by default the embedded weights.
        detector: What finds the faces; `MTCNNDetector` by default.
        device: Where the model and the default detector run; by default where the model is, or the CPU.
        framing: How faces are cut out for the model; by default as its weights' config says, or, with a warning where
            nothing does, as for the embedded weights.
        max_pixels: Largest photo that is decoded, width x height.

    Raises:
        SSRNetHubError: The model could not be loaded, see `from_pretrained`, or there is no such device.
    """

    batch_size = 256
    """Faces in one forward pass, at most."""

    def __init__(
        self,
        model: Union[str, os.PathLike, nn.Module, None] = None,
        detector: Optional[Detector] = None,
        device: Union[str, torch.device, None] = None,
        *,
        framing: Optional[Framing] = None,
        max_pixels: int = MAX_PIXELS,
    ):
        self.model = model.eval() if isinstance(model, nn.Module) else from_pretrained(model)
        if not hasattr(self.model, "forward_stages") or getattr(self.model, "num_classes", 1) != 1:
            raise ArchitectureError(
                f"An estimator needs an age model of this package with one output, not this {type(self.model).__name__}"
                f" with {getattr(self.model, 'num_classes', 'no')} outputs."
            )
        if device is not None:
            move_model(self.model, device)
        like = next(self.model.parameters())
        self.device, self._dtype = like.device, like.dtype
        self.detector = MTCNNDetector(device=self.device) if detector is None else detector
        if framing is None:
            config = get_extras(self.model).get("framing")
            if config is None:
                warnings.warn(
                    "Nothing says how faces are cut out for this model: they are aligned as for the embedded weights. "
                    "Load it by from_pretrained, which reads it from the config, or pass framing=.",
                    stacklevel=2,
                )
            framing = Framing() if config is None else Framing.from_dict(config)
        self.framing = framing
        self.max_pixels = max_pixels
        data = timm.data.resolve_input_data_config(self.model)
        self._mode = "L" if data["input_size"][0] == 1 else "RGB"
        self._transform = timm.data.create_transform(**data)

    def __call__(self, photo: Photo) -> list[Face]:
        """The faces in a photo, the largest first.

        Args:
            photo: What `load_photo` takes: a path, bytes, a PIL image, an RGB array ``(H, W, 3)`` or a tensor
                ``(3, H, W)``.

        Raises:
            PhotoError: The photo cannot be read; `PhotoTooLargeError` where it has more than ``max_pixels``.
        """
        return self.batch([photo])[0]

    def batch(self, photos: Iterable[Photo]) -> list[list[Face]]:
        """The faces in each of several photos; as calling the estimator on each, in fewer forward passes.

        Raises:
            PhotoError: One of the photos cannot be read.
        """
        _assert_several(photos)
        found: list[tuple[Detection, Image.Image]] = []
        counts = []
        for photo in photos:
            image = load_photo(photo, self.max_pixels)
            detections = self.detector(image)
            found += [(d, self.framing.crop(image, d.box, d.landmarks)) for d in detections]
            counts.append(len(detections))
        faces = iter(self._estimate([crop for _, crop in found], [detection for detection, _ in found]))
        return [[next(faces) for _ in range(count)] for count in counts]

    def crops(self, crops: Iterable[Photo]) -> list[Face]:
        """The ages of faces that are already cut out, one each, in the frame that the weights want (`framing`).

        Args:
            crops: What `load_photo` takes, one face each; nothing is looked for in them.

        Raises:
            PhotoError: One of the crops cannot be read.
        """
        _assert_several(crops)
        images = [load_photo(crop, self.max_pixels) for crop in crops]
        return self._estimate(images, [None] * len(images))

    def _estimate(self, crops: Sequence[Image.Image], detections: Sequence[Optional[Detection]]) -> list[Face]:
        faces: list[Face] = []
        for start in range(0, len(crops), self.batch_size):
            part = slice(start, start + self.batch_size)
            x = torch.stack([self._transform(crop.convert(self._mode)) for crop in crops[part]])
            with torch.inference_mode():
                output = self.model.forward_stages(x.to(self.device, self._dtype))
            ages = output.age[:, 0].tolist()
            stages = split_stages(output.stages)
            faces += map(self._face, ages, stages, crops[part], detections[part])
        return faces

    def _face(
        self, raw_age: float, stages: tuple[Stage, ...], crop: Image.Image, detection: Optional[Detection]
    ) -> Face:
        age = min(max(raw_age, 0.0), self.model.V)
        return Face(
            age=age,
            raw_age=raw_age,
            in_range=age == raw_age,
            V=self.model.V,
            box=detection and detection.box,
            landmarks=detection and detection.landmarks,
            score=detection and detection.score,
            stages=stages,
            crop=crop,
        )


def _assert_several(photos: Any) -> None:
    if isinstance(photos, (str, bytes, os.PathLike, Image.Image)):
        raise PhotoError(f"Several pictures are taken here, as a list, not one {type(photos).__name__}: put it in [ ].")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
