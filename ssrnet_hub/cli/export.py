"""`ssrnet-hub export`: weights for programs without PyTorch."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..errors import ExportError
from ..utils.defaults import ONNX_FILES
from .options import add_record_option, add_training_labels_option, add_weights_option, need_extra

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..training.labels import Label

__all__ = ["add_parser"]

EXAMPLES = Path(__file__).resolve().parents[1] / "webapp" / "examples"

CALIBRATION = 512
"""Chips that int8 learns the ranges of its inputs from; of those that training set aside, so that no model saw them."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    export = commands.add_parser(
        "export",
        help="Export weights to ONNX or torch.export",
        description="Export weights (extra onnx) to DIR/onnx/model.onnx. With --labels, also write model_fp16.onnx and "
        "model_int8.onnx, and evaluate all files on the split val. Each file is compared with PyTorch on real faces "
        "before it is kept.",
    )
    add_weights_option(export)
    export.add_argument("--output", required=True, type=os.path.expanduser, metavar="DIR", help="Folder for the files")
    add_training_labels_option(export, required=False)
    export.add_argument(
        "--precision",
        nargs="+",
        choices=tuple(ONNX_FILES),
        help="Precisions to export (default: all, or float32 without --labels)",
    )
    export.add_argument("--program", action="store_true", help="Also write DIR/model.pt2, for torch.export.load")
    add_record_option(export)
    export.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    if "int8" in (args.precision or ()) and not args.labels:
        return "int8 requires --labels, for calibration"
    if args.record and not args.labels:
        return "--record requires --labels"
    return None


def run(args: argparse.Namespace) -> int:
    from ..hub.cards import name_to_record, record_exports
    from ..hub.loading import from_pretrained, get_extras
    from ..images.loading import load_photo
    from ..inference.backends import Pixels
    from ..models.config import read_task
    from ..models.zoo import DEFAULT
    from ..training.evaluation import rounded
    from ..training.labels import read_labels, set_aside
    from ..utils.metrics import describe_device

    with need_extra("Exporting", "onnx"):
        from ..inference.onnx_export import export_onnx, export_program

    weights, output = args.weights or DEFAULT, Path(args.output)
    precisions = args.precision or (list(ONNX_FILES) if args.labels else ["float32"])
    name = name_to_record(weights) if args.record else None
    model = from_pretrained(weights)
    of_age = read_task(get_extras(model), model.V) == "age"
    pixels = Pixels(model)
    labels = read_labels(args.labels, "val") if args.labels else []
    faces = pixels(load_photo(label.path) for label in labels) if labels else pixels(find_faces())
    aside = read_labels(args.labels, "train") if "int8" in precisions else []
    if len(aside) > CALIBRATION:
        _, aside = set_aside(aside, CALIBRATION)
    calibration = pixels(load_photo(label.path) for label in aside) if aside else None
    rows = []
    for precision in precisions:
        path = output / "onnx" / ONNX_FILES[precision]
        difference = export_onnx(model, path, precision, faces=faces, calibration=calibration)
        row = {"file": path.name, "precision": precision, "bytes": path.stat().st_size}
        if labels and of_age:
            row |= rounded(measure(path, faces, labels, model.V))
        rows.append(row | {"difference": float(f"{difference:.2g}")})
        print("  ".join(f"{key} {value}" for key, value in {**rows[-1], "file": path}.items()))
    if args.program:
        program = output / "model.pt2"
        export_program(model, program)
        print(program)
    if name and of_age:
        data = Path(args.labels).resolve().parent.name
        command = f"ssrnet-hub export --weights {name} --labels {data}/labels.csv --output DIR"
        how = {"dataset": data, "split": "val", "command": command, "device": describe_device("cpu")}
        record_exports(name, {"files": rows, **how})
    return 0


def find_faces() -> "list[Image.Image]":
    """The faces in the web page's examples, cut out."""
    from ..inference.estimator import AgeEstimator

    estimator = AgeEstimator(runtime="eager")
    faces = [face.crop for path in sorted(EXAMPLES.glob("*.jpg")) for face in estimator(path)]
    if not faces:
        raise ExportError(f"There are no faces to compare the files on in {EXAMPLES}.")
    return faces


def measure(path: Path, faces: "Tensor", labels: "list[Label]", V: float) -> dict[str, float]:
    """MAE of an ONNX file's ages, years."""
    from ..inference.onnx_export import open_session
    from ..utils.metrics import age_metrics

    (ages,) = open_session(path).run(["age"], {"pixels": faces.numpy()})
    figures = age_metrics(ages[:, 0].clip(0, V).tolist(), [label.age for label in labels])
    return {key: figures[key] for key in ("mae", "n")}
