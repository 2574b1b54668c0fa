"""Write the networks of facenet-pytorch's MTCNN as ONNX graphs, and its license, into the package.

The graphs compute the same as the networks, but are arranged for ONNX Runtime, whose fast convolutions process channels
in blocks of 8 and fuse with a subsequent ReLU or sum:

- a PReLU with slope a becomes ``x + (1 - a) relu(-x)``, with two depthwise convolutions;
- in the first network, which scans the whole picture, max pooling comes before the PReLU. This needs the maxima of both
  x and a x where a is negative, so such a channel gets a twin, scaled by a;
- the normalization of pixels is folded into the first network's first convolution;
- the order in which features reach the first dense layer is folded into its weights.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Union

import numpy as np
from facenet_pytorch.models import mtcnn
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes
from torch import nn

from ssrnet_hub.inference.cascade_torch import load
from ssrnet_hub.utils.io import replace_file

FOLDER = Path(__file__).resolve().parents[2] / "ssrnet_hub" / "inference" / "mtcnn"

OPSET = 17
"""ONNX opset; from 2022, for wide support."""

BLOCK = 8
"""Channels that ONNX Runtime computes together; for 12, it would compute 16 anyway."""


def write_pnet() -> ModelProto:
    """Input ``pixels`` ``(batch, 3, H, W)``, float32, 0 to 255. Outputs ``moves`` ``(batch, 4, h, w)`` and ``scores``
    ``(batch, 1, h, w)``, for windows of 12 by 12 pixels with a stride of 2.
    """
    network = load(mtcnn.PNet)
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    graph = _Graph()
    # as (pixels - 127.5) / 128
    weight = weights["conv1.weight"] / 128
    bias = weights["conv1.bias"] - 127.5 * weight.sum((1, 2, 3))
    slopes = weights["prelu1.weight"]
    falling = np.flatnonzero(slopes < 0)
    count, own = len(slopes), np.arange(len(slopes))
    twins = count + np.arange(len(falling))
    width = _whole_blocks(count + len(falling))
    x = graph.conv(
        "pixels",
        _pad(np.concatenate([weight, weight[falling] * slopes[falling, None, None, None]]), width),
        _pad(np.concatenate([bias, bias[falling] * slopes[falling]]), width),
    )
    x = graph.max_pool(x, 2)
    # max(x, twin) = x + relu(twin - x), and x + (1 - a) relu(-x) elsewhere; twins are not needed from here on
    mixed, shares = np.zeros((width, width)), np.zeros(width)
    mixed[own, own], shares[own] = -1, 1 - slopes
    mixed[falling, twins], shares[falling] = 1, 1
    x = graph.add("Add", graph.each(graph.relu(graph.conv(x, mixed[:, :, None, None])), shares), x)
    x = graph.conv(x, _pad(weights["conv2.weight"], width, 1), weights["conv2.bias"])
    x = graph.prelu(x, weights["prelu2.weight"])
    x = graph.conv(x, weights["conv3.weight"], weights["conv3.bias"])
    # the heads are linear: fold the last PReLU, a x + (1 - a) relu(x), into them
    heads = _sure(weights, "conv4_1"), (weights["conv4_2.weight"], weights["conv4_2.bias"])
    weight, bias = (np.concatenate(parts) for parts in zip(*heads, strict=True))
    slopes = weights["prelu3.weight"][:, None, None]
    x = graph.add("Add", graph.conv(x, weight * slopes, bias), graph.conv(graph.relu(x), weight * (1 - slopes)))
    score, moves = graph.split(x, [1, 4])
    pixels = (TensorProto.FLOAT, ["batch", 3, "height", "width"])
    return graph.finish({"pixels": pixels}, {"moves": moves, "scores": graph.add("Sigmoid", score)})


def write_rnet() -> ModelProto:
    """Input ``crops`` ``(batch, 3, 24, 24)``, float32, normalized. Outputs ``moves`` ``(batch, 4)``, ``scores``
    ``(batch, 1)``.
    """
    return _write_closer(load(mtcnn.RNet), 24, [3, 3, 0], {"moves": 4})


def write_onet() -> ModelProto:
    """Input ``crops`` ``(batch, 3, 48, 48)``, float32, normalized. Outputs ``moves`` ``(batch, 4)``, ``points``
    ``(batch, 10)``, five x and five y, and ``scores`` ``(batch, 1)``.
    """
    return _write_closer(load(mtcnn.ONet), 48, [3, 3, 2, 0], {"moves": 4, "points": 10})


def write_cut_faces(network: mtcnn.ONet) -> ModelProto:
    """O-Net trained further on faces that are cut off, in float16. Input as of O-Net, output ``points``."""
    return _write_closer(network, 48, [3, 3, 2, 0], {"moves": 4, "points": 10}, ["points"])


def write_nms() -> ModelProto:
    """Inputs ``boxes`` ``(1, N, 4)``, ``scores`` ``(1, 1, N)``, ``count``, ``threshold``: those of the operator."""
    inputs: dict[str, tuple[int, list]] = {
        "boxes": (TensorProto.FLOAT, [1, "boxes", 4]),
        "scores": (TensorProto.FLOAT, [1, 1, "boxes"]),
        "count": (TensorProto.INT64, [1]),
        "threshold": (TensorProto.FLOAT, [1]),
    }
    graph = _Graph()
    kept = graph.add("NonMaxSuppression", *inputs)
    return graph.finish(inputs, {"kept": kept}, TensorProto.INT64)


def write_average() -> ModelProto:
    """Inputs ``pixels`` ``(batch, H, W, 3)``, uint8, and weights ``rows`` ``(batch, h, H)`` and ``columns``
    ``(batch, w, W)``. Output ``crops`` ``(batch, 3, h, w)``, normalized.
    """
    inputs: dict[str, tuple[int, list]] = {
        "pixels": (TensorProto.UINT8, ["batch", "height", "width", 3]),
        "rows": (TensorProto.FLOAT, ["batch", "down", "height"]),
        "columns": (TensorProto.FLOAT, ["batch", "across", "width"]),
    }
    graph = _Graph()
    x = graph.add("Sub", graph.add("Cast", "pixels", to=TensorProto.FLOAT), np.array(127.5))
    x = graph.add("MatMul", "rows", graph.add("Reshape", x, np.array([0, 0, -1])))
    x = graph.add("Transpose", graph.add("Reshape", x, np.array([0, 0, -1, 3])), perm=[0, 3, 1, 2])
    columns = graph.add("Mul", graph.add("Transpose", "columns", perm=[0, 2, 1]), np.array(1 / 128))
    x = graph.add("MatMul", x, graph.add("Unsqueeze", columns, np.array([1])))
    return graph.finish(inputs, {"crops": x})


GRAPHS = {
    "pnet.onnx": write_pnet,
    "rnet.onnx": write_rnet,
    "onet.onnx": write_onet,
    "nms.onnx": write_nms,
    "average.onnx": write_average,
}


def _write_closer(
    network: nn.Module, side: int, pools: list[int], answers: dict[str, int], only: Sequence[str] = ()
) -> ModelProto:
    """The second or third network: convolutions, each with a PReLU and some with max pooling, and two dense layers.

    With ``only``, its weights are stored in float16, and other outputs are left out.
    """
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    graph, x = _Graph(half=bool(only)), "crops"
    width = 3
    for number, pool in enumerate(pools, 1):
        weight = _pad(weights[f"conv{number}.weight"], width, 1)
        width = _whole_blocks(len(weight))
        x = graph.conv(x, _pad(weight, width), _pad(weights[f"conv{number}.bias"], width))
        x = graph.prelu(x, _pad(weights[f"prelu{number}.weight"], width))
        x = graph.max_pool(x, pool) if pool else x
    dense = len(pools) + 1
    # features arrive as (channels, rows, columns), but the network expects (columns, rows, channels)
    weight = weights[f"dense{dense}.weight"]
    edge = round((weight.shape[1] / width) ** 0.5)
    weight = weight.reshape(-1, edge, edge, width).transpose(0, 3, 2, 1).reshape(weight.shape)
    x = graph.gemm(graph.add("Flatten", x), weight, weights[f"dense{dense}.bias"])
    slopes = weights[f"prelu{dense}.weight"]
    assert (slopes <= 1).all()
    x = graph.add("Max", x, graph.add("Mul", x, slopes))
    heads = {"scores": _sure(weights, f"dense{dense + 1}_1")}
    for number, answer in enumerate(answers, 2):
        heads[answer] = weights[f"dense{dense + 1}_{number}.weight"], weights[f"dense{dense + 1}_{number}.bias"]
    if only:
        outputs = {answer: graph.gemm(x, *heads[answer]) for answer in only}
    else:
        x = graph.gemm(x, *(np.concatenate(parts) for parts in zip(*heads.values(), strict=True)))
        score, *others = graph.split(x, [1, *answers.values()])
        outputs = dict(zip(answers, others, strict=True)) | {"scores": graph.add("Sigmoid", score)}
    return graph.finish({"crops": (TensorProto.FLOAT, ["batch", 3, side, side])}, outputs)


def _sure(weights: dict[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Convert a layer of two logits to one whose sigmoid equals the second probability of the softmax."""
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    return weight[1:] - weight[:1], bias[1:] - bias[:1]


def _whole_blocks(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _pad(values: np.ndarray, length: int, axis: int = 0) -> np.ndarray:
    """Append zeros along an axis."""
    return np.pad(values, [(0, (length - values.shape[n]) * (n == axis)) for n in range(values.ndim)])


class _Graph:
    """Builder of a graph, node by node; values are referred to by name.

    Args:
        half: Store weights in float16.
    """

    def __init__(self, half: bool = False) -> None:
        self._half = half
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: Union[str, np.ndarray], **attributes: Any) -> str:
        (output,) = self._note(kind, inputs, 1, attributes)
        return output

    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Split along the channels."""
        return self._note("Split", (x, np.array(sizes)), len(sizes), {"axis": 1})

    def conv(self, x: str, weight: np.ndarray, *bias: np.ndarray, groups: int = 1) -> str:
        return self.add("Conv", x, weight, *bias, kernel_shape=weight.shape[2:], group=groups)

    def each(self, x: str, factors: np.ndarray) -> str:
        """Multiply each channel by a factor."""
        return self.conv(x, factors[:, None, None, None], groups=len(factors))

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def prelu(self, x: str, slopes: np.ndarray) -> str:
        negative = self.relu(self.each(x, np.full(len(slopes), -1.0)))
        return self.add("Add", self.each(negative, 1 - slopes), x)

    def max_pool(self, x: str, side: int) -> str:
        return self.add("MaxPool", x, kernel_shape=[side, side], strides=[2, 2], ceil_mode=1)

    def gemm(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        return self.add("Gemm", x, weight, bias, transB=1)

    def finish(
        self, inputs: dict[str, tuple[int, list]], outputs: dict[str, str], kind: int = TensorProto.FLOAT
    ) -> ModelProto:
        """Return the model, given the types and shapes of its inputs, and its output values by name."""
        self._nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        input_infos = [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()]
        output_infos = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "mtcnn", input_infos, output_infos, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
        return infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    def _note(
        self, kind: str, inputs: tuple[Union[str, np.ndarray], ...], count: int, attributes: dict[str, Any]
    ) -> list[str]:
        outputs = [f"{kind.lower()}_{len(self._nodes)}" + f"_{k}" * (count > 1) for k in range(count)]
        self._nodes.append(helper.make_node(kind, list(map(self._name, inputs)), outputs, **attributes))
        return outputs

    def _name(self, value: Union[str, np.ndarray]) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self._constants)}"
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        half = self._half and value.dtype == np.float32
        value = value.astype(np.float16) if half else value
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return self.add("Cast", name, to=TensorProto.FLOAT) if half else name


def make_files() -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the folder's files."""
    for name, write in GRAPHS.items():
        yield name, write().SerializeToString(deterministic=True)
    license_text = distribution("facenet-pytorch").read_text("LICENSE.md")
    assert license_text
    yield "LICENSE", license_text.encode()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, content in make_files():
        with replace_file(FOLDER / name) as path:
            Path(path).write_bytes(content)


if __name__ == "__main__":
    main()
