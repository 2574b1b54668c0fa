"""SSR-Net for answering alone: the same ages and stages from pixels, in fewer and larger steps.

Nothing is approximated. What the layout of the network lets one do beforehand, or once instead of several times, is:

- batch normalisation, and that of the pixels, are part of the convolution beside them;
- of four values the largest is taken before the activation instead of after it: ReLU and tanh rise steadily, so that
  ``max(act(x)) = act(max(x))``;
- the small layers that all stages have are one layer, block by block on its diagonal.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Optional, TypeGuard, TypeVar

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ExportError
from .dex import SoftmaxStage, SSRNetDEX
from .ssrnet import ConvNormAct, Fusion, Residual, SSRNet, StageHead, StageOutput, StagewiseOutput

__all__ = ["ANSWER", "FusedSSRNet", "fuse", "has_fused_form", "split_answer"]

Answer = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

ANSWER = ("age", "p", "eta", "delta", "width", "contribution")
"""What `FusedSSRNet` answers, in its order."""


def has_fused_form(model: nn.Module) -> TypeGuard[SSRNet]:
    """Whether a model is one of the two-stream networks itself, with one output and in eval mode."""
    if not isinstance(model, SSRNet) or type(model) not in (SSRNet, SSRNetDEX):
        return False
    return model.num_classes == 1 and not model.training


class FusedSSRNet(nn.Module):
    """The fused form of a model with one output; it has a copy of its weights.

    Args:
        model: An `SSRNet` of whatever stages, or `SSRNetDEX`, with ``num_classes=1``.
        mean: Of the normalisation of pixels from 0 to 1, a number a channel.
        std: As many.
    """

    bins: Tensor
    reach: Tensor
    index: Tensor

    def __init__(self, model: SSRNet, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.stage_bins, self.V = model.stage_bins, model.V
        self.in_chans, self.img_size = model.in_chans, model.img_size
        self.lambda_local = model.lambda_local
        like = next(model.parameters())
        self.stream_dtype = self.dtype = like.dtype
        self.levels1 = nn.ModuleList(map(_fuse_level, model.stream1))
        self.levels2 = nn.ModuleList(map(_fuse_level, model.stream2))
        for levels in (self.levels1, self.levels2):
            _absorb_normalisation(levels.get_submodule("0.0"), like.new_tensor(mean), like.new_tensor(std))
        # by stages, coarse to fine, which read the taps deep to shallow or the other way round
        self.taps = ([2, 1, 0] if model.deep_first else [0, 1, 2])[: len(model.fusions)]
        fusions, heads = _of_kind(Fusion, model.fusions), _of_kind(StageHead, model.stages)
        self.fusions1 = nn.ModuleList(_fuse_tap(fusion.conv1, fusion.pool1) for fusion in fusions)
        self.fusions2 = nn.ModuleList(_fuse_tap(fusion.conv2, fusion.pool2) for fusion in fusions)
        if heads:
            self.head: nn.Module = _StageHeads(heads)
        else:
            (stage,) = _of_kind(SoftmaxStage, model.stages)
            self.head = _SoftmaxHead(stage.fc, self._count_features(model))
        self.register_buffer("bins", like.new_tensor(self.stage_bins))
        self.register_buffer("reach", self.bins * model.lambda_d)
        self.register_buffer("index", like.new_tensor([i for s in self.stage_bins for i in range(s)]))
        self.sums = _linear(torch.block_diag(*(like.new_ones(1, s) for s in self.stage_bins)))
        self.eval().requires_grad_(False)

    def half_streams(self) -> "FusedSSRNet":
        """Bring the convolutions to float16, in place; the stages stay as they are: a year is little of their range."""
        for part in (self.levels1, self.levels2, self.fusions1, self.fusions2):
            part.half()
        self.stream_dtype = torch.float16
        return self

    def _count_features(self, model: SSRNet) -> list[int]:
        """Features of each stream that each fusion hands to the stages."""
        like = next(model.parameters())
        with torch.no_grad():
            taps1, _ = model.forward_taps(like.new_zeros(1, model.in_chans, *model.img_size))
            return [fusion(taps1[tap]).shape[1] for fusion, tap in zip(self.fusions1, self.taps, strict=True)]

    def forward(self, pixels: Tensor) -> Answer:
        """Ages and stages of faces.

        Args:
            pixels: As pictures have them, 0 to 255, ``(B, H, W, in_chans)``, uint8.

        Returns:
            Age ``(B, 1)``; p and eta ``(B, S)``, the S bins of all stages side by side, coarse to fine; delta, width
            and contribution ``(B, K)``. `split_answer` takes them apart.
        """
        x1 = x2 = pixels.permute(0, 3, 1, 2).to(self.stream_dtype)
        taps1, taps2 = [], []
        for level1, level2 in zip(self.levels1, self.levels2, strict=True):
            x1, x2 = level1(x1), level2(x2)
            taps1.append(x1)
            taps2.append(x2)
        x1 = torch.cat([fusion(taps1[tap]) for fusion, tap in zip(self.fusions1, self.taps, strict=True)], 1)
        x2 = torch.cat([fusion(taps2[tap]) for fusion, tap in zip(self.fusions2, self.taps, strict=True)], 1)
        x1, x2 = x1.to(self.dtype), x2.to(self.dtype)
        p, eta, delta = self.head(x1, x2)
        if eta is None or delta is None:
            eta = p * 0
            delta = self.sums(eta)
        # equations 3 to 7 of the paper, as regress_stages has them
        counts = (delta * self.reach + self.bins).chunk(len(self.stage_bins), 1)
        widths = [self.V / counts[0]]
        for k in range(1, len(self.stage_bins)):
            widths.append(widths[-1] / counts[k])
        width = torch.cat(widths, 1)
        shift = eta if self.lambda_local == 1 else eta * self.lambda_local
        contribution = self.sums(p * (shift + self.index)) * width
        return contribution.sum(1, keepdim=True), p, eta, delta, width, contribution


def fuse(model: nn.Module) -> FusedSSRNet:
    """The fused form of a model that timm or `from_pretrained` made, for pixels as its config wants them normalised.

    Raises:
        ExportError: It has none: only two-stream models with one output have, in eval mode.
    """
    if not has_fused_form(model):
        raise ExportError(
            f"This {type(model).__name__} has no fused form: only two-stream models with one output have, in eval mode."
        )
    data = timm.data.resolve_input_data_config(model)
    return FusedSSRNet(model, data["mean"], data["std"])


def split_answer(answer: Sequence[Tensor], stage_bins: Sequence[int]) -> StagewiseOutput:
    """What `FusedSSRNet` answers, as `SSRNet.forward_stages` has it; arrays of NumPy, which are faster to cut, become
    tensors.
    """
    age, p, eta, delta, width, contribution = answer
    as_tensor = (lambda value: value) if isinstance(age, Tensor) else torch.from_numpy
    stages, start = [], 0
    for k, s in enumerate(stage_bins):
        bins, stage = slice(start, start + s), slice(k, k + 1)
        parts = p[:, bins], eta[:, bins], delta[:, stage], width[:, stage], contribution[:, stage]
        stages.append(StageOutput(*map(as_tensor, parts)))
        start += s
    return StagewiseOutput(as_tensor(age), stages)


_ModuleT = TypeVar("_ModuleT", bound=nn.Module)


def _of_kind(kind: type[_ModuleT], modules: Iterable[Optional[nn.Module]]) -> list[_ModuleT]:
    """The modules of a class."""
    return [module for module in modules if isinstance(module, kind)]


class _StageHeads(nn.Module):
    """The prediction blocks of all stages as one; eta and delta are None where the bins stand still."""

    def __init__(self, heads: list[StageHead]):
        super().__init__()
        self.fc1 = _block_diagonal([head.fc1 for head in heads])
        self.fc2 = _block_diagonal([head.fc2 for head in heads])
        fcs = _of_kind(nn.Linear, [head.fc for head in heads])
        self.fc = _block_diagonal(fcs) if fcs else None
        self.p = _block_diagonal([head.p for head in heads])
        etas = _of_kind(nn.Linear, [head.eta for head in heads])
        self.eta = _block_diagonal(etas) if etas else None
        deltas = _of_kind(nn.Linear, [head.delta for head in heads])
        self.delta = _block_diagonal(deltas) if deltas else None

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        h = self.fc1(x1).relu() * self.fc2(x2).relu()
        if self.fc is not None:
            h = self.fc(h).relu()
        p = self.p(h).relu()
        if self.eta is None or self.delta is None:
            return p, None, None
        return p, self.eta(h).tanh(), self.delta(x1 * x2).tanh()


class _SoftmaxHead(nn.Module):
    """The single stage of DEX, whose bins stand still.

    Args:
        fc: Its layer, which reads what the two streams have of one tap after the other.
        sizes: How many features that is of each stream, a number a tap.
    """

    def __init__(self, fc: nn.Linear, sizes: list[int]):
        super().__init__()
        columns = fc.weight.split([size for size in sizes for _ in range(2)], 1)
        self.fc = _linear(torch.cat([*columns[::2], *columns[1::2]], 1), fc.bias)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        return self.fc(torch.cat([x1, x2], 1)).softmax(1), None, None


class _FusedResidual(nn.Module):
    """A residual block whose convolution has taken up the normalisation."""

    def __init__(self, conv: nn.Conv2d, act: nn.Module):
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.conv(x))


def _fuse_level(level: nn.Module) -> nn.Sequential:
    """A level of a stream: its convolutions with their normalisation, and what follows each."""
    layers: list[nn.Module] = []
    for module in level.children():
        if isinstance(module, ConvNormAct):
            layers += [fuse_conv_bn_eval(module.conv, module.bn), module.act]
        elif isinstance(module, Residual):
            layers.append(_FusedResidual(fuse_conv_bn_eval(module.conv, module.bn), module.act))
        elif isinstance(module, nn.MaxPool2d) and layers and isinstance(layers[-1], (nn.ReLU, nn.Tanh)):
            layers.insert(-1, module)
        else:
            layers.append(module)
    return nn.Sequential(*layers)


def _fuse_tap(conv: nn.Conv2d, pool: nn.Module) -> nn.Sequential:
    """What a stage does to a tap, ReLU included, down to a flat vector."""
    of_maxima = isinstance(pool, (nn.MaxPool2d, nn.AdaptiveMaxPool2d))
    conv = copy.deepcopy(conv)
    return nn.Sequential(conv, *([pool, nn.ReLU()] if of_maxima else [nn.ReLU(), pool]), nn.Flatten())


def _absorb_normalisation(conv: nn.Module, mean: Tensor, std: Tensor) -> None:
    """Let a convolution answer for pixels from 0 to 255 what it does for normalised ones, in place.

    It has no padding, whose zeros would mean another colour.
    """
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None  # every stream begins with such a one
    scaled = conv.weight / std[:, None, None]
    conv.bias.data = conv.bias - (scaled * mean[:, None, None]).sum((1, 2, 3))
    conv.weight.data = scaled / 255


def _block_diagonal(layers: list[nn.Linear]) -> nn.Linear:
    """One layer that does to the parts of its input, side by side, what these do each to its own."""
    weight = torch.block_diag(*(layer.weight for layer in layers))
    return _linear(weight, torch.cat([layer.bias for layer in layers]))


def _linear(weight: Tensor, bias: Optional[Tensor] = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device=weight.device, dtype=weight.dtype)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer
