"""Interface between an estimator and a model, independent of the runtime. Needs no PyTorch."""

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Optional, Union

from PIL import Image

from ..errors import ArchitectureError
from ..images.alignment import Framing
from ..models.config import read_task
from .stages import Stage

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Answers", "Network", "is_cpu"]

Answers = tuple[list[float], list[tuple[Stage, ...]]]
"""Of each face the age, years, not clamped, and the stages."""


def is_cpu(device: Union[str, "torch.device", None]) -> bool:
    """Whether a device is the CPU, which is also the default."""
    return device is None or str(device).partition(":")[0] == "cpu"


class Network:
    """A model as an estimator uses it, independent of the runtime.

    Args:
        extras: Extras of the config, beyond timm's schema.
        V: Range of the model.
        in_chans: Number of input channels.
        framing: How faces are cropped. Default: the framing in the extras; if there is none, that of the embedded
            weights, with a warning.
        batch_size: Maximum number of faces per forward pass.
    """

    model: "nn.Module"
    """The model in PyTorch."""

    device: "torch.device"
    """Where it runs."""

    def __init__(self, extras: dict[str, Any], V: float, in_chans: int, framing: Optional[Framing], batch_size: int):
        self.extras, self.V, self.batch_size = extras, V, batch_size
        self.task = read_task(extras, V)
        if in_chans not in (1, 3):
            raise ArchitectureError(f"Only models with 1 or 3 input channels are supported, not {in_chans}.")
        if framing is None:
            config = extras.get("framing")
            if config is None:
                warnings.warn(
                    "This model has no framing: faces are aligned as for the embedded weights. "
                    "Load it with from_pretrained, which reads the framing from the config, or pass framing=.",
                    stacklevel=5,
                )
            framing = Framing() if config is None else Framing.from_dict(config)
        self.framing = framing

    def to(self, device: Union[str, "torch.device"]) -> "Network":
        """The same network on a device."""
        raise NotImplementedError

    def __call__(self, crops: Iterable[Image.Image]) -> Answers:
        """Ages of crops."""
        raise NotImplementedError
