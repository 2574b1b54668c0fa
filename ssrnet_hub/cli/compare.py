"""`ssrnet-hub compare`: whether one set of weights is nearer the truth than another."""

import argparse
import json
import os
from typing import Any

from .options import WEIGHTS, add_device_option, add_labels_options

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    compare = commands.add_parser(
        "compare",
        help="Compare two models on the same faces",
        description="Compare the age estimates of two models on the same labeled faces: the difference of their MAE, "
        "its 95% interval, and a p-value.",
    )
    compare.add_argument("a", metavar="A", type=os.path.expanduser, help=WEIGHTS)
    compare.add_argument("b", metavar="B", type=os.path.expanduser, help="Weights to compare with")
    add_labels_options(compare, "CSV with the columns file and age, and optionally split")
    compare.add_argument("--json", action="store_true", help="Print a JSON object")
    add_device_option(compare)
    compare.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..inference.estimator import AgeEstimator
    from ..training.evaluation import find_faces, predicted_ages, rounded
    from ..training.labels import read_labels
    from ..utils.metrics import compare_errors
    from .printing import warn_of_training

    labels = read_labels(args.labels, args.split)
    warn_of_training(labels)
    estimators = {side: AgeEstimator(getattr(args, side), device=args.device) for side in ("a", "b")}
    faces = {side: find_faces(estimator, labels, args.detect) for side, estimator in estimators.items()}
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
        f"A - B  {result['difference']:+.2f} years, 95% interval {low:+.2f} to {high:+.2f}, "
        f"p = {result['p_value']:.4f}, {result['n']} faces"
    )
    if result["missed_a"] or result["missed_b"]:
        print("A missed face counts as if the median training age had been predicted.")
