"""Export models to ONNX in three precisions, and to PyTorch's exported program."""

import copy
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from onnxruntime import quantization
from torch import Tensor, nn

from ..errors import ExportError
from ..hub.files import DIGEST_KEY
from ..hub.loading import get_extras, tensors_digest, unwrap
from ..models.fused import fuse
from ..models.pretrained import assert_age_model
from ..utils.defaults import ONNX_FILES
from ..utils.io import replace_file
from ..utils.version import __version__
from .backends import make_runtime
from .onnx_graph import OPSET, to_onnx
from .onnx_session import open_session

__all__ = ["ONNX_FILES", "export_onnx", "export_program", "open_session", "to_onnx"]

_TOLERANCE = 1e-4
"""Largest difference of a float32 file's ages from PyTorch's, years."""


def export_onnx(
    model: nn.Module,
    path: Union[str, os.PathLike],
    precision: str = "float32",
    *,
    faces: Tensor,
    calibration: Optional[Tensor] = None,
) -> float:
    """Export a model to ONNX and compare its output with PyTorch's.

    The file takes pixels from 0 to 255 and returns the stages as well as the age; its metadata describes the framing.

    Args:
        model: A two-stream model of this package with one output, in eval mode; of any precision, on any device.
        path: File to write; removed if its output differs from the model's.
        precision: ``"float32"``; ``"float16"``, of the weights of the convolutions; or ``"int8"``, of the convolutions'
            weights and inputs.
        faces: Pixels of real faces for the comparison, ``(B, H, W, in_chans)`` uint8.
        calibration: Other faces, for the input ranges of int8.

    Returns:
        The largest difference between the ages of the two, years.

    Raises:
        ExportError: The model has no fused form, there is no calibration for int8, or the output of the float32 file
            differs from the model's.
    """
    model = _portable(model)
    network = fuse(model)
    if precision not in ONNX_FILES:
        raise ExportError(f"The precision must be one of {', '.join(ONNX_FILES)}, not {precision!r}.")
    if precision == "int8" and calibration is None:
        raise ExportError("int8 requires faces for calibration: pass calibration=.")
    expected = make_runtime(model, "eager")(faces).age.numpy()
    content = to_onnx(
        network.graph.half_streams() if precision == "float16" else network.graph, describe(model, precision)
    )
    with replace_file(path) as temporary:
        temporary.write_bytes(content)
        if precision == "int8" and calibration is not None:
            _quantize(temporary, calibration)
        (ages,) = open_session(temporary).run(["age"], {"pixels": faces.numpy()})
        difference = float(np.abs(ages - expected).max())
        if precision == "float32" and not difference <= _TOLERANCE:
            raise ExportError(f"Ages from ONNX Runtime differ by up to {difference:g} years: {path} was not written.")
    return difference


def export_program(model: nn.Module, path: Union[str, os.PathLike]) -> None:
    """Export a model as a program for `torch.export.load`, with the inputs and outputs of the ONNX file.

    Raises:
        ExportError: The model has no fused form.
    """
    network = fuse(_portable(model))
    example = torch.zeros(2, *network.img_size, network.in_chans, dtype=torch.uint8, device="cpu")
    program = torch.export.export(network, (example,), dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}})
    with replace_file(path) as temporary:
        torch.export.save(program, temporary)


def _portable(model: nn.Module) -> nn.Module:
    """A copy in float32 on the CPU."""
    return copy.deepcopy(unwrap(model)).float().cpu()


def describe(model: nn.Module, precision: str) -> dict[str, Any]:
    """Metadata of an ONNX file: origin, input, and meaning of the outputs."""
    model = assert_age_model(model)
    cfg = model.pretrained_cfg
    return {
        "architecture": cfg["architecture"],
        "weights": f"{cfg['architecture']}.{cfg['tag']}" if cfg.get("tag") else "",
        DIGEST_KEY: tensors_digest(model),
        "ssrnet_hub": __version__,
        "opset": OPSET,
        "precision": precision,
        "input": "pixels: faces cut out as framing says, scaled to this size; 0 to 255, not normalized",
        "color": "RGB" if model.in_chans == 3 else "gray",
        "interpolation": cfg["interpolation"],
        "framing": get_extras(model).get("framing"),
        "output": "age in years, not clamped to [0, V]; p and eta of the bins of all stages, coarse to fine; delta, "
        "width and contribution of each stage",
        "stage_bins": list(model.stage_bins),
        "V": model.V,
        "license": cfg.get("license") or "unknown",
    }


class _Faces(quantization.CalibrationDataReader):
    def __init__(self, faces: Tensor):
        self._batches: Iterator[dict[str, np.ndarray]] = iter([{"pixels": part.numpy()} for part in faces.split(32)])

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        return next(self._batches, None)


def _quantize(path: Path, calibration: Tensor) -> None:
    # the quantizer prints progress to stdout, which is for results
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        prepared = Path(folder, "model.onnx")
        quantization.shape_inference.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            _Faces(calibration),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"ActivationSymmetric": False},
        )
