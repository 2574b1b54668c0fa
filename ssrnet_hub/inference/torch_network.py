"""A network in PyTorch."""

import copy
from collections.abc import Iterable
from typing import Any, Optional, Union

import timm
import torch
from PIL import Image
from torch import nn

from ..errors import ArchitectureError
from ..hub.loading import get_extras, move_model, unwrap
from ..images.alignment import Framing
from ..models.architectures import ARCHITECTURES
from ..models.cost import MOST_FACES, faces_at_once
from ..models.preprocessing import input_config_of
from .backends import Pixels, make_runtime
from .network import Answers, Network
from .stages import split_stages

__all__ = ["TorchNetwork", "count_faces"]


class TorchNetwork(Network):
    """A model, compiled by `torch.compile` or not.

    Args:
        model: A model with ``forward_stages`` and one output, in eval mode; it is moved to the device.
        device: Device to run on. Default: that of the model.
        framing: See `Network`.
        runtime: See `make_runtime`.
    """

    def __init__(
        self,
        model: nn.Module,
        device: Union[str, torch.device, None],
        framing: Optional[Framing],
        runtime: str,
    ):
        self.model = unwrap(model)
        if not hasattr(self.model, "forward_stages") or getattr(self.model, "num_classes", 1) != 1:
            raise ArchitectureError(
                f"An estimator needs an age model of this package with one output, not this {type(self.model).__name__}"
                f" with {getattr(self.model, 'num_classes', 'no')} outputs."
            )
        extras, V = get_extras(self.model), _range_of(self.model)
        super().__init__(extras, V, getattr(self.model, "in_chans", 3), framing, count_faces(self.model))
        if device is not None:
            move_model(self.model, device)
        self.device = next(self.model.parameters()).device
        self._given, self._runtime_kind = model, runtime
        self._pixels, self._runtime = Pixels(self.model), make_runtime(model, runtime)

    def to(self, device: Union[str, torch.device]) -> "TorchNetwork":
        other = copy.copy(self)
        other._given = copy.deepcopy(self._given)
        other.model = move_model(unwrap(other._given), device)
        other.device = next(other.model.parameters()).device
        other._runtime = make_runtime(other._given, self._runtime_kind)
        return other

    def __call__(self, crops: Iterable[Image.Image]) -> Answers:
        output = self._runtime(self._pixels(crops))
        return output.age[:, 0].tolist(), split_stages(output.stages)


def count_faces(model: nn.Module) -> int:
    """How many faces a model is given in one forward pass; see `faces_at_once`."""
    architecture: str = getattr(model, "pretrained_cfg", {}).get("architecture", "")
    if architecture not in ARCHITECTURES:
        return MOST_FACES
    img_size = input_config_of(model).input_size[1:]
    return faces_at_once(architecture, **{"img_size": img_size, **timm.models.get_model_args(model)})


def _range_of(model: Any) -> float:
    return float(model.V)
