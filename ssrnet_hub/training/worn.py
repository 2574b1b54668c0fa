"""Degraded copies of crops for calibration, deterministic."""

import io
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from .augment import make_augment

__all__ = ["POOR", "WEAR", "faded_copies", "worn_copies"]

Wear = Callable[[Image.Image, np.random.Generator], Image.Image]

_COVERS = ((0.5, 1.0), (0.2, 0.42))
"""Covered part of a crop, from and to, as fractions of its height: the lower half, and the eyes."""


def _blur(sigma: float) -> Wear:
    return lambda chip, rng: chip.filter(ImageFilter.GaussianBlur(sigma * chip.width))


def _reduce(side: int) -> Wear:
    def reduce(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
        small = chip.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return small.resize(chip.size, Image.Resampling.BICUBIC)

    return reduce


def _compress(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    chip.save(file, "JPEG", quality=8)
    return Image.open(file).convert("RGB")


def _add_noise(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(chip, float)
    return _to_image(pixels + rng.normal(0, 25, pixels.shape))


def _flatten(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _to_image((np.asarray(chip, float) - 128) / 4 + 128)


def _cover(start: float, end: float) -> Wear:
    def cover(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Cover a crop with cloth of one color."""
        top, bottom = round(start * chip.height), round(end * chip.height)
        size = bottom - top, chip.width
        color = rng.uniform(10, 250, 3)
        waves = np.sin(np.linspace(0, rng.uniform(0, 6 * math.pi), size[0]) + rng.uniform(0, 6))
        light = rng.uniform(0, 25) * waves[:, None] + rng.normal(0, rng.uniform(0, 6), size)
        pixels = np.array(chip, float)
        pixels[top:bottom] = color + light[..., None]
        return _to_image(pixels)

    return cover


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


WEAR: dict[str, Wear] = {
    "blurred, sigma 1/40 of the side": _blur(1 / 40),
    "blurred, 1/24": _blur(1 / 24),
    "blurred, 1/12": _blur(1 / 12),
    "reduced to 16 pixels": _reduce(16),
    "reduced to 24 pixels": _reduce(24),
    "reduced to 32 pixels": _reduce(32),
    "JPEG of quality 8": _compress,
    "noise of 25 levels": _add_noise,
    "a quarter of the contrast": _flatten,
    "lower half covered": _cover(*_COVERS[0]),
    "eyes covered": _cover(*_COVERS[1]),
    "upside down": lambda chip, rng: chip.rotate(180),
}
"""Degradations, by their names in cards."""

POOR: dict[str, tuple[str, ...]] = {
    "blurred": ("blurred, 1/24", "blurred, 1/12", "reduced to 16 pixels"),
    "covered": ("lower half covered", "eyes covered"),
    "turned": ("upside down",),
}
"""Degradations to detect, by the name of the doubt."""


def worn_copies(chips: Sequence[Image.Image]) -> Iterator[tuple[str, list[Image.Image]]]:
    """Yields each degradation with a degraded copy of each crop."""
    for number, (name, wear) in enumerate(WEAR.items()):
        rng = np.random.default_rng(number)
        yield name, [wear(chip, rng) for chip in chips]


def faded_copies(chips: Sequence[Image.Image], seed: int) -> list[Image.Image]:
    """A copy of each crop, augmented as in training at full strength."""
    augment, copies = make_augment(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for chip in chips:
            copies.append(v2.functional.to_pil_image(augment(v2.functional.pil_to_tensor(chip)[None])[0]))
    return copies
