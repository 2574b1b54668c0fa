"""Runtimes of a model: PyTorch, its fused form, or ONNX Runtime, with the same ages."""

import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import RuntimeUnavailableError
from ..hub.loading import unwrap
from ..models.fused import OUTPUT_NAMES, FusedSSRNet, Outputs, fuse, has_fused_form, split_outputs
from ..models.layers import StagewiseOutput
from ..models.preparation import Preparation
from ..models.preprocessing import Normalize, input_config_of
from ..utils.defaults import RUNTIMES
from ..utils.inference_mode import inference

__all__ = ["RUNTIMES", "Pixels", "Runtime", "make_runtime"]

Runtime = Callable[[Tensor], StagewiseOutput]
"""Maps pixels ``(B, H, W, in_chans)``, uint8 on the CPU, to the output of `SSRNet.forward_stages`."""

_CHUNK = 16
"""Faces at a time in PyTorch on a CPU: more of them push each other's features out of its caches."""


class Pixels:
    """Make the function that resizes and crops pictures by the model's config to the input of a `Runtime`.

    Args:
        model: A model from timm or `from_pretrained`.
    """

    def __init__(self, model: nn.Module):
        self._prepare = Preparation(input_config_of(model))

    def __call__(self, pictures: Iterable[Image.Image]) -> Tensor:
        """Pixels ``(B, H, W, in_chans)``, uint8."""
        return torch.from_numpy(self._prepare(pictures))


def make_runtime(model: nn.Module, kind: str = "auto") -> Runtime:
    """Make a runtime for a model. It can be copied and pickled.

    Args:
        model: A model from timm or `from_pretrained` with ``forward_stages`` and one output, in eval mode. Except for
            ``"eager"``, its weights are copied, and later changes have no effect.
        kind: ``"eager"``, the unmodified model, compiled or not; ``"torch"``, its fused form; ``"onnx"``, the same in
            ONNX Runtime, on the CPU in float32; ``"auto"``, the fastest that is available.

    Raises:
        RuntimeUnavailableError: The runtime is not available for this model or on this machine.
    """
    if kind not in RUNTIMES:
        raise RuntimeUnavailableError(f"The runtime must be one of {', '.join(RUNTIMES)}, not {kind!r}.")
    given, model = model, unwrap(model)
    like = next(model.parameters())
    portable = like.device.type == "cpu" and like.dtype == torch.float32
    # in less than float32 the fused form rounds otherwise than the model
    exact = has_fused_form(model) and like.dtype in (torch.float32, torch.float64)
    if kind == "auto":
        kind = "eager" if not exact else "onnx" if portable else "torch"
    if kind == "eager":
        return _Eager(given)
    if not has_fused_form(model):
        raise RuntimeUnavailableError(f"A {type(model).__name__} has no fused form: use runtime='eager'.")
    if kind == "torch":
        return _Torch(fuse(model))
    if not portable:
        raise RuntimeUnavailableError(
            f"runtime='onnx' supports float32 on the CPU only, not {like.dtype} on {like.device}."
        )
    return _Onnx(fuse(model))


class _Eager:
    """The unmodified model, compiled or not."""

    def __init__(self, model: Any):  # of any architecture with forward_stages
        self._given, self._model = model, unwrap(model)
        self._forward_stages: Callable[[Tensor], StagewiseOutput] = self._model.forward_stages
        if self._given is not self._model:
            # torch.compile wraps forward, which returns only the age
            self._forward_stages = self._given.dynamo_ctx(self._forward_stages)
        self._normalize = Normalize(self._model)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Eager, (self._given,)

    @inference()
    def __call__(self, pixels: Tensor) -> StagewiseOutput:
        like = next(self._model.parameters())
        x = self._normalize(pixels.permute(0, 3, 1, 2).contiguous())
        return self._forward_stages(x.to(like.device, like.dtype))


class _Torch:
    """The fused form in PyTorch; on a CPU traced and frozen, and for a few faces at a time."""

    def __init__(self, fused: FusedSSRNet):
        self._stage_bins, self._device = fused.stage_bins, next(fused.buffers()).device
        self._fused = fused = fused.to(memory_format=torch.channels_last)
        on_cpu = self._device.type == "cpu"
        self._network: Callable[[Tensor], Outputs] = _freeze(fused) if on_cpu else fused
        self._chunk = _CHUNK if on_cpu else sys.maxsize

    def __reduce__(self) -> tuple[Any, ...]:
        return _Torch, (self._fused,)

    @inference()
    def __call__(self, pixels: Tensor) -> StagewiseOutput:
        chunks = pixels.split(min(self._chunk, len(pixels)))
        parts = [self._network(chunk.to(self._device)) for chunk in chunks]
        outputs = parts[0] if len(parts) == 1 else [torch.cat(values) for values in zip(*parts, strict=True)]
        return split_outputs(outputs, self._stage_bins)


def _freeze(fused: FusedSSRNet) -> Callable[[Tensor], Outputs]:
    example = torch.zeros(2, *fused.img_size, fused.in_chans, dtype=torch.uint8, device="cpu")
    try:
        with warnings.catch_warnings(), inference():
            # TorchScript is deprecated, but its successors need a compiler
            warnings.simplefilter("ignore")
            frozen = torch.jit.freeze(torch.jit.trace(fused, example, check_trace=False))
            frozen(example)
    except Exception:  # whatever a PyTorch or a Python without TorchScript raises
        return fused
    return frozen


class _Onnx:
    """The fused form in ONNX Runtime."""

    def __init__(self, fused: FusedSSRNet):
        from .onnx_graph import to_onnx
        from .onnx_session import Session

        self._stage_bins, self._session = fused.stage_bins, Session(to_onnx(fused.graph))

    def __call__(self, pixels: Tensor) -> StagewiseOutput:
        return split_outputs(self._session.run(OUTPUT_NAMES, {"pixels": pixels.numpy()}), self._stage_bins)
