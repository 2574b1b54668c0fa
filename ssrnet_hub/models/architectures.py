"""Layers, tensors, and defaults of the architectures, derived from their arguments. Does not need PyTorch."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Union

__all__ = [
    "ARCHITECTURES",
    "RESNET10_CHS",
    "RESNET10_LAYERS",
    "VARIANTS",
    "VGG16_LAYERS",
    "Layer",
    "check_layout",
    "check_regression",
    "complete_arguments",
    "count_kinds",
    "is_two_stream",
    "list_layers",
    "list_tensors",
    "model_arguments",
]

VGG16_LAYERS: list[Union[int, str]] = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
RESNET10_LAYERS, RESNET10_CHS = (1, 2, 2, 0), (64, 128, 256, 256)

VARIANTS: dict[str, dict[str, Any]] = {
    "ssrnet": {},
    "ssrnet_gender": {"V": 1.0},
    "ssrnet_blog": {
        "deep_first": False,
        "layout": ("CP", "CP", "CPCP"),
        "fused_chs": 32,
        "pool_sizes": None,
        "hidden": 16,
        "norm_eps": 1e-5,
        "drop_rate": 0.5,
    },
    "ssrnet_wide": {
        "layout": ("CPCP", "CPR", "CPR"),
        "chs": (24, 48, 64, 80),
        "fused_chs": 16,
        "pool_sizes": (1, 3, 7),
        "hidden": 16,
        "img_size": 96,
        "drop_rate": 0.1,
    },
}
"""Arguments of the variants that differ from the defaults of `SSRNet`."""

_TWO_STREAM: dict[str, Any] = {
    "stage_bins": (3, 3, 3),
    "V": 101.0,
    "lambda_local": 1.0,
    "lambda_d": 1.0,
    "dynamic_range": True,
    "deep_first": True,
    "layout": ("CP", "CP", "CPC"),
    "chs": (32, 32, 32, 32),
    "fused_chs": 10,
    "pool_sizes": (1, 4, 8),
    "hidden": None,
    "norm_eps": 1e-3,
    "num_classes": 1,
    "in_chans": 3,
    "img_size": 64,
    "drop_rate": 0.2,
}

_DEX = {"stage_bins": (101,), "V": 101.0, "num_classes": 1, "in_chans": 3}


class Layer(NamedTuple):
    """A convolution or linear layer.

    Attributes:
        name: Prefix of its tensors' names.
        cells: Number of positions where it is applied.
        norm: Name of the batch normalization after it; empty if there is none.
        times: Number of times it is applied per face.
    """

    name: str
    in_chs: int
    out_chs: int
    kernel: int = 1
    cells: int = 1
    norm: str = ""
    times: int = 1
    linear: bool = False
    bias: bool = True

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of its tensors."""
        yield f"{self.name}.weight", (self.out_chs, self.in_chs, *([] if self.linear else [self.kernel] * 2))
        if self.bias:
            yield f"{self.name}.bias", (self.out_chs,)
        if self.norm:
            for name in ("weight", "bias", "running_mean", "running_var"):
                yield f"{self.norm}.{name}", (self.out_chs,)
            yield f"{self.norm}.num_batches_tracked", ()


def model_arguments(architecture: str) -> frozenset[str]:
    """Return the names of the constructor arguments that the config of weights may set."""
    return frozenset(ARCHITECTURES[architecture].defaults)


def complete_arguments(architecture: str, **model_args: Any) -> dict[str, Any]:
    """Complete the arguments of a model's constructor with their defaults."""
    _, defaults, fixed = ARCHITECTURES[architecture]
    args = {"img_size": 224, **fixed, **defaults, **model_args}
    size = args["img_size"]
    args["img_size"] = (size, size) if isinstance(size, int) else tuple(size)
    return args


def list_layers(architecture: str, **model_args: Any) -> Iterator[Layer]:
    """Yield the convolutions and linear layers of a model.

    Args:
        architecture: A key of `ARCHITECTURES`.
        **model_args: Constructor arguments, and ``img_size`` for architectures without that argument.

    Raises:
        ValueError: The layout is invalid, or the input is so small that a level of the network would be empty.
    """
    args = complete_arguments(architecture, **model_args)
    for layer in ARCHITECTURES[architecture].layers(args):
        if layer.cells < 1:
            raise ValueError(f"img_size {args['img_size']} is too small for {architecture}: a level would be empty")
        yield layer


def list_tensors(architecture: str, **model_args: Any) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a model's tensors; raises the errors of `list_layers`."""
    return {name: shape for layer in list_layers(architecture, **model_args) for name, shape in layer.tensors()}


def check_regression(stage_bins: tuple[int, ...], most_stages: int, V: float) -> None:
    """Raise ValueError unless there are 1 to ``most_stages`` stages with at least one bin each, and V is positive."""
    if not 1 <= len(stage_bins) <= most_stages or min(stage_bins) < 1:
        raise ValueError(
            f"stage_bins must list the bins of at most {most_stages} stage(s), at least one each, not {stage_bins}"
        )
    if not 0 < V < math.inf:
        raise ValueError(f"V must be a positive number, not {V}")


def check_layout(layout: tuple[str, ...], chs: tuple[int, ...]) -> None:
    """Raise ValueError unless the layout is valid, with an even number of channels for each convolution."""
    if len(layout) != 3 or not all(layout) or set("".join(layout)) - set("CPRS") or layout[0][0] not in "CS":
        raise ValueError(f"layout must be three levels of C, S, P and R, the first beginning with C or S, not {layout}")
    if len(chs) != count_kinds("".join(layout), "CS") or any(ch < 2 or ch % 2 for ch in chs):
        raise ValueError(f"chs must list an even number of channels for each C and S of the layout {layout}, not {chs}")


def count_kinds(layout: str, kinds: str) -> int:
    """Count the blocks of the given kinds in a layout."""
    return sum(map(layout.count, kinds))


def _two_stream_layers(args: Mapping[str, Any]) -> Iterator[Layer]:
    joint = args["joint_taps"]
    check_regression(tuple(args["stage_bins"]), 1 if joint else 3, args["V"])
    check_layout(tuple(args["layout"]), tuple(args["chs"]))
    height, width = args["img_size"]
    now = args["in_chans"], args["in_chans"]
    chs = iter(args["chs"])
    taps = []
    for level, kinds in enumerate(args["layout"]):
        for number, kind in enumerate(kinds):
            if kind == "P":
                height, width = height // 2, width // 2
                continue
            before = now
            if kind in "CS":
                height, width = ((side - 1) // 2 if kind == "S" else side - 2 for side in (height, width))
                out_chs = next(chs)
                now = out_chs, out_chs // 2
            for stream, in_chs, out_chs in zip((1, 2), before, now, strict=True):
                name = f"stream{stream}.{level}.{number}"
                yield Layer(f"{name}.conv", in_chs, out_chs, 3, _cells(height, width), norm=f"{name}.bn")
        taps.append((now, height, width))
    if args["deep_first"]:
        taps.reverse()

    features: list[int] = []
    for (chs1, chs2), height, width in taps if joint else taps[: len(args["stage_bins"])]:
        for stream, in_chs in ((1, chs1), (2, chs2)):
            name = f"fusions.{len(features)}.conv{stream}"
            yield Layer(name, in_chs, args["fused_chs"], cells=_cells(height, width))
        size = args["pool_sizes"] and args["pool_sizes"][len(features)]
        features.append(args["fused_chs"] * (_cells(height // size, width // size) if size else 1))
    if not all(features):
        raise ValueError(f"img_size {tuple(args['img_size'])} is too small: a tap would be empty")
    if not args["num_classes"]:
        return
    if joint:
        yield Layer("stages.0.fc", 2 * sum(features), args["num_classes"] * args["stage_bins"][0], linear=True)
        return
    for stage, (in_features, num_bins) in enumerate(zip(features, args["stage_bins"], strict=True)):
        yield from _stage_layers(args, f"stages.{stage}", in_features, num_bins)


def _stage_layers(args: Mapping[str, Any], stage: str, num_features: int, num_bins: int) -> Iterator[Layer]:
    hidden, num_classes, moving = args["hidden"], args["num_classes"], args["dynamic_range"]
    # eta has its own dropout mask, so the product of the streams is computed twice
    times = 2 if hidden and moving else 1
    for name in ("fc1", "fc2"):
        yield Layer(f"{stage}.{name}", num_features, hidden or num_bins, times=times, linear=True)
    if not hidden:
        yield Layer(f"{stage}.fc", num_bins, 2 * num_bins, linear=True)
    for name in ("p", "eta") if moving else ("p",):
        yield Layer(f"{stage}.{name}", hidden or 2 * num_bins, num_classes * num_bins, linear=True)
    if moving:
        yield Layer(f"{stage}.delta", num_features, num_classes, linear=True)


def _vgg_layers(args: Mapping[str, Any]) -> Iterator[Layer]:
    check_regression(tuple(args["stage_bins"]), 1, args["V"])
    height, width = args["img_size"]
    chs = args["in_chans"]
    number = 0
    for out_chs in VGG16_LAYERS:
        if isinstance(out_chs, str):
            height, width = height // 2, width // 2
            number += 1
            continue
        yield Layer(f"features.{number}", chs, out_chs, 3, _cells(height, width))
        chs = out_chs
        # its activation has an index too
        number += 2
    # the first dense layer is a 7x7 convolution; smaller maps are stretched to its size
    cells = _cells(max(height - 6, 1), max(width - 6, 1)) if height and width else 0
    hidden = int(4096 * args["mlp_ratio"])
    yield Layer("pre_logits.fc1", chs, hidden, 7, cells)
    yield Layer("pre_logits.fc2", hidden, 4096, cells=cells)
    if args["num_classes"]:
        yield Layer("head.fc", 4096, args["num_classes"] * args["stage_bins"][0], linear=True)


def _resnet_layers(args: Mapping[str, Any]) -> Iterator[Layer]:
    check_regression(tuple(args["stage_bins"]), 1, args["V"])
    height, width = ((side - 7) // 2 + 1 for side in args["img_size"])
    yield Layer("conv1", args["in_chans"], 64, 7, _cells(height, width), norm="bn1", bias=False)
    height, width, chs = (height - 3) // 2 + 1, (width - 3) // 2 + 1, 64
    for number, (out_chs, blocks) in enumerate(zip(RESNET10_CHS, RESNET10_LAYERS, strict=True), 1):
        for block in range(blocks):
            name, cells = f"layer{number}.{block}", _cells(height, width)
            if number > 1 and not block:
                # the convolution is not padded, but its output is, to the size of the shortcut
                cells, height, width = _cells((height - 1) // 2, (width - 1) // 2), height // 2, width // 2
            yield Layer(f"{name}.conv1", chs, out_chs, 3, cells, norm=f"{name}.bn1", bias=False)
            yield Layer(f"{name}.conv2", out_chs, out_chs, 3, cells, norm=f"{name}.bn2", bias=False)
            chs = out_chs
    if args["num_classes"]:
        yield Layer("fc", chs, args["num_classes"] * args["stage_bins"][0], linear=True)


def _cells(height: int, width: int) -> int:
    return max(height, 0) * max(width, 0)


def is_two_stream(architecture: str) -> bool:
    """Whether an architecture has SSR-Net's two streams, with any stages."""
    return ARCHITECTURES[architecture].layers is _two_stream_layers


class Architecture(NamedTuple):
    """An entry of `ARCHITECTURES`.

    Attributes:
        layers: Function that yields the layers, given complete arguments.
        defaults: Defaults of the constructor arguments.
        fixed: Values that the class fixes for other arguments that ``layers`` reads.
    """

    layers: Callable[[Mapping[str, Any]], Iterator[Layer]]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any]


ARCHITECTURES: Mapping[str, Architecture] = {
    **{
        name: Architecture(_two_stream_layers, {**_TWO_STREAM, **changes}, {"joint_taps": False})
        for name, changes in VARIANTS.items()
    },
    "ssrnet_dex": Architecture(
        _two_stream_layers,
        {**_DEX, "img_size": 64, "drop_rate": 0.2},
        {**_TWO_STREAM, "dynamic_range": False, "joint_taps": True},
    ),
    "dex_vgg16": Architecture(_vgg_layers, {**_DEX, "mlp_ratio": 1.0, "drop_rate": 0.5}, {}),
    "dex_resnet10": Architecture(_resnet_layers, {**_DEX, "global_pool": "avg", "drop_rate": 0.0}, {"img_size": 64}),
}
"""All architectures by name."""
