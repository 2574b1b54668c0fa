"""Preprocess face crops according to a timm config. Needs neither timm nor PyTorch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["InputConfig", "Preparation"]


@dataclass(frozen=True)
class InputConfig:
    """Input of a network; names and defaults are those of timm's ``resolve_model_data_config``.

    Attributes:
        input_size: Channels, height, and width.
        interpolation: Interpolation mode, as named by timm.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        crop_pct: Fraction of the image's side that is kept.
        crop_mode: ``"center"``, ``"border"``, or ``"squash"``.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    crop_mode: str = "center"

    @classmethod
    def from_cfg(cls, pretrained_cfg: Mapping[str, Any], in_chans: int, size: tuple[int, int]) -> "InputConfig":
        """Read the timm config of weights, for a network with ``in_chans`` channels and ``size``, (height, width)."""
        fields = {name: pretrained_cfg.get(name) for name in ("interpolation", "crop_pct", "crop_mode")}
        for name, default in (("mean", cls.mean), ("std", cls.std)):
            values = pretrained_cfg.get(name)
            values = default if values is None else values if isinstance(values, (list, tuple)) else (values,)
            values = values if len(values) in (1, in_chans) else (sum(values) / len(values),)
            fields[name] = tuple(values) * (in_chans if len(values) == 1 else 1)
        return cls((in_chans, *size), **{name: value for name, value in fields.items() if value})


class Preparation:
    """Resize and crop images to pixels, bit-identical to timm's evaluation transform before conversion to tensors."""

    def __init__(self, config: InputConfig):
        channels, *size = config.input_size
        self._mode = "L" if channels == 1 else "RGB"
        self._size = height, width = size
        self._scaled = [math.floor(side / config.crop_pct) for side in (height, width)]
        self._crop_mode = config.crop_mode
        self._resample = Image.Resampling[config.interpolation.upper()]
        fill = tuple(round(255 * value) for value in config.mean)
        self._fill = (fill if len(fill) > 1 else fill[0]) if config.crop_mode == "border" else 0

    def __call__(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return pixels ``(B, H, W, in_chans)``, uint8."""
        return np.stack([self._prepare(picture) for picture in pictures])

    def _prepare(self, picture: Image.Image) -> np.ndarray:
        if picture.mode != self._mode:
            picture = picture.convert(self._mode)
        width, height = self._resized(*picture.size)
        if picture.size != (width, height):
            picture = picture.resize((width, height), self._resample)
        pixels = np.asarray(self._crop(picture))
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Compute the size, (width, height), to which an image is resized before cropping."""
        scaled_height, scaled_width = self._scaled
        if self._crop_mode == "squash":
            return scaled_width, scaled_height
        if self._crop_mode == "center" and scaled_height == scaled_width:
            # torchvision rounds down
            short, long = scaled_width, int(scaled_width * max(width, height) / min(width, height))
            return (short, long) if width <= height else (long, short)
        ratios = height / scaled_height, width / scaled_width
        ratio = max(ratios) if self._crop_mode == "border" else min(ratios)
        return round(width / ratio), round(height / ratio)

    def _crop(self, picture: Image.Image) -> Image.Image:
        height, width = self._size
        more_width, more_height = max(width - picture.width, 0), max(height - picture.height, 0)
        if more_width or more_height:
            size = picture.width + more_width, picture.height + more_height
            padded = Image.new(picture.mode, size, self._fill)
            padded.paste(picture, (more_width // 2, more_height // 2))
            picture = padded
        if picture.size == (width, height):
            return picture
        left, top = (round((have - want) / 2) for have, want in zip(picture.size, (width, height), strict=True))
        return picture.crop((left, top, left + width, top + height))
