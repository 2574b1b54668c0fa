"""`ssrnet-hub average`: the mean of weights."""

import argparse
import os
from pathlib import Path

from .options import WEIGHTS

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    average = commands.add_parser(
        "average",
        help="Average weights trained from the same start",
        description="Average weights trained from the same start (model soup).",
    )
    average.add_argument("weights", metavar="WEIGHTS", nargs="+", type=os.path.expanduser, help=WEIGHTS)
    average.add_argument(
        "--output", metavar="DIR", type=os.path.expanduser, required=True, help="Folder for the averaged weights"
    )
    average.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..training.average import average_weights

    names = " ".join(Path(name).name for name in args.weights)
    average_weights(args.weights, args.output, command=f"ssrnet-hub average {names} --output DIR")
    return 0
