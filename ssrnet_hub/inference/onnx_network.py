"""Weights that are found and run without PyTorch: folded, in ONNX Runtime on the CPU."""

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from PIL import Image

from ..hub.checkpoints import Checkpoint
from ..hub.files import CONFIG_FILE, WEIGHTS_FILE
from ..images.alignment import Framing
from ..models.architectures import is_two_stream
from ..models.cost import faces_at_once
from ..models.folding import OUTPUT_NAMES, fold, split_outputs
from ..models.preparation import Preparation
from ..utils.io import is_file
from ..utils.torch_needed import torch_needed
from .network import Answers, Network, is_cpu
from .onnx_graph import to_onnx
from .onnx_session import Session
from .stages import split_stages

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OnnxNetwork"]


class OnnxNetwork(Network):
    """A network in ONNX Runtime, without PyTorch.

    Args:
        checkpoint: Checkpoint of a two-stream network with one output.
        framing: See `Network`.
        runtime: Requested runtime, for `to`.
    """

    def __init__(self, checkpoint: Checkpoint, framing: Optional[Framing], runtime: str):
        weights = checkpoint.read_weights()
        tensors = checkpoint.to_tensors(weights)
        checkpoint = checkpoint.bind_calibration(tensors)
        args, data = checkpoint.args, checkpoint.input
        most = faces_at_once(checkpoint.architecture, **args)
        super().__init__(checkpoint.extras, float(args["V"]), args["in_chans"], framing, most)
        self._stage_bins = tuple(args["stage_bins"])
        self._prepare = Preparation(data)
        self._session = Session(to_onnx(fold(args, tensors, data.mean, data.std)))
        # the folder may be gone or changed by the time the model is requested
        self._checkpoint, self._runtime = checkpoint, runtime
        self._files = {WEIGHTS_FILE: weights, CONFIG_FILE: (checkpoint.folder / CONFIG_FILE).read_bytes()}

    @staticmethod
    def takes(checkpoint: Checkpoint) -> bool:
        """Whether the network of a checkpoint can be folded."""
        return is_two_stream(checkpoint.architecture) and checkpoint.args["num_classes"] == 1

    @cached_property
    def model(self) -> "nn.Module":  # type: ignore[override]
        with torch_needed("The model of an estimator"):
            from ..hub.loading import load_checkpoint

        folder = self._checkpoint.folder
        if all(is_file(folder / name) and (folder / name).read_bytes() == own for name, own in self._files.items()):
            return load_checkpoint(self._checkpoint)
        with tempfile.TemporaryDirectory() as temporary:
            for name, content in self._files.items():
                Path(temporary, name).write_bytes(content)
            return load_checkpoint(replace(self._checkpoint, folder=Path(temporary)))

    @property
    def device(self) -> "torch.device":  # type: ignore[override]
        with torch_needed("The device of an estimator"):
            import torch

        return torch.device("cpu")

    def to(self, device: Union[str, "torch.device"]) -> Network:
        if is_cpu(device):
            return self
        with torch_needed(f"The device {device}"):
            from .torch_network import TorchNetwork

        return TorchNetwork(copy.deepcopy(self.model), device, self.framing, self._runtime)

    def __call__(self, crops: Iterable[Image.Image]) -> Answers:
        age, stages = split_outputs(self._session.run(OUTPUT_NAMES, {"pixels": self._prepare(crops)}), self._stage_bins)
        return age[:, 0].tolist(), split_stages(stages)
