"""SSR-Net: soft stagewise regression of an age, coarse to fine.

Paper: `SSR-Net: A Compact Soft Stagewise Regression Network for Age Estimation`
    - https://www.ijcai.org/proceedings/2018/0150.pdf
Code of the authors (Keras, Apache-2.0): https://github.com/shamangary/SSR-Net

Two streams of 3x3 convolutions process the face, one with ReLU and average pooling, the other with tanh and max
pooling. Taps at three depths feed three prediction stages, coarse to fine. Each stage predicts a distribution over a
few age bins, and adjusts the grid of these bins.

Variants: `ssrnet` is the authors' network, `ssrnet_gender` the same with a range of 1, `ssrnet_blog` the one from a
PyTorch blog post, whose stages read the taps shallow to deep, and `ssrnet_wide` our larger one; see the entry points at
the end. The single stage of DEX on the same streams is in `dex.py`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .architectures import VARIANTS, check_layout, check_regression, count_kinds
from .layers import (
    Fusion,
    StageHead,
    StageOutput,
    StagewiseOutput,
    make_stream,
    regress_stages,
    sum_contributions,
    tap_sizes,
)

__all__ = ["SSRNet"]


class SSRNet(nn.Module):
    """SSR-Net: two streams and the stages on top of them. The defaults are the network released by the paper's authors.

    Args:
        stage_bins: Number of bins of each stage, s_k, coarse to fine; one to three stages, with a tap each.
        V: Range of the output, years; the fixed grid covers [0, V).
        lambda_local: Maximum shift of a bin by eta, in bins.
        lambda_d: Maximum relative change of the number of bins by delta.
        dynamic_range: Whether bins are adjusted; if False, they stay on the fixed grid, and eta and delta have no
            weights.
        deep_first: Whether the first, coarse stage uses the deepest tap; if False, the shallowest.
        layout: The three levels of both streams, one string each: C is an unpadded convolution with batch normalization
            and activation, S the same with stride 2, P a pooling by 2, and R a residual block with a padded
            convolution.
        chs: Channels of each C and S in stream 1; stream 2 has half as many.
        fused_chs: Channels of each stream in a stage, after its 1x1 convolution.
        pool_sizes: Pooling window before each stage, or None for global pooling; see `Fusion`.
        hidden: Width of the product of the streams in each stage, or None for s_k; see `StageHead`.
        norm_eps: Epsilon of batch normalization.
        num_classes: Number of outputs; 0 returns the flat features of the six taps.
        in_chans: Number of input channels.
        img_size: Input size in pixels; a side, or (height, width).
        drop_rate: Dropout before the prediction stages.
    """

    # whether one stage reads all taps
    joint_taps = False

    if TYPE_CHECKING:
        # set by timm's builder; with an annotation at run time, TorchScript would store it
        pretrained_cfg: dict[str, Any]

    def __init__(
        self,
        stage_bins: tuple[int, ...] = (3, 3, 3),
        V: float = 101.0,
        lambda_local: float = 1.0,
        lambda_d: float = 1.0,
        dynamic_range: bool = True,
        deep_first: bool = True,
        layout: tuple[str, ...] = ("CP", "CP", "CPC"),
        chs: tuple[int, ...] = (32, 32, 32, 32),
        fused_chs: int = 10,
        pool_sizes: Optional[tuple[int, int, int]] = (1, 4, 8),
        hidden: Optional[int] = None,
        norm_eps: float = 1e-3,
        num_classes: int = 1,
        in_chans: int = 3,
        img_size: Union[int, tuple[int, int]] = 64,
        drop_rate: float = 0.2,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.stage_bins = tuple(stage_bins)
        self.V = float(V)
        self.lambda_local = float(lambda_local)
        self.lambda_d = float(lambda_d)
        self.dynamic_range = dynamic_range
        self.deep_first = deep_first
        self.hidden = hidden
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.img_size = to_2tuple(img_size)
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        check_regression(self.stage_bins, 3, self.V)
        if not all(map(math.isfinite, (self.lambda_local, self.lambda_d))):
            raise ValueError(f"lambda_local and lambda_d must be numbers, not {lambda_local} and {lambda_d}")

        layout, chs = tuple(layout), tuple(chs)
        check_layout(layout, chs)
        # read when folding the model
        self.layout, self.norm_eps = layout, norm_eps
        self.pool_sizes = None if pool_sizes is None else tuple(pool_sizes)
        half = [ch // 2 for ch in chs]
        self.stream1 = make_stream(layout, in_chans, chs, nn.ReLU, nn.AvgPool2d, norm_eps, **dd)
        self.stream2 = make_stream(layout, in_chans, half, nn.Tanh, nn.MaxPool2d, norm_eps, **dd)
        levels = ["".join(layout[: i + 1]) for i in range(len(layout))]
        tap_chs = [chs[count_kinds(kinds, "CS") - 1] for kinds in levels]
        # each feature level is a tap of stream 1, a module that hooks and FX can reach
        self.feature_info = [
            {"num_chs": ch, "reduction": 2 ** count_kinds(kinds, "PS"), "module": f"stream1.{i}"}
            for i, (ch, kinds) in enumerate(zip(tap_chs, levels, strict=True))
        ]

        taps = list(zip(tap_chs, *(tap_sizes(layout, side) for side in self.img_size), strict=True))
        sizes = (None, None, None) if pool_sizes is None else tuple(pool_sizes)
        read = list(zip(taps[::-1] if deep_first else taps, sizes, strict=True))
        if not self.joint_taps:
            read = read[: len(self.stage_bins)]
        self.fusions = nn.ModuleList([Fusion((ch, ch // 2), fused_chs, size, **dd) for (ch, _, _), size in read])
        fused_sizes = [2 * fused_chs * (1 if size is None else (h // size) * (w // size)) for (_, h, w), size in read]
        if min(taps[-1]) < 1 or not all(fused_sizes):
            raise ValueError(f"img_size {self.img_size} is too small: a tap of SSR-Net would be empty")
        self.num_features = self.head_hidden_size = sum(fused_sizes)
        # number of features that each stage reads, both streams together
        self.fused_sizes = [self.num_features] if self.joint_taps else fused_sizes
        self.stages = nn.ModuleList()
        self.init_weights()
        self.reset_classifier(num_classes)

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Initialize convolutions as in Keras (Glorot uniform, zero biases), and stages by `StageHead.init_weights`."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stage in self.stages:
            stage.init_weights()  # type: ignore[operator]  # a ModuleList does not type its modules

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^stream[12]\.0",
            "blocks": [
                (r"^stream[12]\.(\d+)" if coarse else r"^stream[12]\.(\d+)\.(\d+)", None),
                (r"^fusions", (99999,)),
            ],
        }

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the levels of the streams in the backward pass; batch statistics are updated once per step."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The prediction stages."""
        return self.stages

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Replace the prediction stages with new ones.

        Args:
            num_classes: Number of outputs; 0 returns the flat features.
            global_pool: For compatibility with timm; must be empty, since the features are flat.

        Raises:
            ValueError: ``global_pool`` is not empty.
        """
        if global_pool:
            raise ValueError(f"SSR-Net has no global pooling to replace, got global_pool={global_pool!r}")
        self.num_classes = num_classes
        like = next(self.parameters())
        stages = self.make_stages(device=like.device, dtype=like.dtype) if num_classes > 0 else []
        self.stages = nn.ModuleList(stages).train(self.training)

    @torch.jit.ignore
    def make_stages(self, **dd: Any) -> list[nn.Module]:
        """Create new prediction stages, coarse to fine."""
        return [
            StageHead(size // 2, num_bins, self.num_classes, self.drop_rate, self.dynamic_range, self.hidden, **dd)
            for size, num_bins in zip(self.fused_sizes, self.stage_bins, strict=True)
        ]

    def forward_taps(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the three taps of stream 1 and of stream 2, shallow to deep."""
        height, width = self.img_size
        torch._assert(x.shape[2] == height, f"Input height must be {height} pixels for this model, not {x.shape[2]}")
        torch._assert(x.shape[3] == width, f"Input width must be {width} pixels for this model, not {x.shape[3]}")
        x1, x2 = x, x
        taps1: list[Tensor] = []
        taps2: list[Tensor] = []
        for level1, level2 in zip(self.stream1, self.stream2):  # noqa: B905  TorchScript does not support strict=
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x1, x2 = checkpoint_level(level1, x1), checkpoint_level(level2, x2)
            else:
                x1, x2 = level1(x1), level2(x2)
            taps1.append(x1)
            taps2.append(x2)
        return taps1, taps2

    def fuse_taps(self, taps1: list[Tensor], taps2: list[Tensor]) -> Tensor:
        """Fuse the six taps into one vector, ``(B, num_features)``, in the order of the stages."""
        if len(self.fusions) == 0:
            return taps1[-1]
        fused: list[Tensor] = []
        for k, fusion in enumerate(self.fusions):
            level = 2 - k if self.deep_first else k
            fused.append(fusion(taps1[level], taps2[level]))
        return torch.cat(fused, 1)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Optional[Union[int, list[int]]] = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Union[list[Tensor], tuple[Tensor, list[Tensor]]]:
        """Return the features and the taps of stream 1.

        Args:
            x: Faces, ``(B, in_chans, H, W)``.
            indices: Levels to return, shallow to deep: the last n if an int, all if None.
            norm: For compatibility with timm; ignored.
            stop_early: For compatibility with timm; use `prune_intermediate_layers` instead.
            output_fmt: ``"NCHW"``.
            intermediates_only: Return only the taps.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"Output format must be NCHW, not {output_fmt}")
        take = self._take_indices(indices)
        taps1, taps2 = self.forward_taps(x)
        intermediates = [taps1[i] for i in take]
        return intermediates if intermediates_only else (self.fuse_taps(taps1, taps2), intermediates)

    def prune_intermediate_layers(
        self, indices: Union[int, list[int]] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the levels after the taps at ``indices``; with ``prune_head``, also everything except stream 1.

        The features are then those of the deepest remaining tap.
        """
        take = self._take_indices(indices)
        self.stream1 = self.stream1[: max(take) + 1]
        self.stream2 = self.stream2[: max(take) + 1]
        if prune_head:
            self.stream2 = nn.Sequential(*(nn.Identity() for _ in self.stream1))
            self.fusions = nn.ModuleList()
            self.reset_classifier(0)
        return take

    def _take_indices(self, indices: Optional[Union[int, list[int]]]) -> list[int]:
        # timm's feature_take_indices is in a private module, and keeps the requested order
        levels = list(range(len(self.feature_info)))
        if indices is None:
            return levels
        count = len(levels)
        if isinstance(indices, int):
            taken = set(range(count - indices, count))
        else:
            taken = {i + count if i < 0 else i for i in indices}
        if not taken or not taken <= set(levels):
            raise ValueError(f"SSR-Net has {count} feature levels, cannot take {indices}")
        return sorted(taken)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the six fused taps, ``(B, num_features)``; 680 features for `ssrnet` at 64x64."""
        taps1, taps2 = self.forward_taps(x)
        return self.fuse_taps(taps1, taps2)

    def _forward_stages(self, x: Tensor) -> list[StageOutput]:
        features = x.split(self.fused_sizes, 1)
        ps: list[Tensor] = []
        etas: list[Tensor] = []
        deltas: list[Tensor] = []
        index: list[Tensor] = []
        for k, stage in enumerate(self.stages):
            x1, x2 = features[k].chunk(2, 1)
            p, eta, delta = stage(x1, x2)
            ps.append(p)
            etas.append(eta)
            deltas.append(delta)
            # a ModuleList does not type its modules; TorchScript allows no text after the ignore
            index.append(stage.index)  # type: ignore[arg-type]
        return regress_stages(ps, etas, deltas, index, self.V, self.lambda_local, self.lambda_d)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Predict ages ``(B, num_classes)`` from features ``(B, num_features)``.

        With ``pre_logits``, return the features unchanged.
        """
        if pre_logits or self.num_classes == 0:
            return x
        return sum_contributions(self._forward_stages(x))

    @torch.jit.export
    def forward_stages(self, x: Tensor) -> StagewiseOutput:
        """Predict ages, with the outputs of all stages.

        Args:
            x: Faces, ``(B, in_chans, H, W)``, normalized as in ``pretrained_cfg``.

        Returns:
            ``age``, ``(B, num_classes)``, the same as ``forward(x)``, and ``stages``, whose contributions add up to it.
        """
        torch._assert(self.num_classes > 0, "This model has no prediction stages: it was created with num_classes=0")
        stages = self._forward_stages(self.forward_features(x))
        return StagewiseOutput(sum_contributions(stages), stages)

    def forward(self, x: Tensor) -> Tensor:
        """Predict ages ``(B, num_classes)``, years, not clamped to [0, V], from faces ``(B, in_chans, H, W)``."""
        return self.forward_head(self.forward_features(x))


@contextmanager
def _without_batch_statistics(module: nn.Module) -> Iterator[None]:
    # the statistics stay in place, since the recomputation must save as many tensors as the first pass did
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def checkpoint_level(level: nn.Module, x: Tensor) -> Tensor:
    """Run ``level`` under gradient checkpointing; the recomputation does not update the running statistics."""
    return checkpoint(
        level, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _without_batch_statistics(level))
    )


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: SSRNet) -> dict[str, Tensor]:
    """Drop the weights of the prediction stages if the model has none."""
    if not len(model.stages):
        state_dict = {k: v for k, v in state_dict.items() if not k.startswith("stages.")}
    return state_dict


def two_stream_cfg(**kwargs: Any) -> dict[str, Any]:
    """Return timm's default config of a two-stream model."""
    return {
        "num_classes": 1,
        "input_size": (3, 64, 64),
        "fixed_input_size": True,
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": ("stream1.0.0.conv", "stream2.0.0.conv"),
        "classifier": tuple(f"stages.{k}.{name}" for k in range(3) for name in ("p", "eta", "delta")),
        "paper_name": "SSR-Net: A Compact Soft Stagewise Regression Network for Age Estimation",
        "origin_url": "https://github.com/shamangary/SSR-Net",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "ssrnet": two_stream_cfg(),
        "ssrnet_gender": two_stream_cfg(),
        "ssrnet_blog": two_stream_cfg(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, origin_url=None),
        "ssrnet_wide": two_stream_cfg(input_size=(3, 96, 96), origin_url=None),
    }
)


_SSRNetT = TypeVar("_SSRNetT", bound=SSRNet)


def create_two_stream(model_cls: type[_SSRNetT], variant: str, pretrained: bool = False, **kwargs: Any) -> _SSRNetT:
    return build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": (0, 1, 2), "feature_cls": "getter"},
        **kwargs,
    )


@register_model
def ssrnet(pretrained: bool = False, **kwargs: Any) -> SSRNet:
    """SSR-Net as released by the paper's authors: 40,531 parameters, 64x64 input, output in years."""
    return create_two_stream(SSRNet, "ssrnet", pretrained, **kwargs)


@register_model
def ssrnet_gender(pretrained: bool = False, **kwargs: Any) -> SSRNet:
    """SSR-Net as the authors trained it for gender: a score from 0 (female) to 1 (male)."""
    return create_two_stream(SSRNet, "ssrnet_gender", pretrained, **{**VARIANTS["ssrnet_gender"], **kwargs})


@register_model
def ssrnet_blog(pretrained: bool = False, **kwargs: Any) -> SSRNet:
    """SSR-Net from a PyTorch blog post: 44,805 parameters; the coarse stage reads the shallow taps."""
    return create_two_stream(SSRNet, "ssrnet_blog", pretrained, **{**VARIANTS["ssrnet_blog"], **kwargs})


@register_model
def ssrnet_wide(pretrained: bool = False, **kwargs: Any) -> SSRNet:
    """Our larger SSR-Net: 248,853 parameters, 96x96 input, residual blocks, and more channels at greater depth.

    The deep taps are larger, and their blocks have a larger receptive field.
    """
    return create_two_stream(SSRNet, "ssrnet_wide", pretrained, **{**VARIANTS["ssrnet_wide"], **kwargs})
