"""Preprocess face crops in PyTorch."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from .preparation import InputConfig

__all__ = ["Normalize", "input_config_of", "make_prepare"]


def input_config_of(model: nn.Module) -> InputConfig:
    """Return the input config of a model created by timm or `from_pretrained`."""
    return InputConfig(**timm.data.resolve_input_data_config(model))


class Normalize:
    """``(pixels / 255 - mean) / std``, with the ``mean`` and ``std`` of a model's timm config.

    Takes ``(N, C, H, W)``, uint8 or float in [0, 255], on any device, and returns float32 on the same device.
    """

    def __init__(self, model: nn.Module):
        data = timm.data.resolve_input_data_config(model)
        # independent of PyTorch's default dtype and device
        self._mean, self._std = (
            torch.tensor(data[key], dtype=torch.float32, device="cpu")[:, None, None] for key in ("mean", "std")
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        return pixels.float().div(255).sub(mean).div(std)


def make_prepare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 face crops to the model's input, like timm's transform of a single image."""
    config = input_config_of(model)
    resize = v2.Resize(config.input_size[1:], v2.InterpolationMode(config.interpolation), antialias=True)
    normalize = Normalize(model)
    return lambda crops: normalize(resize(crops))
