"""Measure weights on labelled faces: python scripts/evaluate.py --weights W --labels DIR/labels.csv --split val."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ssrnet_hub import AgeEstimator, SSRNetHubError, from_pretrained
from ssrnet_hub.errors import LabelsError
from ssrnet_hub.hub.cards import name_weights, record_figures
from ssrnet_hub.inference.visualization import plot_errors
from ssrnet_hub.models.pretrained import DEFAULT
from ssrnet_hub.training.evaluation import (
    find_faces,
    measure_ages,
    measure_errors,
    measure_genders,
    measure_intervals,
    measure_robustness,
    measure_turned,
    mirrored_ages,
    predicted_ages,
    rounded,
    try_boxes,
)
from ssrnet_hub.training.labels import read_labels
from ssrnet_hub.utils.metrics import SMALLEST_GROUP, describe_device

OF_PHOTOS = ("boxes", "robustness", "turned")
OF_AGE = ("flip", "boxes", "robustness", "turned", "plots")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights",
        default=DEFAULT,
        help="zoo name, folder or owner/repo, of age or of gender; the embedded default without",
    )
    parser.add_argument(
        "--labels",
        required=True,
        help="labels.csv with the columns file, age and perhaps split, gender, ethnicity; or with age_min and age_max, "
        "in whole years, both inclusive, without an age_max for an open range",
    )
    parser.add_argument("--split", help="only the rows of this split; all rows without")
    parser.add_argument(
        "--detect", action="store_true", help="the pictures are photos, of which the largest face counts"
    )
    parser.add_argument(
        "--flip", action="store_true", help="measure as well the mean over each face and its mirror image"
    )
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="with --detect: measure as well with the boxes that were found handed back in, with boxes that are off, "
        "and with crops to be aligned",
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="with --detect: measure as well how far ages move when the frame is shifted, scaled or turned a little, "
        "the photo halved or compressed",
    )
    parser.add_argument(
        "--turned",
        action="store_true",
        help="with --detect: measure as well how many faces are found again in the photo turned by 90, 180 and 270 "
        "degrees, and how far ages move",
    )
    parser.add_argument(
        "--plots", metavar="DIR", help="draw predicted against true ages, errors by age and the CS curve into DIR, SVG"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the figures in ssrnet_hub/models/eval_results, from which the cards are made",
    )
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for option in OF_PHOTOS:
        if getattr(args, option) and not args.detect:
            parser.error(f"--{option} goes with --detect")
    try:
        labels = read_labels(args.labels, args.split, ranges=True)
        if labels[0].age_range and args.plots:
            raise LabelsError("--plots wants ages, and these labels know ranges of them alone.")
        if any(label.split == "train" for label in labels):
            print("warning: the split train is among these rows; weights trained on it look too good", file=sys.stderr)
        # only weights of the zoo can be recorded; said before the measuring
        name = name_weights(args.weights) if args.record else args.weights
        model = from_pretrained(args.weights)
        of_gender = model.V == 1
        for option in OF_AGE:
            if getattr(args, option) and of_gender:
                parser.error(f"--{option} goes with weights of age")
        weights: dict[str, Any] = {"gender" if of_gender else "model": model}
        estimator = AgeEstimator(**weights, device=args.device)
        faces = find_faces(estimator, labels, args.detect)
        ages = predicted_ages(estimator, faces)
        result = measure_genders(labels, faces) if of_gender else measure_ages(ages, labels)
        result["missed"] = faces.count(None)
        intervals = None if of_gender else measure_intervals(faces, labels)
        if intervals:
            result["intervals"] = intervals
        if args.flip:
            result["flip"] = rounded(measure_errors(mirrored_ages(estimator, faces), labels))
        if args.boxes:
            error = "mae" if "mae" in result else "distance"
            tried = try_boxes(estimator, labels, faces)
            errors = {how: measure_errors(predicted_ages(estimator, again), labels)[error] for how, again in tried}
            result["boxes"] = rounded(errors)
        if args.robustness:
            result["robustness"], result["robustness_missed"] = measure_robustness(estimator, labels, faces)
        if args.turned:
            result["turned"] = measure_turned(estimator, labels, faces)
        result.update(split=args.split, weights=args.weights)
        if args.json:
            print(json.dumps(result))
        else:
            print_figures(result)
        if args.record:
            record(name, args, {**result, "device": describe_device(estimator.device)})
        if args.plots:
            plot_errors(ages, [label.age for label in labels], args.plots)
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


def print_figures(result: dict[str, Any]) -> None:
    parts = (
        "intervals",
        "flip",
        "boxes",
        "robustness",
        "robustness_missed",
        "turned",
        "groups",
        "worst_group",
        "split",
        "weights",
    )
    rows = {"one pass": {key: value for key, value in result.items() if key not in parts}}
    if "flip" in result:
        rows["mean with the mirror"] = result["flip"]
    print_table("", rows)
    for what, groups in result["groups"].items():
        worst = result["worst_group"].get(what)
        print_table(what, {f"{group} *" if group == worst else group: part for group, part in groups.items()})
    if result["worst_group"]:
        print(f"* the worst of those with at least {SMALLEST_GROUP} faces\n")
    if "intervals" in result:
        told = result["intervals"]
        print_table("intervals", {f"level {level}": row for level, row in told["levels"].items()})
        print_table("level 0.9", told["bands"])
        print(f"flagged {told['flagged']:.1%}, MAE of the others {told['mae_reliable']:.3f}\n")
    if "boxes" in result:
        error = "mae" if "mae" in result else "distance"
        boxes = result["boxes"].items()
        print_table(
            "without the detector", {how: {error: value, "more": value - result[error]} for how, value in boxes}
        )
    if "robustness" in result:
        missed = result["robustness_missed"]
        changes = result["robustness"].items()
        rows = {how: {"change of age": change, "missed": missed.get(how, "")} for how, change in changes}
        print_table("robustness", rows)
    if "turned" in result:
        print_table("turned", {f"by {degrees}": row for degrees, row in result["turned"].items()})
    print("\n".join(f"{key}  {result[key]}" for key in ("weights", "split") if result[key]))


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    columns = list(next(iter(rows.values())))
    table = [
        [title, *columns],
        *([name, *(in_words(row.get(key, "")) for key in columns)] for name, row in rows.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip())
    print()


def in_words(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(in_words, value))
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def record(name: str, args: argparse.Namespace, result: dict[str, Any]) -> None:
    data = Path(args.labels).resolve().parent.name
    command = ["python scripts/evaluate.py", "--weights", name, "--labels", f"{data}/labels.csv"]
    command += ["--split", args.split] if args.split else []
    command += [f"--{flag}" for flag in ("detect", "flip", "boxes", "robustness", "turned") if getattr(args, flag)]
    del result["weights"]
    record_figures(name, {**result, "dataset": data, "detect": args.detect, "command": " ".join(command)})


if __name__ == "__main__":
    sys.exit(main())
