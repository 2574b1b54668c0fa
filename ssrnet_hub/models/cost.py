"""What a model costs, computed from its arguments alone: nothing has to be built for it."""

import math
from typing import Any, NamedTuple

from .architectures import complete_arguments, list_layers

__all__ = ["LIMITS", "MOST_FACES", "Cost", "count_cost", "faces_at_once"]

MOST_FACES = 256
"""Faces in one forward pass, at most."""


class Cost(NamedTuple):
    """What a model has and does.

    Attributes:
        parameters: Its trainable numbers.
        macs: Multiply-adds of its convolutions and linear layers for one face.
        activations: Numbers that its input and these layers' outputs have for one face.
    """

    parameters: int
    macs: int
    activations: int


LIMITS = {
    "dex_vgg16": Cost(parameters=140_000_000, macs=16_000_000_000, activations=14_000_000),
    None: Cost(parameters=12_500_000, macs=1_000_000_000, activations=3_000_000),
}
"""What the config of weights may ask for, by architecture; None is all others, whose weights may have 50 MB."""

_ACTIVATIONS_AT_ONCE = 32_000_000
"""Activations of all the faces of one forward pass, at most; of float32, 128 MB."""


def count_cost(architecture: str, **model_args: Any) -> Cost:
    """Compute what a model of an architecture of this package costs.

    Args:
        architecture: One of `models.zoo.list_architectures`.
        **model_args: Arguments of its constructor; and ``img_size`` where that has none.

    Raises:
        ValueError: There can be no such layout, or a level of the network would be empty at that size of the input.
    """
    args = complete_arguments(architecture, **model_args)
    parameters, macs, activations = 0, 0, args["in_chans"] * math.prod(args["img_size"])
    for layer in list_layers(architecture, **model_args):
        weights = layer.in_chs * layer.out_chs * layer.kernel**2
        parameters += weights + layer.out_chs * (2 * bool(layer.norm) + layer.bias)
        macs += weights * layer.cells * layer.times
        activations += layer.out_chs * layer.cells * layer.times
    return Cost(parameters, macs, activations)


def faces_at_once(architecture: str, **model_args: Any) -> int:
    """How many faces a model is given in one forward pass, for a bounded memory: 1 to 256; arguments as of
    `count_cost`.
    """
    cost = count_cost(architecture, **model_args)
    return max(1, min(MOST_FACES, _ACTIVATIONS_AT_ONCE // cost.activations))
