"""From chips as they are in memory to what models take."""

from collections.abc import Callable

import timm
from torch import Tensor, nn
from torchvision.transforms import v2

from ..models.preprocessing import Normalize

__all__ = ["make_prepare"]


def make_prepare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From uint8 chips to the model's input, like timm's transform of one picture."""
    data = timm.data.resolve_input_data_config(model)
    resize = v2.Resize(data["input_size"][1:], v2.InterpolationMode(data["interpolation"]), antialias=True)
    normalize = Normalize(model)
    return lambda chips: normalize(resize(chips))
