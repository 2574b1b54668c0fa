"""`ssrnet-hub calibrate`: intervals and flags for weights."""

import argparse
import os
from pathlib import Path

from .options import add_record_option, add_training_labels_option, add_weights_option

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    calibrate = commands.add_parser(
        "calibrate",
        help="Fit intervals and the out-of-distribution flag",
        description="Fit intervals and the out-of-distribution flag on the faces held out by training and those of "
        "the split val, and write the weights with this calibration in their config. Coverage is measured by "
        "cross-validation.",
    )
    add_weights_option(calibrate)
    add_training_labels_option(calibrate, required=True)
    calibrate.add_argument(
        "--photos",
        type=os.path.expanduser,
        metavar="DIR",
        help="Folder of JPEGs; crops of them without a face are used to evaluate the flag",
    )
    calibrate.add_argument(
        "--output", required=True, type=os.path.expanduser, metavar="DIR", help="Folder for the calibrated weights"
    )
    add_record_option(calibrate)
    calibrate.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..hub.cards import name_to_record, record_calibration
    from ..hub.loading import from_pretrained
    from ..models.zoo import DEFAULT
    from ..training.calibration import calibrate
    from ..utils.metrics import describe_device

    weights = args.weights or DEFAULT
    name = name_to_record(weights) if args.record else None
    figures = calibrate(from_pretrained(weights), args.labels, args.output, args.photos)
    for what in ("intervals", "bands", "worn", "flags"):
        print("\n".join(f"{what}  {key}  {row}" for key, row in figures[what].items()))
    print(f"flags {figures['flagged']:.2%} of held-out faces")
    if name:
        data = Path(args.labels).resolve().parent.name
        command = f"ssrnet-hub calibrate --weights {name} --labels {data}/labels.csv --output DIR"
        command += " --photos photos" * bool(args.photos)
        record_calibration(name, {**figures, "dataset": data, "command": command, "device": describe_device("cpu")})
    return 0
