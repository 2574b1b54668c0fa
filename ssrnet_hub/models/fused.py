"""Folded two-stream networks in PyTorch; see `folding`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ExportError
from . import folding
from .dex import SSRNetDEX
from .folding import OUTPUT_NAMES, fold
from .layers import StageOutput, StagewiseOutput
from .preprocessing import input_config_of
from .ssrnet import SSRNet

__all__ = ["OUTPUT_NAMES", "FusedSSRNet", "fuse", "has_fused_form", "split_outputs"]

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

_ARGUMENTS = ["stage_bins", "V", "lambda_local", "lambda_d", "dynamic_range", "deep_first", "layout"]
_ARGUMENTS += ["pool_sizes", "hidden", "norm_eps", "in_chans", "img_size", "joint_taps"]
"""Constructor arguments that `fold` reads."""


def has_fused_form(model: nn.Module) -> TypeGuard[SSRNet]:
    """Whether a model is a two-stream network, not a subclass, with one output and in eval mode."""
    if not isinstance(model, SSRNet) or type(model) not in (SSRNet, SSRNetDEX):
        return False
    return model.num_classes == 1 and not model.training


class FusedSSRNet(nn.Module):
    """Folded form of a model with one output; the weights are copied.

    Args:
        model: An `SSRNet` with any stages, or an `SSRNetDEX`, with ``num_classes=1``.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.

    Attributes:
        graph: The graph that is run.
    """

    def __init__(self, model: SSRNet, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        like = next(model.parameters())
        # NumPy has no bfloat16
        exact = torch.float64 if like.dtype == torch.float64 else torch.float32
        tensors = {
            name: value.detach().to("cpu", exact).numpy()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }
        self._set(fold({name: getattr(model, name) for name in _ARGUMENTS}, tensors, mean, std))
        self.to(like.device, like.dtype)
        self.stream_dtype = self.dtype = like.dtype
        self.eval()

    def _set(self, graph: folding.Graph) -> None:
        self.graph = graph
        self.stage_bins, self.in_chans, self.img_size = graph.stage_bins, graph.in_chans, graph.img_size
        for name, value in graph.constants.items():
            self.register_buffer(name, torch.tensor(value, device="cpu"))
        # each value is released after the last step that reads it
        last = {name: number for number, step in enumerate(graph.steps) for name in step.inputs}
        self._done = [[name for name in step.inputs if last[name] == k] for k, step in enumerate(graph.steps)]

    def half_streams(self) -> "FusedSSRNet":
        """Convert the convolutions to float16, in place.

        The stages keep their precision, since a year is a small part of their range.
        """
        self.graph = self.graph.half_streams()
        for name, value in self.graph.constants.items():
            if value.dtype == np.float16:
                setattr(self, name, self.get_buffer(name).half())
        self.stream_dtype = torch.float16
        return self

    def forward(self, pixels: Tensor) -> Outputs:
        """Predict ages, with the outputs of all stages.

        Args:
            pixels: Faces, 0 to 255, ``(B, H, W, in_chans)``, uint8.

        Returns:
            The outputs that `OUTPUT_NAMES` names.
        """
        values = {"pixels": pixels, **{name: getattr(self, name) for name in self.graph.constants}}
        for step, done in zip(self.graph.steps, self._done, strict=True):
            inputs = [values[name] for name in step.inputs]
            if step.operator == "Cast":
                output: Any = inputs[0].to(self.stream_dtype if step.attributes["to"] == "streams" else self.dtype)
            else:
                output = _OPERATORS[step.operator](*inputs, **step.attributes)
            values.update(zip(step.outputs, output if len(step.outputs) > 1 else [output], strict=True))
            for name in done:
                values.pop(name, None)
        age, p, eta, delta, width, contribution = (values[name] for name in OUTPUT_NAMES)
        return age, p, eta, delta, width, contribution


def fuse(model: nn.Module) -> FusedSSRNet:
    """Fold a model created by timm or `from_pretrained`, including the normalization in its config.

    Raises:
        ExportError: The model is not a two-stream model with one output, in eval mode.
    """
    if not has_fused_form(model):
        raise ExportError(
            f"This {type(model).__name__} has no fused form: pass a two-stream model with one output, in eval mode."
        )
    data = input_config_of(model)
    return FusedSSRNet(model, data.mean, data.std)


def split_outputs(outputs: Sequence[Any], stage_bins: Sequence[int]) -> StagewiseOutput:
    """Split the outputs of `FusedSSRNet` as in `SSRNet.forward_stages`.

    NumPy arrays, which are faster to slice, are converted to tensors.
    """
    as_tensor = (lambda value: value) if isinstance(outputs[0], Tensor) else torch.from_numpy
    age, stages = folding.split_outputs(outputs, stage_bins)
    return StagewiseOutput(as_tensor(age), [StageOutput(*map(as_tensor, stage)) for stage in stages])


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor, kernel_shape: list[int], pads: list[int], strides: list[int]
) -> Tensor:
    return F.conv2d(x, weight, bias, strides, pads[:2])


def _gemm(x: Tensor, weight: Tensor, *bias: Tensor, transB: int) -> Tensor:
    return F.linear(x, weight, *bias)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "AveragePool": lambda x, kernel_shape, strides: F.avg_pool2d(x, kernel_shape, strides),
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _conv,
    "Div": torch.div,
    "Flatten": lambda x: x.flatten(1),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "GlobalMaxPool": lambda x: F.adaptive_max_pool2d(x, 1),
    "Identity": lambda x: x,
    "MaxPool": lambda x, kernel_shape, strides: F.max_pool2d(x, kernel_shape, strides),
    "Mul": torch.mul,
    "Relu": torch.relu,
    "Softmax": lambda x, axis: x.softmax(axis),
    "Split": lambda x, axis: x.split(1, axis),
    "Tanh": torch.tanh,
    "Transpose": lambda x, perm: x.permute(perm),
}
"""The operators of `folding` in PyTorch."""
