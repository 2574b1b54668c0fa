"""Layers of SSR-Net: streams, the fusion of their taps, prediction stages, and soft stagewise regression."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

__all__ = [
    "ConvNormAct",
    "Fusion",
    "Residual",
    "StageHead",
    "StageOutput",
    "StagewiseOutput",
    "make_stream",
    "regress_stages",
    "sum_contributions",
    "tap_sizes",
]


class StageOutput(NamedTuple):
    """Output of one stage for a batch of B faces.

    With ``num_classes=n`` > 1 the shapes are ``(B, n, s_k)`` and ``(B, n)``.

    Attributes:
        p: Weight of each bin, ``(B, s_k)``, >= 0; need not sum to 1.
        eta: Shift of each bin's index, ``(B, s_k)``, in (-1, 1).
        delta: Relative change of the number of bins, ``(B, 1)``, in (-1, 1).
        width: Width of a bin, ``(B, 1)``, years.
        contribution: Contribution of the stage to the age, ``(B, 1)``, years.
    """

    p: Tensor
    eta: Tensor
    delta: Tensor
    width: Tensor
    contribution: Tensor


class StagewiseOutput(NamedTuple):
    """An age and the stages that led to it.

    Attributes:
        age: Sum of the stages' contributions, ``(B, num_classes)``, years, not clamped.
        stages: A `StageOutput` per stage, coarse to fine.
    """

    age: Tensor
    stages: list[StageOutput]


def regress_stages(
    p: list[Tensor],
    eta: list[Tensor],
    delta: list[Tensor],
    index: list[Tensor],
    V: float,
    lambda_local: float,
    lambda_d: float,
) -> list[StageOutput]:
    """Apply soft stagewise regression (equations 3 to 7 of the paper); all lists are coarse to fine.

        i_bar = i + lambda_local * eta_i        s_bar_k = s_k * (1 + lambda_d * delta_k)
        width_k = V / prod_{j<=k} s_bar_j       contribution_k = sum_i p_i * i_bar * width_k

    As a delta approaches -1, the widths of its stage and of all later ones grow without bound, and so does the age.

    Args:
        p: Bin weights, ``(B, n, s_k)``.
        eta: Index shifts, ``(B, n, s_k)``.
        delta: Bin count changes, ``(B, n)``.
        index: Bin indices 0 .. s_k - 1, ``(s_k,)``.
        V: Range of the output, years.
        lambda_local: Scale of the index shift.
        lambda_d: Scale of the bin count change.
    """
    outputs: list[StageOutput] = []
    width = torch.full_like(delta[0], V)
    for k in range(len(p)):
        width = width / (index[k].shape[0] * (1 + lambda_d * delta[k]))
        # the two views first: tracers take the last operation of the last stage for the output
        p_k, eta_k = p[k].squeeze(1), eta[k].squeeze(1)
        contribution = (p[k] * (index[k] + lambda_local * eta[k])).sum(-1) * width
        outputs.append(StageOutput(p_k, eta_k, delta[k], width, contribution))
    return outputs


class ConvNormAct(nn.Sequential):
    """Unpadded 3x3 convolution, batch normalization, activation."""

    def __init__(
        self, in_chs: int, out_chs: int, act_layer: type[nn.Module], norm_eps: float, stride: int = 1, **dd: Any
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_chs, out_chs, 3, stride, **dd)
        # a momentum of 0.99 in Keras, as in the training of the released weights
        self.bn = nn.BatchNorm2d(out_chs, eps=norm_eps, momentum=0.01, **dd)
        self.act = act_layer()


class Residual(nn.Module):
    """Residual block that preserves the size of its input."""

    def __init__(self, chs: int, act_layer: type[nn.Module], norm_eps: float, **dd: Any):
        super().__init__()
        self.conv = nn.Conv2d(chs, chs, 3, padding=1, **dd)
        self.bn = nn.BatchNorm2d(chs, eps=norm_eps, momentum=0.01, **dd)
        self.act = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.bn(self.conv(x)))


def make_stream(
    layout: tuple[str, ...],
    in_chs: int,
    chs: Iterable[int],
    act_layer: type[nn.Module],
    pool_layer: type[nn.Module],
    norm_eps: float,
    **dd: Any,
) -> nn.Sequential:
    """Create a stream of three levels; the output of each level is a tap."""
    chs = iter(chs)
    levels: list[nn.Module] = []
    for kinds in layout:
        layers: list[nn.Module] = []
        for kind in kinds:
            if kind in "CS":
                out_chs = next(chs)
                layers.append(ConvNormAct(in_chs, out_chs, act_layer, norm_eps, 2 if kind == "S" else 1, **dd))
                in_chs = out_chs
            elif kind == "R":
                layers.append(Residual(in_chs, act_layer, norm_eps, **dd))
            else:
                layers.append(pool_layer(2))
        levels.append(nn.Sequential(*layers))
    return nn.Sequential(*levels)


def tap_sizes(layout: tuple[str, ...], size: int) -> list[int]:
    """Compute the sides of the taps, in cells, for ``size`` input pixels: 64 -> [31, 14, 4] in the authors' layout."""
    sizes = []
    for kinds in layout:
        for kind in kinds:
            size = {"C": size - 2, "S": (size - 1) // 2, "P": size // 2, "R": size}[kind]
        sizes.append(size)
    return sizes


class Fusion(nn.Module):
    """Fuse the taps of both streams at one depth into a flat vector (the paper's fusion block, up to its product).

    Args:
        chs: Channels of the tap in stream 1 and in stream 2.
        out_chs: Channels of each tap after its 1x1 convolution.
        pool_size: Window of the pooling that follows, average for stream 1 and max for stream 2. None pools the whole
            tap the other way around: max for stream 1 and average for stream 2.
    """

    def __init__(self, chs: tuple[int, int], out_chs: int, pool_size: Optional[int], **dd: Any):
        super().__init__()
        self.conv1 = nn.Conv2d(chs[0], out_chs, 1, **dd)
        self.conv2 = nn.Conv2d(chs[1], out_chs, 1, **dd)
        pools: tuple[nn.Module, nn.Module] = (nn.Identity(), nn.Identity())
        if pool_size is None:
            pools = (nn.AdaptiveMaxPool2d(1), nn.AdaptiveAvgPool2d(1))
        elif pool_size > 1:
            pools = (nn.AvgPool2d(pool_size), nn.MaxPool2d(pool_size))
        self.pool1, self.pool2 = pools

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = self.pool1(self.conv1(x1).relu()).flatten(1)
        x2 = self.pool2(self.conv2(x2).relu()).flatten(1)
        return torch.cat([x1, x2], 1)


class StageHead(nn.Module):
    """Prediction block of one stage: p, eta, and delta from the features of both streams.

    Args:
        num_features: Number of features of each stream.
        num_bins: Number of bins of the stage, s_k.
        num_classes: Number of outputs, each with its own p, eta, and delta.
        drop_rate: Dropout on the features that p and eta read.
        dynamic_range: Whether bins are adjusted; if False, eta and delta are 0.
        hidden: Width of the product of the streams, which p and eta read directly, each with its own dropout mask. If
            None, the width is s_k, and one more layer of width 2 s_k follows.
    """

    index: Tensor

    def __init__(
        self,
        num_features: int,
        num_bins: int,
        num_classes: int,
        drop_rate: float,
        dynamic_range: bool,
        hidden: Optional[int],
        **dd: Any,
    ):
        super().__init__()
        self.num_bins = num_bins
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc1 = nn.Linear(num_features, hidden or num_bins, **dd)
        self.fc2 = nn.Linear(num_features, hidden or num_bins, **dd)
        self.fc = None if hidden else nn.Linear(num_bins, 2 * num_bins, **dd)
        hidden = hidden or 2 * num_bins
        self.p = nn.Linear(hidden, num_classes * num_bins, **dd)
        self.eta = nn.Linear(hidden, num_classes * num_bins, **dd) if dynamic_range else None
        self.delta = nn.Linear(num_features, num_classes, **dd) if dynamic_range else None
        self.register_buffer("index", torch.empty(num_bins, **dd), persistent=False)
        self.init_weights()

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Start on the fixed grid (eta = delta = 0) with every ReLU alive and p uniform over the bins."""
        nn.init.constant_(self.fc1.bias, 0.5)
        nn.init.constant_(self.fc2.bias, 0.5)
        if self.fc is not None:
            nn.init.constant_(self.fc.bias, 0.1)
        nn.init.constant_(self.p.bias, 1 / self.num_bins)
        if self.eta is not None and self.delta is not None:
            for layer in (self.eta, self.delta):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.index.copy_(torch.arange(self.num_bins, device=self.index.device))

    def mix(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Combine the features of both streams into the vector that p and eta read."""
        h = self.fc1(self.drop(x1)).relu() * self.fc2(self.drop(x2)).relu()
        return h if self.fc is None else self.fc(h).relu()

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.mix(x1, x2)
        # under autocast, the layers output half precision; the regression, including tanh, runs in the precision of the
        # weights: half precision rounds tanh to -1 even for moderate inputs, and a delta of -1 leaves no bins
        p = self.p(h).relu().to(self.p.weight.dtype).view(-1, self.num_classes, self.num_bins)
        if self.eta is not None and self.delta is not None:
            if self.fc is None:
                h = self.mix(x1, x2)
            eta = self.eta(h).to(p.dtype).tanh().view(-1, self.num_classes, self.num_bins)
            delta = self.delta(x1 * x2).to(p.dtype).tanh()
        else:
            eta, delta = torch.zeros_like(p), torch.zeros_like(p[:, :, 0])
        return p, eta, delta


def sum_contributions(stages: list[StageOutput]) -> Tensor:
    """Sum the contributions of all stages to the age, ``(B, num_classes)`` (equation 3 of the paper)."""
    age = stages[0].contribution
    for stage in stages[1:]:
        age = age + stage.contribution
    return age
