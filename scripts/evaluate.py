"""Measure weights on labelled faces: python scripts/evaluate.py --weights W --labels DIR/labels.csv --split val."""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from ssrnet_hub import AgeEstimator, SSRNetHubError
from ssrnet_hub.cards import record_figures, weights_digest
from ssrnet_hub.data import Label, read_labels
from ssrnet_hub.hub import get_extras
from ssrnet_hub.metrics import age_metrics, describe_device
from ssrnet_hub.zoo import DEFAULT

UTKFACE_MEDIAN_AGE = 29.0


def answer_missing(estimator: AgeEstimator) -> float:
    """The age that stands for a face that was not found: the median of the training ages, years.

    Weights that do not state theirs get that of UTKFace's train split.
    """
    return float(get_extras(estimator.model).get("training", {}).get("median_age", UTKFACE_MEDIAN_AGE))


def predict(estimator: AgeEstimator, labels: list[Label], detect: bool) -> list[float | None]:
    """Ages in the order of the labels, years; None where no face was found. The largest face of a photo counts."""
    paths = tqdm([label.path for label in labels], unit="photo", disable=not sys.stderr.isatty())
    if not detect:
        return [face.age for face in estimator.crops(paths)]
    found = map(estimator, paths)
    return [faces[0].age if faces else None for faces in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights", default=DEFAULT, help="zoo name, folder or owner/repo; the embedded default without"
    )
    parser.add_argument("--labels", required=True, help="labels.csv with the columns file, age and perhaps split")
    parser.add_argument("--split", help="only the rows of this split; all rows without")
    parser.add_argument(
        "--detect", action="store_true", help="the pictures are photos, of which the largest face counts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--record", metavar="FILE", help="keep the figures in FILE, from which the cards are made")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    try:
        labels = read_labels(args.labels, args.split)
        if any(label.split == "train" for label in labels):
            print("warning: the split train is among these rows; weights trained on it look too good", file=sys.stderr)
        estimator = AgeEstimator(args.weights, device=args.device)
        if args.record:
            weights_digest(args.weights)  # only weights that have one can be recorded; said before the measuring
        found = predict(estimator, labels, args.detect)
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    ages = [answer_missing(estimator) if age is None else age for age in found]
    result = {
        **age_metrics(ages, [label.age for label in labels]),
        "missed": found.count(None),
        "split": args.split,
        "weights": args.weights,
    }
    result.update({k: round(result[k], 4) for k in ("mae", "cs5", "bias")})
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{k:8} {v}" for k, v in result.items()))
    if args.record:
        data = Path(args.labels).resolve().parent.name
        command = ["python scripts/evaluate.py", "--weights", args.weights, "--labels", f"{data}/labels.csv"]
        command += ["--split", args.split] if args.split else []
        command += ["--detect"] if args.detect else []
        figures = {**result, "dataset": data, "detect": args.detect, "command": " ".join(command)}
        figures["device"] = describe_device(estimator.device)
        record_figures(args.record, figures.pop("weights"), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
