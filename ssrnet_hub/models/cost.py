"""Cost of a model, computed from its arguments without building it."""

import math
from typing import Any, NamedTuple

from .architectures import complete_arguments, list_layers

__all__ = ["LIMITS", "MOST_FACES", "Cost", "count_cost", "faces_at_once"]

MOST_FACES = 256
"""Maximum number of faces in one forward pass."""


class Cost(NamedTuple):
    """Cost of a model.

    Attributes:
        parameters: Number of trainable parameters.
        macs: Multiply-adds of the convolutions and linear layers, per face.
        activations: Number of values in the input and in the outputs of these layers, per face.
    """

    parameters: int
    macs: int
    activations: int


LIMITS = {
    "dex_vgg16": Cost(parameters=140_000_000, macs=16_000_000_000, activations=14_000_000),
    None: Cost(parameters=12_500_000, macs=1_000_000_000, activations=3_000_000),
}
"""Maximum cost of a model described by a config, by architecture; None is for all others, with at most 50 MB."""

_ACTIVATIONS_AT_ONCE = 32_000_000
"""Maximum number of activations of all faces in one forward pass; 128 MB in float32."""


def count_cost(architecture: str, **model_args: Any) -> Cost:
    """Compute the cost of a model.

    Args:
        architecture: One of `models.zoo.list_architectures`.
        **model_args: Constructor arguments, and ``img_size`` for architectures without that argument.

    Raises:
        ValueError: The layout is invalid, or the input is so small that a level of the network would be empty.
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
    """Return the number of faces per forward pass, 1 to 256, for bounded memory; arguments as in `count_cost`."""
    cost = count_cost(architecture, **model_args)
    return max(1, min(MOST_FACES, _ACTIVATIONS_AT_ONCE // cost.activations))
