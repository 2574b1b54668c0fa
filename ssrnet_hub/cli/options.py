"""Options that several commands have, and the kinds of their values."""

import argparse
import math
import os

from ..utils.defaults import MAX_PIXELS, RUNTIMES

__all__ = ["add_estimator_options", "at_least_one", "port_number", "positive"]


def add_estimator_options(parser: argparse.ArgumentParser) -> None:
    """Add what an `AgeEstimator` can be told."""
    parser.add_argument(
        "--weights",
        type=os.path.expanduser,
        help="name from 'ssrnet-hub models', folder or owner/repo on the Hugging Face Hub",
    )
    parser.add_argument(
        "--min-face",
        type=positive,
        metavar="N",
        help="smallest face that has to be found, in pixels, or below 1 as a share of the photo's short side: the "
        "larger, the faster; 20 pixels or 1/50 of the long side without",
    )
    parser.add_argument("--device", help="where to compute, such as cuda; the CPU without")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="what computes the ages, which are the same; by default ONNX Runtime (extra onnx) where it is installed",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse photos and frames of more pixels, width x height (default: %(default)s)",
    )


def at_least_one(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def port_number(text: str) -> int:
    """A port, for argparse."""
    value = int(text)
    if not 0 < value < 1 << 16:
        raise ValueError(text)
    return value


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value
