"""`ssrnet-hub evaluate`: how far the ages of some weights are from labels."""

import argparse
import json
import os
from pathlib import Path
from typing import Any, Optional

from ..errors import LabelsError
from .options import add_device_option, add_labels_options, add_record_option, add_weights_option

__all__ = ["add_parser"]

OF_PHOTOS = ("boxes", "robustness", "turned")
OF_AGE = ("flip", "boxes", "robustness", "turned", "plots")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    evaluate = commands.add_parser(
        "evaluate",
        help="Evaluate weights on labeled faces",
        description="Evaluate age or gender weights on labeled faces: MAE and CS@5, or accuracy, overall and by group.",
    )
    add_weights_option(evaluate)
    add_labels_options(
        evaluate,
        "CSV with the columns file and age, and optionally split, gender, ethnicity; or age_min and age_max instead of "
        "age, in whole years, both inclusive, with an empty age_max for an open range",
    )
    evaluate.add_argument(
        "--flip", action="store_true", help="Also evaluate the mean over each face and its mirror image"
    )
    evaluate.add_argument(
        "--boxes",
        action="store_true",
        help="With --detect: also evaluate with the detected boxes passed in, with loose and shifted boxes, and with "
        "crops to align",
    )
    evaluate.add_argument(
        "--robustness",
        action="store_true",
        help="With --detect: also measure how ages change if the frame is shifted, scaled, or rotated a little, or the "
        "photo is downscaled or compressed",
    )
    evaluate.add_argument(
        "--turned",
        action="store_true",
        help="With --detect: also measure how many faces are found in the photo rotated by 90, 180, and 270 degrees, "
        "and how ages change",
    )
    evaluate.add_argument(
        "--plots",
        metavar="DIR",
        type=os.path.expanduser,
        help="Write SVG plots of predicted against true ages, errors by age, and the CS curve to DIR (extra plot)",
    )
    evaluate.add_argument("--json", action="store_true", help="Print a JSON object")
    add_record_option(evaluate)
    add_device_option(evaluate)
    evaluate.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    for option in OF_PHOTOS:
        if getattr(args, option) and not args.detect:
            return f"--{option} requires --detect"
    return None


def run(args: argparse.Namespace) -> int:
    from ..hub.cards import name_to_record
    from ..hub.loading import from_pretrained, get_extras
    from ..inference.estimator import AgeEstimator
    from ..inference.visualization import plot_errors
    from ..models.config import read_task
    from ..models.zoo import DEFAULT
    from ..training import evaluation as measure
    from ..training.labels import read_labels
    from ..utils.metrics import describe_device
    from .printing import warn_of_training

    labels = read_labels(args.labels, args.split, ranges=True)
    if labels[0].age_range and args.plots:
        raise LabelsError("--plots requires exact ages, but these labels are ranges.")
    warn_of_training(labels)
    weights = args.weights or DEFAULT
    name = name_to_record(weights) if args.record else weights
    model = from_pretrained(weights)
    of_gender = read_task(get_extras(model), model.V) == "gender"
    for option in OF_AGE:
        if getattr(args, option) and of_gender:
            raise argparse.ArgumentError(None, f"--{option} requires age weights")
    given: dict[str, Any] = {"gender" if of_gender else "model": model}
    estimator = AgeEstimator(**given, device=args.device)
    faces = measure.find_faces(estimator, labels, args.detect)
    ages = measure.predicted_ages(estimator, faces)
    result = measure.measure_genders(labels, faces) if of_gender else measure.measure_ages(ages, labels)
    result["missed"] = faces.count(None)
    intervals = None if of_gender else measure.measure_intervals(faces, labels)
    if intervals:
        result["intervals"] = intervals
    stages = None if of_gender else measure.measure_stages(faces)
    if stages:
        result["stages"] = stages
    if args.flip:
        mirrored = measure.mirrored_ages(estimator, faces)
        result["flip"] = measure.rounded(measure.measure_errors(mirrored, labels))
    if args.boxes:
        error = "mae" if "mae" in result else "distance"
        tried = measure.try_boxes(estimator, labels, faces)
        errors = {
            how: measure.measure_errors(measure.predicted_ages(estimator, again), labels)[error] for how, again in tried
        }
        result["boxes"] = measure.rounded(errors)
    if args.robustness:
        result["robustness"], result["robustness_missed"] = measure.measure_robustness(estimator, labels, faces)
    if args.turned:
        result["turned"] = measure.measure_turned(estimator, labels, faces)
    result.update(split=args.split, weights=weights)
    if args.json:
        print(json.dumps(result))
    else:
        print_figures(result)
    if args.record:
        record(name, args, {**result, "device": describe_device(estimator.device)})
    if args.plots:
        plot_errors(ages, [label.age for label in labels], args.plots)
    return 0


def print_figures(result: dict[str, Any]) -> None:
    from ..utils.metrics import SMALLEST_GROUP

    parts = (
        "intervals",
        "stages",
        "gap",
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
        print(f"* the worst of those with at least {SMALLEST_GROUP} faces")
        unit = "" if "accuracy" in result else " years"
        gaps = ", ".join(f"{what} {gap:.3f}{unit}" for what, gap in result["gap"].items())
        print(f"gap between the best and the worst: {gaps}\n")
    if "intervals" in result:
        told = result["intervals"]
        print_table("intervals", {f"level {level}": row for level, row in told["levels"].items()})
        print_table("level 0.9", told["bands"])
        rest = "" if told["mae_reliable"] is None else f", error of the others {told['mae_reliable']:.3f}"
        print(f"flagged {told['flagged']:.1%}{rest}\n")
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
    if "stages" in result:
        shares = ", ".join(f"stage {k} {share:.1%}" for k, share in enumerate(result["stages"], 1))
        print(f"of the variance of the ages: {shares}")
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
    from ..hub.cards import record_figures

    data = Path(args.labels).resolve().parent.name
    command = ["ssrnet-hub evaluate", "--weights", name, "--labels", f"{data}/labels.csv"]
    command += ["--split", args.split] if args.split else []
    command += [f"--{flag}" for flag in ("detect", "flip", "boxes", "robustness", "turned") if getattr(args, flag)]
    del result["weights"]
    record_figures(name, {**result, "dataset": data, "detect": args.detect, "command": " ".join(command)})
