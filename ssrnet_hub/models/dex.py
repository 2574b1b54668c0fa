"""DEX, the predecessor of SSR-Net: a single stage, the expected value of a softmax over years.

Paper: `DEX: Deep EXpectation of Apparent Age From a Single Image`
    - https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/

`ssrnet_dex` has its stage on the two streams of SSR-Net, `dex_vgg16` is the paper's network, and `dex_resnet10` has the
backbone of dlib's age predictor.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, Union

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import VGG, ResNet, build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from .architectures import RESNET10_CHS, RESNET10_LAYERS, VGG16_LAYERS, check_regression
from .layers import StageOutput, StagewiseOutput, regress_stages, sum_contributions
from .ssrnet import SSRNet, create_two_stream, two_stream_cfg

__all__ = ["DEXVGG", "DEXResNet", "SSRNetDEX"]


def softmax_stage(logits: Tensor, num_classes: int, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert logits ``(B, num_classes * s)`` to the p, eta, and delta of a stage with s fixed bins."""
    # under autocast, the layers output half precision; the regression runs in the precision of the weights
    p = logits.to(index.dtype).view(-1, num_classes, index.shape[0]).softmax(-1)
    return p, torch.zeros_like(p), torch.zeros_like(p[:, :, 0])


def _init_softmax(layer: nn.Module) -> None:
    """Initialize a linear layer near the uniform distribution; ignore any other layer."""
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(layer.bias)


class SoftmaxStage(nn.Module):
    """Prediction block of a single stage: one softmax over its bins, from all features.

    Args:
        num_features: Number of features, both streams together.
        num_bins: Number of bins.
        num_classes: Number of outputs, each with its own softmax.
        drop_rate: Dropout on the features.
    """

    index: Tensor

    def __init__(self, num_features: int, num_bins: int, num_classes: int, drop_rate: float, **dd: Any):
        super().__init__()
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(num_features, num_classes * num_bins, **dd)
        self.register_buffer("index", torch.empty(num_bins, **dd), persistent=False)
        self.init_weights()

    @torch.jit.ignore
    def init_weights(self) -> None:
        _init_softmax(self.fc)
        with torch.no_grad():
            self.index.copy_(torch.arange(len(self.index), device=self.index.device))

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.fc(self.drop(torch.cat([x1, x2], 1)))
        return softmax_stage(logits, self.num_classes, self.index)


class SSRNetDEX(SSRNet):
    """The two streams of SSR-Net with the single softmax stage of DEX.

    Args:
        stage_bins: Number of bins of the single stage.
        V: Range of the output, years.
        num_classes: Number of outputs; 0 returns the flat features of the six taps.
        in_chans: Number of input channels.
        img_size: Input size in pixels; a side, or (height, width).
        drop_rate: Dropout before the stage.
    """

    joint_taps = True

    def __init__(
        self,
        stage_bins: tuple[int] = (101,),
        V: float = 101.0,
        num_classes: int = 1,
        in_chans: int = 3,
        img_size: Union[int, tuple[int, int]] = 64,
        drop_rate: float = 0.2,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ):
        check_regression(tuple(stage_bins), 1, V)
        super().__init__(
            stage_bins,
            V,
            dynamic_range=False,
            num_classes=num_classes,
            in_chans=in_chans,
            img_size=img_size,
            drop_rate=drop_rate,
            device=device,
            dtype=dtype,
        )

    @torch.jit.ignore
    def make_stages(self, **dd: Any) -> list[nn.Module]:
        return [SoftmaxStage(self.num_features, self.stage_bins[0], self.num_classes, self.drop_rate, **dd)]


class _SoftmaxModel:
    """Mixin that adds the stage of DEX to a timm classifier.

    The last layer outputs ``num_classes * s`` logits; subclasses define ``_logits``, from features to logits.
    """

    index: Tensor
    if TYPE_CHECKING:
        pretrained_cfg: dict[str, Any]  # as in SSRNet
        num_classes: int
        register_buffer: Callable[..., None]
        forward_features: Callable[[Tensor], Tensor]
        _logits: Callable[[Tensor], Tensor]

    def _set_stage(self, stage_bins: tuple[int], V: float, num_classes: int, **dd: Any) -> None:
        self.num_classes = num_classes
        self.stage_bins = tuple(stage_bins)
        self.V = float(V)
        dtype = dd["dtype"] or torch.get_default_dtype()
        self.register_buffer("index", torch.arange(*stage_bins, device=dd["device"], dtype=dtype), persistent=False)

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Replace the last layer with a new one.

        Args:
            num_classes: Number of outputs; 0 returns the features.
            global_pool: Pooling before the layer, as named by timm; None keeps the current one.
        """
        super().reset_classifier(num_classes * self.stage_bins[0], global_pool)  # type: ignore[misc]  # timm's class
        self.num_classes = num_classes

    def _forward_stages(self, x: Tensor) -> list[StageOutput]:
        p, eta, delta = softmax_stage(self._logits(x), self.num_classes, self.index)
        return regress_stages([p], [eta], [delta], [self.index], self.V, 1.0, 1.0)

    @torch.jit.export
    def forward_stages(self, x: Tensor) -> StagewiseOutput:
        """Predict ages, with the output of the single stage; see `SSRNet.forward_stages`."""
        torch._assert(self.num_classes > 0, "This model has no prediction stage: it was created with num_classes=0")
        stages = self._forward_stages(self.forward_features(x))
        return StagewiseOutput(sum_contributions(stages), stages)


class DEXVGG(_SoftmaxModel, VGG):
    """DEX: VGG-16 with a softmax over ages.

    Args:
        stage_bins: Number of bins of the single stage.
        V: Range of the output, years.
        num_classes: Number of outputs, each with its own softmax; 0 returns the features.
        in_chans: Number of input channels.
        mlp_ratio: Width of the first dense layer relative to the paper's 4096.
        drop_rate: Dropout in the dense layers.
    """

    def __init__(
        self,
        stage_bins: tuple[int] = (101,),
        V: float = 101.0,
        num_classes: int = 1,
        in_chans: int = 3,
        mlp_ratio: float = 1.0,
        drop_rate: float = 0.5,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ):
        check_regression(tuple(stage_bins), 1, V)
        (num_bins,) = stage_bins
        super().__init__(
            VGG16_LAYERS,
            num_classes * num_bins,
            in_chans,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            device=device,
            dtype=dtype,
        )
        self._set_stage(stage_bins, V, num_classes, device=device, dtype=dtype)

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(self.pre_logits(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Predict ages ``(B, num_classes)`` from features ``(B, 512, H / 32, W / 32)``.

        With ``pre_logits``, return 4096 features instead.
        """
        if pre_logits or self.num_classes == 0:
            return self.head(self.pre_logits(x), pre_logits=True)
        return sum_contributions(self._forward_stages(x))


class _Block(nn.Module):
    """dlib's residual block: no padding with a stride of 2, and a shortcut without weights.

    It is created by timm's `ResNet`, whose further arguments are ignored.
    """

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, *args: Any, device: Any, dtype: Any, **kwargs: Any):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=2 - stride, bias=False, **dd)
        self.bn1 = nn.BatchNorm2d(planes, **dd)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False, **dd)
        self.bn2 = nn.BatchNorm2d(planes, **dd)
        self.act2 = nn.ReLU()
        self.pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.pool(x)
        x = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        # the shortcut may have fewer channels, and the output of the convolution one row and one column less
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, x.shape[1] - shortcut.shape[1]))
        x = F.pad(x, (0, shortcut.shape[3] - x.shape[3], 0, shortcut.shape[2] - x.shape[2]))
        return self.act2(x + shortcut)


class DEXResNet(_SoftmaxModel, ResNet):
    """The ResNet-10 of dlib's age predictor with a softmax over ages.

    Args:
        stage_bins: Number of bins of the single stage.
        V: Range of the output, years.
        num_classes: Number of outputs, each with its own softmax; 0 returns the features.
        in_chans: Number of input channels.
        global_pool: Pooling of the features, as named by timm.
        drop_rate: Dropout on the features.
    """

    def __init__(
        self,
        stage_bins: tuple[int] = (101,),
        V: float = 101.0,
        num_classes: int = 1,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        device: Optional[torch.device] = None,
        dtype: Optional[torch.dtype] = None,
    ):
        check_regression(tuple(stage_bins), 1, V)
        (num_bins,) = stage_bins
        # timm's forward pass requires a fourth stage, which is empty here
        super().__init__(
            _Block,  # type: ignore[arg-type]  # same interface as timm's blocks
            RESNET10_LAYERS,
            num_classes * num_bins,
            in_chans,
            global_pool=global_pool,
            channels=RESNET10_CHS,
            drop_rate=drop_rate,
            zero_init_last=False,
            device=device,
            dtype=dtype,
        )
        # dlib uses no padding in these
        for layer in (self.conv1, self.maxpool):
            assert isinstance(layer, (nn.Conv2d, nn.MaxPool2d))
            layer.padding = (0, 0)
        self.layer4 = nn.Sequential(nn.Identity())
        self.feature_info[-1]["reduction"] = 16
        _init_softmax(self.fc)
        self._set_stage(stage_bins, V, num_classes, device=device, dtype=dtype)

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """Replace the last layer with a new one; see `DEXVGG.reset_classifier`."""
        super().reset_classifier(num_classes, global_pool)
        _init_softmax(self.fc)

    def _logits(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.global_pool(x), float(self.drop_rate), self.training))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Predict ages ``(B, num_classes)`` from features ``(B, 256, h, w)``.

        With ``pre_logits``, return 256 features instead.
        """
        if pre_logits or self.num_classes == 0:
            return F.dropout(self.global_pool(x), float(self.drop_rate), self.training)
        return sum_contributions(self._forward_stages(x))


default_cfgs = generate_default_cfgs(
    {
        "ssrnet_dex": two_stream_cfg(classifier="stages.0.fc"),
        "dex_vgg16": {
            "num_classes": 1,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "features.0",
            "classifier": "head.fc",
            "paper_name": "DEX: Deep EXpectation of Apparent Age From a Single Image",
            "origin_url": "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/",
        },
        "dex_resnet10": {
            "num_classes": 1,
            "input_size": (3, 64, 64),
            "pool_size": (3, 3),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            # dlib's mean, and pixels divided by 256
            "mean": (122.782 / 255, 117.001 / 255, 104.298 / 255),
            "std": (256 / 255, 256 / 255, 256 / 255),
            "first_conv": "conv1",
            "classifier": "fc",
            "origin_url": "https://github.com/davisking/dlib-models",
        },
    }
)


@register_model
def ssrnet_dex(pretrained: bool = False, **kwargs: Any) -> SSRNetDEX:
    """SSR-Net's streams with DEX's stage: the baseline for the three stages and the dynamic range."""
    return create_two_stream(SSRNetDEX, "ssrnet_dex", pretrained, **kwargs)


@register_model
def dex_vgg16(pretrained: bool = False, **kwargs: Any) -> DEXVGG:
    """DEX as in its paper. The zoo has no weights for it."""
    return build_model_with_cfg(
        DEXVGG,
        "dex_vgg16",
        pretrained,
        feature_cfg={"flatten_sequential": True, "out_indices": (0, 1, 2, 3, 4, 5)},
        **kwargs,
    )


@register_model
def dex_resnet10(pretrained: bool = False, **kwargs: Any) -> DEXResNet:
    """DEX's stage on the backbone of dlib's age predictor: 2.7 million parameters."""
    return build_model_with_cfg(
        DEXResNet, "dex_resnet10", pretrained, feature_cfg={"out_indices": (0, 1, 2, 3, 4)}, **kwargs
    )
