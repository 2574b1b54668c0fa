"""Compare two weights of age on the same faces: python scripts/compare.py A B --labels DIR/labels.csv --split val."""

import argparse
import json
import sys
from typing import Any

from ssrnet_hub import AgeEstimator, SSRNetHubError
from ssrnet_hub.training.evaluation import find_faces, predicted_ages, rounded
from ssrnet_hub.training.labels import read_labels
from ssrnet_hub.utils.metrics import compare_errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", metavar="A", help="zoo name, folder or owner/repo")
    parser.add_argument("b", metavar="B", help="what to compare it with")
    parser.add_argument("--labels", required=True, help="labels.csv with the columns file, age and perhaps split")
    parser.add_argument("--split", help="only the rows of this split; all rows without")
    parser.add_argument(
        "--detect", action="store_true", help="the pictures are photos, of which the largest face counts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    try:
        labels = read_labels(args.labels, args.split)
        if any(label.split == "train" for label in labels):
            print("warning: the split train is among these rows; weights trained on it look too good", file=sys.stderr)
        estimators = {side: AgeEstimator(getattr(args, side), device=args.device) for side in ("a", "b")}
        faces = {side: find_faces(estimator, labels, args.detect) for side, estimator in estimators.items()}
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    ages = {side: predicted_ages(estimator, faces[side]) for side, estimator in estimators.items()}
    result = rounded(compare_errors(**ages, true=[label.age for label in labels]))
    for side in ("a", "b"):
        result.update({f"missed_{side}": faces[side].count(None), f"weights_{side}": getattr(args, side)})
    result["split"] = args.split
    if args.json:
        print(json.dumps(result))
    else:
        print_comparison(result)
    return 0


def print_comparison(result: dict[str, Any]) -> None:
    for side in ("a", "b"):
        print(
            f"{side.upper()}  MAE {result[f'mae_{side}']:.2f}, nearer on {result[f'nearer_{side}']:.1%} of the faces, "
            f"{result[f'missed_{side}']} missed: {result[f'weights_{side}']}"
        )
    low, high = result["difference_interval"]
    print(
        f"A - B  {result['difference']:+.2f} years, 95 % interval {low:+.2f} to {high:+.2f}, "
        f"p = {result['p_value']:.4f}, {result['n']} faces"
    )
    if result["missed_a"] or result["missed_b"]:
        print("A missed face counts as if the median training age had been answered.")


if __name__ == "__main__":
    sys.exit(main())
