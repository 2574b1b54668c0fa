"""What a model costs, computed from its arguments alone: nothing has to be built for it."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import timm
from timm.layers import to_2tuple
from torch import nn

from .dex import DEXVGG, RESNET10_CHS, RESNET10_LAYERS, VGG16_LAYERS, DEXResNet, SSRNetDEX
from .layers import WIDENING, check_layout
from .ssrnet import VARIANTS, SSRNet

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


class _Layer(NamedTuple):
    """A convolution or linear layer that is applied in so many cells, so many times for a face."""

    in_chs: int
    out_chs: int
    kernel: int = 1
    cells: int = 1
    norm: bool = False
    times: int = 1
    bias: bool = True


def count_cost(architecture: str, **model_args: Any) -> Cost:
    """Compute what a model of an architecture of this package costs.

    Args:
        architecture: One of `models.pretrained.list_architectures`.
        **model_args: Arguments of its constructor; and ``img_size`` where that has none.

    Raises:
        ValueError: There can be no such layout, or a level of the network would be empty at that size of the input.
    """
    layers_of, defaults = _ARCHITECTURES[architecture]
    args = {**defaults, **model_args}
    height, width = args["img_size"] = to_2tuple(args["img_size"])
    parameters, macs, activations = 0, 0, args["in_chans"] * height * width
    for layer in layers_of(args):
        if layer.cells < 1:
            raise ValueError(f"img_size {(height, width)} is too small for {architecture}: a level would be empty")
        weights = layer.in_chs * layer.out_chs * layer.kernel**2
        parameters += weights + layer.out_chs * (2 * layer.norm + layer.bias)
        macs += weights * layer.cells * layer.times
        activations += layer.out_chs * layer.cells * layer.times
    return Cost(parameters, macs, activations)


def faces_at_once(model: nn.Module) -> int:
    """How many faces a model is given in one forward pass, for a bounded memory: 1 to 256."""
    architecture = getattr(model, "pretrained_cfg", {}).get("architecture")
    if architecture not in _ARCHITECTURES:
        return MOST_FACES
    img_size = timm.data.resolve_input_data_config(model)["input_size"][1:]
    cost = count_cost(architecture, **{"img_size": img_size, **timm.models.get_model_args(model)})
    return max(1, min(MOST_FACES, _ACTIVATIONS_AT_ONCE // cost.activations))


def _two_stream_layers(args: Mapping[str, Any]) -> Iterator[_Layer]:
    check_layout(tuple(args["layout"]), tuple(args["chs"]))
    height, width = args["img_size"]
    now = args["in_chans"], args["in_chans"]
    chs = iter(args["chs"])
    taps = []
    for kinds in args["layout"]:
        for kind in kinds:
            if kind == "P":
                height, width = height // 2, width // 2
                continue
            before, around = now, _cells(height, width)
            if kind in WIDENING:
                out_chs = next(chs)
                now = out_chs, out_chs // 2
            if kind == "C":
                height, width = height - 2, width - 2
            elif kind in "SD":
                height, width = (height + 1) // 2, (width + 1) // 2
            cells = _cells(height, width)
            for in_chs, out_chs in zip(before, now, strict=True):
                if kind in "CSR":
                    yield _Layer(in_chs, out_chs, 3, cells, norm=True)
                    continue
                hidden = in_chs * args["expansion"]
                yield _Layer(in_chs, hidden, cells=around, norm=True, bias=False)
                yield _Layer(1, hidden, 3, cells, norm=True, bias=False)
                yield _Layer(hidden, out_chs, cells=cells, norm=True, bias=False)
        taps.append((now, height, width))
    if args["deep_first"]:
        taps.reverse()

    features: list[int] = []
    joint = args["joint_taps"]
    for (chs1, chs2), height, width in taps if joint else taps[: len(args["stage_bins"])]:
        for in_chs in (chs1, chs2):
            yield _Layer(in_chs, args["fused_chs"], cells=_cells(height, width))
        size = args["pool_sizes"] and args["pool_sizes"][len(features)]
        features.append(args["fused_chs"] * (_cells(height // size, width // size) if size else 1))
    if not args["num_classes"]:
        return
    if joint:
        yield _Layer(2 * sum(features), args["num_classes"] * args["stage_bins"][0])
        return
    for in_features, num_bins in zip(features, args["stage_bins"], strict=True):
        yield from _stage_layers(args, in_features, num_bins)


def _stage_layers(args: Mapping[str, Any], num_features: int, num_bins: int) -> Iterator[_Layer]:
    hidden, num_classes, moving = args["hidden"], args["num_classes"], args["dynamic_range"]
    # with a dropout mask of its own for eta, the product of the streams is computed twice
    times = 2 if hidden and moving else 1
    yield from [_Layer(num_features, hidden or num_bins, times=times)] * 2
    if not hidden:
        yield _Layer(num_bins, 2 * num_bins)
    yield from [_Layer(hidden or 2 * num_bins, num_classes * num_bins)] * (2 if moving else 1)
    if moving:
        yield _Layer(num_features, num_classes)


def _vgg_layers(args: Mapping[str, Any]) -> Iterator[_Layer]:
    height, width = args["img_size"]
    chs = args["in_chans"]
    for out_chs in VGG16_LAYERS:
        if isinstance(out_chs, str):
            height, width = height // 2, width // 2
            continue
        yield _Layer(chs, out_chs, 3, _cells(height, width))
        chs = out_chs
    # the first dense layer is a convolution of 7x7, to which a smaller map is stretched
    cells = _cells(max(height - 6, 1), max(width - 6, 1)) if height and width else 0
    hidden = int(4096 * args["mlp_ratio"])
    yield _Layer(chs, hidden, 7, cells)
    yield _Layer(hidden, 4096, cells=cells)
    if args["num_classes"]:
        yield _Layer(4096, args["num_classes"] * args["stage_bins"][0])


def _resnet_layers(args: Mapping[str, Any]) -> Iterator[_Layer]:
    height, width = ((side - 7) // 2 + 1 for side in args["img_size"])
    yield _Layer(args["in_chans"], 64, 7, _cells(height, width), norm=True, bias=False)
    height, width, chs = (height - 3) // 2 + 1, (width - 3) // 2 + 1, 64
    for number, (out_chs, blocks) in enumerate(zip(RESNET10_CHS, RESNET10_LAYERS, strict=True)):
        for block in range(blocks):
            cells = _cells(height, width)
            if number and not block:
                # the convolution is not padded, and its answer is brought to the size of the shortcut
                cells, height, width = _cells((height - 1) // 2, (width - 1) // 2), height // 2, width // 2
            yield _Layer(chs, out_chs, 3, cells, norm=True, bias=False)
            yield _Layer(out_chs, out_chs, 3, cells, norm=True, bias=False)
            chs = out_chs
    if args["num_classes"]:
        yield _Layer(chs, args["num_classes"] * args["stage_bins"][0])


def _cells(height: int, width: int) -> int:
    return max(height, 0) * max(width, 0)


def _defaults(model_cls: type[nn.Module]) -> dict[str, Any]:
    parameters = inspect.signature(model_cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


_TWO_STREAM = {**_defaults(SSRNet), "joint_taps": False}
_ARCHITECTURES: dict[str, tuple[Callable[[Mapping[str, Any]], Iterator[_Layer]], dict[str, Any]]] = {
    **{name: (_two_stream_layers, {**_TWO_STREAM, **changes}) for name, changes in VARIANTS.items()},
    "ssrnet_dex": (_two_stream_layers, {**_TWO_STREAM, **_defaults(SSRNetDEX), "joint_taps": True}),
    "dex_vgg16": (_vgg_layers, {**_defaults(DEXVGG), "img_size": 224}),
    "dex_resnet10": (_resnet_layers, {**_defaults(DEXResNet), "img_size": 64}),
}
