"""The folded form of the two-stream networks in PyTorch; see `folding`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ExportError
from . import folding
from .dex import SSRNetDEX
from .folding import ANSWER, fold
from .layers import StageOutput, StagewiseOutput
from .preprocessing import input_config_of
from .ssrnet import SSRNet

__all__ = ["ANSWER", "FusedSSRNet", "fuse", "has_fused_form", "split_answer"]

Answer = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

_ARGUMENTS = ["stage_bins", "V", "lambda_local", "lambda_d", "dynamic_range", "deep_first", "layout"]
_ARGUMENTS += ["pool_sizes", "hidden", "norm_eps", "in_chans", "img_size", "joint_taps"]
"""Arguments of a model that `fold` reads."""


def has_fused_form(model: nn.Module) -> TypeGuard[SSRNet]:
    """Whether a model is one of the two-stream networks itself, with one output and in eval mode."""
    if not isinstance(model, SSRNet) or type(model) not in (SSRNet, SSRNetDEX):
        return False
    return model.num_classes == 1 and not model.training


class FusedSSRNet(nn.Module):
    """The folded form of a model with one output; it has a copy of its weights.

    Args:
        model: An `SSRNet` of whatever stages, or `SSRNetDEX`, with ``num_classes=1``.
        mean: Of the normalization of pixels from 0 to 1, a number a channel.
        std: As many.

    Attributes:
        graph: What it runs.
    """

    def __init__(self, model: SSRNet, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        like = next(model.parameters())
        # NumPy knows no bfloat16
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
        # each value is let go once no step reads it any more
        last = {name: number for number, step in enumerate(graph.steps) for name in step.inputs}
        self._done = [[name for name in step.inputs if last[name] == k] for k, step in enumerate(graph.steps)]

    def half_streams(self) -> "FusedSSRNet":
        """Bring the convolutions to float16, in place; the stages stay as they are: a year is little of their range."""
        self.graph = self.graph.half_streams()
        for name, value in self.graph.constants.items():
            if value.dtype == np.float16:
                setattr(self, name, self.get_buffer(name).half())
        self.stream_dtype = torch.float16
        return self

    def forward(self, pixels: Tensor) -> Answer:
        """Ages and stages of faces.

        Args:
            pixels: As pictures have them, 0 to 255, ``(B, H, W, in_chans)``, uint8.

        Returns:
            What `ANSWER` names.
        """
        values = {"pixels": pixels, **{name: getattr(self, name) for name in self.graph.constants}}
        for step, done in zip(self.graph.steps, self._done, strict=True):
            inputs = [values[name] for name in step.inputs]
            if step.operator == "Cast":
                answer: Any = inputs[0].to(self.stream_dtype if step.attributes["to"] == "streams" else self.dtype)
            else:
                answer = _OPERATORS[step.operator](*inputs, **step.attributes)
            values.update(zip(step.outputs, answer if len(step.outputs) > 1 else [answer], strict=True))
            for name in done:
                values.pop(name, None)
        age, p, eta, delta, width, contribution = (values[name] for name in ANSWER)
        return age, p, eta, delta, width, contribution


def fuse(model: nn.Module) -> FusedSSRNet:
    """The folded form of a model that timm or `from_pretrained` made, for pixels as its config wants them normalized.

    Raises:
        ExportError: It has none: only two-stream models with one output have, in eval mode.
    """
    if not has_fused_form(model):
        raise ExportError(
            f"This {type(model).__name__} has no fused form: only two-stream models with one output have, in eval mode."
        )
    data = input_config_of(model)
    return FusedSSRNet(model, data.mean, data.std)


def split_answer(answer: Sequence[Any], stage_bins: Sequence[int]) -> StagewiseOutput:
    """What `FusedSSRNet` answers, as `SSRNet.forward_stages` has it; arrays of NumPy, which are faster to cut, become
    tensors.
    """
    as_tensor = (lambda value: value) if isinstance(answer[0], Tensor) else torch.from_numpy
    age, stages = folding.split_answer(answer, stage_bins)
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
"""The steps of `folding` in PyTorch."""
