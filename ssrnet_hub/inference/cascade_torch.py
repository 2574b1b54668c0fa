"""The networks of MTCNN in PyTorch. The only module that imports facenet-pytorch."""

import inspect
from pathlib import Path
from typing import Union

import numpy as np
import torch
from facenet_pytorch.models import mtcnn
from torch import Tensor, nn
from torch.nn import functional as F

from ..utils.inference_mode import inference

__all__ = ["TorchNetworks", "load"]


class TorchNetworks:
    """facenet-pytorch's networks, as `cascade.Networks` has them.

    Args:
        device: Where they run.
    """

    def __init__(self, device: Union[str, torch.device] = "cpu"):
        self._device = torch.device(device)
        self._pnet, self._rnet, self._onet = (
            load(net).to(self._device).to(memory_format=torch.channels_last)
            for net in (mtcnn.PNet, mtcnn.RNet, mtcnn.ONet)
        )

    @inference()
    def propose(self, pixels: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
        level = self._take(pixels).permute(0, 3, 1, 2).to(torch.float32).sub_(127.5).mul_(1 / 128)
        moves, probs = self._pnet(F.pad(level, (margin,) * 4))
        return moves.numpy(force=True), probs[:, 1].numpy(force=True)

    @inference()
    def refine(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moves, probs = self._rnet(self._take(crops).contiguous(memory_format=torch.channels_last))
        return moves.numpy(force=True), probs[:, 1].numpy(force=True)

    @inference()
    def confirm(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moves, points, probs = self._onet(self._take(crops).contiguous(memory_format=torch.channels_last))
        return moves.numpy(force=True), points.numpy(force=True), probs[:, 1].numpy(force=True)

    def _take(self, values: np.ndarray) -> Tensor:
        # PyTorch requires a writable array
        return torch.from_numpy(values if values.flags.writeable else values.copy()).to(self._device)


def load(net: type[nn.Module]) -> nn.Module:
    """One of facenet-pytorch's networks with its weights, in their precision, which need not be the default dtype."""
    file = Path(inspect.getfile(net)).parents[1] / "data" / f"{net.__name__.lower()}.pt"
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = net(pretrained=False)
    network.load_state_dict({name: value.contiguous() for name, value in weights.items()}, assign=True)
    return network.eval().requires_grad_(False)
