"""Export weights: python scripts/export_onnx.py --weights NAME --output DIR [--labels chips/labels.csv].

Writes DIR/onnx/model.onnx, and with --labels model_fp16.onnx and model_int8.onnx beside it, whose ages are measured on
the split val; --program also writes DIR/model.pt2, for torch.export.load. Every file's answers are compared with
PyTorch's on real faces before it is left there.
"""

import argparse
import sys
from pathlib import Path

from torch import Tensor

from ssrnet_hub import AgeEstimator, SSRNetHubError, from_pretrained
from ssrnet_hub.errors import ExportError
from ssrnet_hub.hub.cards import name_weights, record_exports
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.backends import Pixels
from ssrnet_hub.inference.onnx_export import ONNX_FILES, export_onnx, export_program, open_session
from ssrnet_hub.models.pretrained import DEFAULT
from ssrnet_hub.training.evaluation import rounded
from ssrnet_hub.training.labels import Label, read_labels, set_aside
from ssrnet_hub.utils.metrics import age_metrics, describe_device

EXAMPLES = Path(__file__).resolve().parent.parent / "ssrnet_hub" / "webapp" / "examples"

CALIBRATION = 512
"""Chips that int8 learns the ranges of its inputs from; of those that training set aside, so that no model saw them."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=DEFAULT, help="zoo name, folder or owner/repo (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--labels", help="labels.csv of aligned chips with the splits train and val")
    parser.add_argument("--precision", nargs="+", choices=ONNX_FILES, help="default: all, or float32 without --labels")
    parser.add_argument("--program", action="store_true", help="write a program of torch.export as well")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the figures in ssrnet_hub/models/eval_results, from which the cards are made",
    )
    args = parser.parse_args()
    precisions = args.precision or (list(ONNX_FILES) if args.labels else ["float32"])
    if "int8" in precisions and not args.labels:
        parser.error("int8 learns from chips: name their --labels")
    if args.record and not args.labels:
        parser.error("--record goes with --labels")
    try:
        # only weights of the zoo can be recorded; said before the measuring
        name = name_weights(args.weights) if args.record else None
        model = from_pretrained(args.weights)
        pixels = Pixels(model)
        labels = read_labels(args.labels, "val") if args.labels else []
        faces = pixels(load_photo(label.path) for label in labels) if labels else pixels(find_faces())
        aside = set_aside(read_labels(args.labels, "train"), CALIBRATION)[1] if "int8" in precisions else []
        calibration = pixels(load_photo(label.path) for label in aside) if aside else None
        rows = []
        for precision in precisions:
            path = args.output / "onnx" / ONNX_FILES[precision]
            difference = export_onnx(model, path, precision, faces=faces, calibration=calibration)
            row = {"file": path.name, "precision": precision, "bytes": path.stat().st_size}
            if labels and model.V > 1:
                row |= rounded(measure(path, faces, labels, model.V))
            rows.append(row | {"difference": float(f"{difference:.2g}")})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
        if args.program:
            export_program(model, args.output / "model.pt2")
            print("model.pt2")
        if name and model.V > 1:
            data = Path(args.labels).resolve().parent.name
            command = f"python scripts/export_onnx.py --weights {name} --labels {data}/labels.csv --output DIR"
            how = {"dataset": data, "split": "val", "command": command, "device": describe_device("cpu")}
            record_exports(name, {"files": rows, **how})
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


def find_faces() -> list:
    """The faces in the demo's examples, cut out."""
    estimator = AgeEstimator(runtime="eager")
    faces = [face.crop for path in sorted(EXAMPLES.glob("*.jpg")) for face in estimator(path)]
    if not faces:
        raise ExportError(f"There are no faces to compare the files on in {EXAMPLES}.")
    return faces


def measure(path: Path, faces: Tensor, labels: list[Label], V: float) -> dict[str, float]:
    """MAE of an ONNX file's ages, years."""
    (ages,) = open_session(path).run(["age"], {"pixels": faces.numpy()})
    figures = age_metrics(ages[:, 0].clip(0, V).tolist(), [label.age for label in labels])
    return {key: figures[key] for key in ("mae", "n")}


if __name__ == "__main__":
    sys.exit(main())
