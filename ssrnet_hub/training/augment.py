"""Training augmentations."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from ..images.alignment import Framing

__all__ = ["make_augment"]


def make_augment(strength: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Augmentations of batches of crops ``(B, 3, size, size)`` uint8.

    Always a horizontal flip and small affine jitter; with a probability proportional to ``strength``, in [0, 1], color
    jitter, side light, grayscale, faded colors, blur, low resolution, noise, sharpening, JPEG artifacts, and erasing.
    """

    def sometimes(p: float, *transforms: Callable) -> v2.RandomApply:
        return v2.RandomApply(list(transforms), p * strength)

    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(8, (0.08, 0.08), (0.92, 1.08), interpolation=v2.InterpolationMode.BILINEAR),
            sometimes(0.8, v2.ColorJitter(0.4, 0.4, 0.4)),
            sometimes(0.3, v2.Lambda(shade)),
            sometimes(0.25, v2.Grayscale(3)),
            sometimes(0.4, v2.Lambda(color_cast)),
            sometimes(0.25, v2.GaussianBlur(7, (0.5, 2.5))),
            sometimes(0.15, v2.Compose([v2.RandomResize(40, 96), v2.Resize(Framing().size)])),
            sometimes(0.4, v2.Lambda(noise)),
            sometimes(0.25, v2.Lambda(sharpen)),
            sometimes(0.25, v2.JPEG((20, 80))),
            v2.RandomErasing(0.1 * strength, (0.02, 0.1)),
        ]
    )


def shade(chips: Tensor) -> Tensor:
    """Side light: brightness that falls off linearly across the face, by up to half."""
    line = torch.linspace(-1, 1, chips.shape[-1])
    dx, dy = torch.empty(2).uniform_(-0.5, 0.5)
    return (chips * (1 + dx * line + dy * line[:, None])).clamp(0, 255).to(chips.dtype)


def sharpen(chips: Tensor) -> Tensor:
    return v2.functional.adjust_sharpness(chips, 1 + 3 * torch.rand(()).item())


def color_cast(chips: Tensor) -> Tensor:
    """Faded colors: another contrast and black level per channel."""
    gains = torch.empty(chips.shape[-3], 1, 1).uniform_(0.5, 1.2)
    blacks = torch.empty(chips.shape[-3], 1, 1).uniform_(-30, 60)
    return (chips * gains + blacks).clamp(0, 255).to(chips.dtype)


def noise(chips: Tensor) -> Tensor:
    """Gaussian noise with a standard deviation of up to 25 levels, one to four pixels wide, gray or per channel."""
    side = int(chips.shape[-1] / torch.empty(()).uniform_(1, 4).item())
    channels = 1 if torch.rand(()) < 0.5 else chips.shape[-3]
    grain = torch.randn(*chips.shape[:-3], channels, side, side)
    grain = torch.nn.functional.interpolate(grain, chips.shape[-1], mode="bilinear")
    return (chips + grain * torch.rand(()) * 25).clamp(0, 255).to(chips.dtype)
