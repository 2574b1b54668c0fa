"""Networks of simple layers, such as `FusedSSRNet`, as ONNX graphs.

A graph is written in milliseconds with the package onnx alone. PyTorch's own exporter takes seconds, and an estimator
writes its graph each time it is made.
"""

import json
import operator
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes
from torch import Tensor, fx, nn

from ..models.fused import ANSWER, FusedSSRNet

__all__ = ["OPSET", "to_onnx", "write_graph"]

OPSET = 17
"""Version of ONNX's operators; of 2022, so that whatever reads ONNX today reads it."""


def to_onnx(network: FusedSSRNet, metadata: Optional[dict[str, Any]] = None) -> ModelProto:
    """A network as ONNX: input ``pixels`` ``(batch, H, W, channels)`` uint8, outputs as `FusedSSRNet.forward` answers.

    Args:
        network: In float32, or with its streams in float16 (`FusedSSRNet.half_streams`).
        metadata: What the file says of itself, JSON values by their names.
    """
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", *network.img_size, network.in_chans])
    model = write_graph(network, [pixels], ANSWER)
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    helper.set_model_props(model, said)
    return model


def write_graph(network: nn.Module, inputs: Sequence[ValueInfoProto], outputs: Sequence[str]) -> ModelProto:
    """Write a network as ONNX.

    Args:
        network: In eval mode, answering in float32, and made of the layers and functions that are known here.
        inputs: Name, type and shape of what it takes; a name in place of a size leaves that open.
        outputs: Names of the tensors that it answers.

    Raises:
        NotImplementedError: It is made of others.
    """
    writer = _Writer(fx.symbolic_trace(network))
    answers = writer.run(*(value.name for value in inputs))
    for answer, name in zip(answers, outputs, strict=True):
        writer.nodes.append(helper.make_node("Identity", [answer], [name]))
    told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(writer.nodes, type(network).__name__, inputs, told, writer.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    return infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


class _Writer(fx.Interpreter):
    """Runs through a network with names of values in place of tensors, and notes a node for each step."""

    def __init__(self, network: fx.GraphModule):
        super().__init__(network)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: Any, count: int = 1, **attributes: Any) -> Any:
        """Note a node; the name of what it answers, or several."""
        outputs = [f"{kind.lower()}_{len(self.nodes)}" + f"_{k}" * (count > 1) for k in range(count)]
        self.nodes.append(helper.make_node(kind, [self.operand(value) for value in inputs], outputs, **attributes))
        return outputs if count > 1 else outputs[0]

    def operand(self, value: Union[str, float, Tensor, list[int]]) -> str:
        """The name of a value; numbers and tensors become constants."""
        if isinstance(value, str):
            return value
        dtype = torch.float32 if isinstance(value, (int, float)) else None
        tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype, device="cpu")
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(tensor.detach().cpu().contiguous().numpy(), name))
        return name

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> str:
        return self.operand(self.fetch_attr(target))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        return _step(_LAYERS, type(module))(self, module, *args)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _step(_FUNCTIONS, target)(self, *args, **kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _step(_FUNCTIONS, target)(self, *args, **kwargs)


Step = Callable[..., Any]


def _step(steps: dict[Any, Step], what: Any) -> Step:
    if what not in steps:
        raise NotImplementedError(f"{what} has no counterpart in ONNX here")
    return steps[what]


def _assert_plain(layer: nn.Module, **settings: Any) -> None:
    unlike = {key: getattr(layer, key) for key, value in settings.items() if getattr(layer, key, value) != value}
    if unlike:
        raise NotImplementedError(f"{type(layer).__name__} with {unlike} has no counterpart in ONNX here")


def _pair(value: Union[int, tuple[int, int]]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _conv(writer: _Writer, layer: nn.Conv2d, x: str) -> str:
    _assert_plain(layer, padding_mode="zeros")
    return writer.add(
        "Conv",
        x,
        layer.weight,
        layer.bias,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=layer.padding * 2,
        group=layer.groups,
        dilations=layer.dilation,
    )


def _pool(kind: str) -> Step:
    def step(writer: _Writer, layer: Union[nn.AvgPool2d, nn.MaxPool2d], x: str) -> str:
        _assert_plain(layer, padding=0, ceil_mode=False, dilation=1)
        return writer.add(kind, x, kernel_shape=_pair(layer.kernel_size), strides=_pair(layer.stride))

    return step


def _linear(writer: _Writer, layer: nn.Linear, x: str) -> str:
    bias = [] if layer.bias is None else [layer.bias]
    return writer.add("Gemm", x, layer.weight, *bias, transB=1)


def _of_one(kind: str) -> Step:
    return lambda writer, x: writer.add(kind, x)


def _of_two(kind: str) -> Step:
    return lambda writer, x, y: writer.add(kind, x, y)


def _layer(kind: str) -> Step:
    return lambda writer, layer, x: writer.add(kind, x)


_TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}

_LAYERS: dict[Any, Step] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.AvgPool2d: _pool("AveragePool"),
    nn.MaxPool2d: _pool("MaxPool"),
    nn.AdaptiveAvgPool2d: _layer("GlobalAveragePool"),
    nn.AdaptiveMaxPool2d: _layer("GlobalMaxPool"),
    nn.ReLU: _layer("Relu"),
    nn.Tanh: _layer("Tanh"),
    nn.Flatten: _layer("Flatten"),
    nn.Identity: lambda writer, layer, x: x,
}

_FUNCTIONS: dict[Any, Step] = {
    operator.add: _of_two("Add"),
    operator.mul: _of_two("Mul"),
    operator.truediv: _of_two("Div"),
    operator.getitem: lambda writer, values, k: values[k],
    torch.cat: lambda writer, values, dim: writer.add("Concat", *values, axis=dim) if len(values) > 1 else values[0],
    "relu": _of_one("Relu"),
    "tanh": _of_one("Tanh"),
    "softmax": lambda writer, x, dim: writer.add("Softmax", x, axis=dim),
    "permute": lambda writer, x, *dims: writer.add("Transpose", x, perm=dims),
    "to": lambda writer, x, dtype: writer.add("Cast", x, to=_TYPES[dtype]),
    "chunk": lambda writer, x, count, dim: writer.add("Split", x, count=count, axis=dim) if count > 1 else [x],
    "sum": lambda writer, x, dim, keepdim: writer.add("ReduceSum", x, [dim], keepdims=int(keepdim)),
}
