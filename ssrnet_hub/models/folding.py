"""Fold two-stream networks for inference: the same ages and stages from pixels, in fewer and larger steps.

Nothing is approximated:

- batch normalization, and the normalization of pixels, are folded into the adjacent convolution;
- max pooling precedes the activation: ReLU and tanh are increasing, so ``max(act(x)) = act(max(x))``;
- the corresponding small layers of all stages are merged into one block-diagonal layer.

The steps are named after ONNX operators: `inference.onnx_graph` writes them to a file, and `fused` runs them in
PyTorch, which this module does not need.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Union

import numpy as np

__all__ = ["OUTPUT_NAMES", "Graph", "Step", "fold", "split_outputs"]

OUTPUT_NAMES = ("age", "p", "eta", "delta", "width", "contribution")
"""Outputs of a folded network: age ``(B, 1)``; p and eta ``(B, S)``, the S bins of all stages concatenated, coarse to
fine; delta, width, and contribution ``(B, K)``. See `split_outputs`."""

_ACTIVATIONS = {"stream1": "Relu", "stream2": "Tanh"}
_POOLINGS = {"stream1": "AveragePool", "stream2": "MaxPool"}

Tensors = Mapping[str, np.ndarray]


class Step(NamedTuple):
    """An ONNX operator, with its inputs and outputs by name; a ``Cast`` is ``to`` ``"streams"`` or ``"stages"``."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Steps from ``pixels``, ``(B, H, W, C)``, uint8, 0 to 255, to the outputs that `OUTPUT_NAMES` names.

    Attributes:
        img_size: H, W.
        in_chans: C.
        stage_bins: Number of bins of each stage.
        dtype: Precision of new constants.
        steps: Steps in the order of execution.
        constants: Arrays by name; those of the convolutions have the precision of the streams.
        half: Whether the streams are in float16.
    """

    img_size: tuple[int, int]
    in_chans: int
    stage_bins: tuple[int, ...]
    dtype: np.dtype
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    half: bool = False

    def add(self, operator: str, *inputs: Union[str, np.ndarray, float], count: int = 1, **attributes: Any) -> Any:
        """Add a step, and return the name of its output, or ``count`` names."""
        names = tuple(f"{operator.lower()}_{len(self.steps)}" + f"_{k}" * (count > 1) for k in range(count))
        self.steps.append(Step(operator, tuple(map(self._name, inputs)), names, attributes))
        return names if count > 1 else names[0]

    def set_outputs(self, values: Sequence[str]) -> None:
        """Name the outputs of the graph as in `OUTPUT_NAMES`."""
        self.steps += [
            Step("Identity", (value,), (name,), {}) for value, name in zip(values, OUTPUT_NAMES, strict=True)
        ]

    def half_streams(self) -> "Graph":
        """Return a copy with float16 convolutions.

        The stages keep their precision, since a year is a small part of their range.
        """
        own = {name for step in self.steps if step.operator == "Conv" for name in step.inputs[1:]}
        constants = {k: v.astype(np.float16) if k in own else v for k, v in self.constants.items()}
        return replace(self, constants=constants, half=True)

    def _name(self, value: Union[str, np.ndarray, float]) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.array(value, self.dtype, order="C")
        return name


def fold(args: Mapping[str, Any], tensors: Tensors, mean: Sequence[float], std: Sequence[float]) -> Graph:
    """Fold a two-stream network with one output.

    Args:
        args: All constructor arguments, as returned by `complete_arguments`.
        tensors: Weights by name, in float32 or float64, which is also the precision of the graph.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
    """
    dtype = np.dtype(np.float64 if any(v.dtype == np.float64 for v in tensors.values()) else np.float32)
    graph = Graph(tuple(args["img_size"]), args["in_chans"], tuple(args["stage_bins"]), dtype)
    pixels = graph.add("Cast", graph.add("Transpose", "pixels", perm=[0, 3, 1, 2]), to="streams")
    taps = {stream: _fold_stream(graph, args, tensors, stream, pixels, mean, std) for stream in ("stream1", "stream2")}

    # the tap that each stage reads, coarse to fine
    order = [2, 1, 0] if args["deep_first"] else [0, 1, 2]
    order = order if args["joint_taps"] else order[: len(args["stage_bins"])]
    features = {
        stream: [_fold_fusion(graph, args, tensors, stream, k, taps[stream][tap]) for k, tap in enumerate(order)]
        for stream in taps
    }
    x1, x2 = (graph.add("Cast", _concat(graph, parts), to="stages") for parts in features.values())

    fold_head = _fold_softmax if args["joint_taps"] else _fold_stages
    p, eta, delta = fold_head(graph, args, tensors, x1, x2)
    # equations 3 to 7 of the paper, as in regress_stages
    bins = np.array(args["stage_bins"], float)
    sums = _block_diagonal([np.ones((1, s)) for s in args["stage_bins"]])
    if not eta:
        eta = graph.add("Mul", p, 0.0)
        delta = graph.add("Gemm", eta, sums, transB=1)
    count = graph.add("Add", graph.add("Mul", delta, bins * args["lambda_d"]), bins)
    counts = graph.add("Split", count, count=len(bins), axis=1) if len(bins) > 1 else [count]
    widths = [graph.add("Div", float(args["V"]), counts[0])]
    for count in counts[1:]:
        widths.append(graph.add("Div", widths[-1], count))
    width = _concat(graph, widths)
    index = np.concatenate([np.arange(s) for s in args["stage_bins"]])
    shift = eta if args["lambda_local"] == 1 else graph.add("Mul", eta, float(args["lambda_local"]))
    weighed = graph.add("Mul", p, graph.add("Add", shift, index))
    contribution = graph.add("Mul", graph.add("Gemm", weighed, sums, transB=1), width)
    age = graph.add("Gemm", contribution, np.ones((1, len(bins))), transB=1)
    graph.set_outputs((age, p, eta, delta, width, contribution))
    return graph


def split_outputs(outputs: Sequence[Any], stage_bins: Sequence[int]) -> tuple[Any, list[tuple[Any, ...]]]:
    """Split the outputs of a folded network into the age and, for each stage, p, eta, delta, width, and contribution.

    The shapes are those of `StageOutput`. Takes arrays and tensors.
    """
    age, p, eta, delta, width, contribution = outputs
    stages, start = [], 0
    for k, s in enumerate(stage_bins):
        bins, stage = slice(start, start + s), slice(k, k + 1)
        stages.append((p[:, bins], eta[:, bins], delta[:, stage], width[:, stage], contribution[:, stage]))
        start += s
    return age, stages


def _fold_stream(
    graph: Graph,
    args: Mapping[str, Any],
    tensors: Tensors,
    stream: str,
    x: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> list[str]:
    """Add a stream, and return its three taps."""
    activation, pooling = _ACTIVATIONS[stream], _POOLINGS[stream]
    taps = []
    for level, kinds in enumerate(args["layout"]):
        pending = False  # whether the activation of a convolution is still to be added
        for number, kind in enumerate(kinds):
            name = f"{stream}.{level}.{number}"
            if kind == "P":
                if pending and pooling != "MaxPool":
                    x, pending = graph.add(activation, x), False
                x = graph.add(pooling, x, kernel_shape=[2, 2], strides=[2, 2])
                continue
            if pending:
                x = graph.add(activation, x)
            weight, bias = _fold_norm(tensors, name, args["norm_eps"])
            if level == number == 0:
                weight, bias = _absorb_normalization(weight, bias, mean, std)
            if kind == "R":
                x = graph.add("Add", x, graph.add(activation, _conv(graph, x, weight, bias, padding=1)))
            else:
                x = _conv(graph, x, weight, bias, stride=2 if kind == "S" else 1)
            pending = kind in "CS"
        taps.append(x := graph.add(activation, x) if pending else x)
    return taps


def _fold_fusion(graph: Graph, args: Mapping[str, Any], tensors: Tensors, stream: str, k: int, tap: str) -> str:
    """Add the fusion of a tap, including ReLU, and return its flat vector."""
    conv = f"fusions.{k}.conv{stream[-1]}"
    x = _conv(graph, tap, tensors[f"{conv}.weight"], tensors[f"{conv}.bias"])
    size = args["pool_sizes"] and args["pool_sizes"][k]
    # a whole tap is pooled the other way around
    average = (stream == "stream1") == bool(size)
    steps: list[tuple[str, dict[str, Any]]] = [("Relu", {})]
    if not size:
        steps.append(("GlobalAveragePool" if average else "GlobalMaxPool", {}))
    elif size > 1:
        steps.append(("AveragePool" if average else "MaxPool", {"kernel_shape": [size] * 2, "strides": [size] * 2}))
    for operator, attributes in steps if average else steps[::-1]:
        x = graph.add(operator, x, **attributes)
    return graph.add("Flatten", x)


def _fold_stages(graph: Graph, args: Mapping[str, Any], tensors: Tensors, x1: str, x2: str) -> tuple[str, str, str]:
    """Add the prediction blocks of all stages as one; eta and delta are empty if the bins are fixed."""

    def layer(name: str, x: str) -> str:
        names = [f"stages.{k}.{name}" for k in range(len(args["stage_bins"]))]
        weight = _block_diagonal([tensors[f"{one}.weight"] for one in names])
        bias = np.concatenate([tensors[f"{one}.bias"] for one in names])
        return graph.add("Gemm", x, weight, bias, transB=1)

    h = graph.add("Mul", graph.add("Relu", layer("fc1", x1)), graph.add("Relu", layer("fc2", x2)))
    if args["hidden"] is None:
        h = graph.add("Relu", layer("fc", h))
    p = graph.add("Relu", layer("p", h))
    if not args["dynamic_range"]:
        return p, "", ""
    delta = graph.add("Tanh", layer("delta", graph.add("Mul", x1, x2)))
    return p, graph.add("Tanh", layer("eta", h)), delta


def _fold_softmax(graph: Graph, args: Mapping[str, Any], tensors: Tensors, x1: str, x2: str) -> tuple[str, str, str]:
    """Add the single stage of DEX, whose layer reads both streams tap by tap."""
    weight, bias = tensors["stages.0.fc.weight"], tensors["stages.0.fc.bias"]
    # number of features per tap, of each stream
    sizes = _count_features(args, len(tensors["fusions.0.conv1.bias"]))
    columns = np.split(weight, np.cumsum([size for size in sizes for _ in range(2)])[:-1], 1)
    weight = np.concatenate([*columns[::2], *columns[1::2]], 1)
    logits = graph.add("Gemm", graph.add("Concat", x1, x2, axis=1), weight, bias, transB=1)
    return graph.add("Softmax", logits, axis=1), "", ""


def _count_features(args: Mapping[str, Any], fused_chs: int) -> list[int]:
    """Count the features of each stream in the output of each fusion."""
    sizes = []
    height, width = args["img_size"]
    for kinds in args["layout"]:
        for kind in kinds:
            if kind != "R":
                height, width = (side - 2 if kind == "C" else side // 2 for side in (height, width))
        sizes.append((height, width))
    pools = args["pool_sizes"] or (None,) * 3
    return [
        fused_chs * (math.prod(side // pool for side in size) if pool else 1)
        for size, pool in zip(sizes[::-1] if args["deep_first"] else sizes, pools, strict=True)
    ]


def _conv(graph: Graph, x: str, weight: np.ndarray, bias: np.ndarray, padding: int = 0, stride: int = 1) -> str:
    shape = list(weight.shape[2:])
    return graph.add("Conv", x, weight, bias, kernel_shape=shape, pads=[padding] * 4, strides=[stride] * 2)


def _fold_norm(tensors: Tensors, name: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Fold batch normalization ``name.bn`` into the weight and bias of convolution ``name.conv``."""
    bn = {key: tensors[f"{name}.bn.{key}"].astype(float) for key in ("weight", "bias", "running_mean", "running_var")}
    scale = bn["weight"] / np.sqrt(bn["running_var"] + eps)
    weight = tensors[f"{name}.conv.weight"] * scale[:, None, None, None]
    return weight, (tensors[f"{name}.conv.bias"] - bn["running_mean"]) * scale + bn["bias"]


def _absorb_normalization(
    weight: np.ndarray, bias: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Fold the normalization of pixels in [0, 255] into a convolution.

    The convolution must be unpadded: zeros would mean another color.
    """
    means, stds = (np.array(values, float)[:, None, None] for values in (mean, std))
    scaled = weight / stds
    return scaled / 255, bias - (scaled * means).sum((1, 2, 3))


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Build a block-diagonal matrix."""
    whole = np.zeros(np.sum([block.shape for block in blocks], 0))
    row = column = 0
    for block in blocks:
        whole[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return whole


def _concat(graph: Graph, parts: Sequence[str]) -> str:
    return graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
