"""Options that several commands have, and the kinds of their values."""

import argparse
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SSRNetHubError
from ..utils.defaults import MAX_PIXELS, RUNTIMES

__all__ = [
    "WEIGHTS",
    "add_device_option",
    "add_estimator_options",
    "add_labels_options",
    "add_record_option",
    "add_token_options",
    "add_training_labels_option",
    "add_weights_argument",
    "add_weights_option",
    "at_least_one",
    "need_extra",
    "not_negative",
    "port_number",
    "positive",
    "share",
]

WEIGHTS = "Name from `ssrnet-hub models`, folder, or owner/repo on the Hugging Face Hub"


@contextmanager
def need_extra(what: str, extra: str) -> Iterator[None]:
    """Import what comes with an extra of the package.

    Raises:
        SSRNetHubError: It is not installed.
    """
    try:
        yield
    except ImportError as e:
        raise SSRNetHubError(f"{what} needs the extra {extra}: pip install 'ssrnet_hub[{extra}]' ({e}).") from e


def add_weights_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``."""
    parser.add_argument("--weights", type=os.path.expanduser, help=f"{WEIGHTS} (default: the default weights)")


def add_weights_argument(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """Add weights by their place; ``--weights`` does as well."""
    parser.add_argument(
        "weights", nargs="?", default=argparse.SUPPRESS, type=os.path.expanduser, metavar=metavar, help=help
    )
    parser.add_argument("--weights", type=os.path.expanduser, help=argparse.SUPPRESS)


def add_training_labels_option(parser: argparse.ArgumentParser, required: bool) -> None:
    """Add the labels that weights were trained on."""
    parser.add_argument(
        "--labels",
        required=required,
        type=os.path.expanduser,
        metavar="LABELS.csv",
        help="CSV of aligned faces with the splits train and val",
    )


def add_labels_options(parser: argparse.ArgumentParser, columns: str) -> None:
    """Add the labels of faces to measure on, and what is to be known of them."""
    parser.add_argument("--labels", required=True, type=os.path.expanduser, metavar="LABELS.csv", help=columns)
    parser.add_argument("--split", help="Use only the rows of this split (default: all)")
    parser.add_argument("--detect", action="store_true", help="The pictures are photos; use the largest face of each")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="cpu", help="Device to run on, such as cuda (default: %(default)s)")


def add_record_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--record``, for those who keep the package; see `cards.name_to_record`."""
    parser.add_argument(
        "--record",
        action="store_true",
        help="In a clone of ssrnet_hub: save the results to ssrnet_hub/models/eval_results, for the model cards",
    )


class _RefuseToken(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        # not quoted, as in argparse's error for unknown options
        parser.error(
            "tokens are not accepted on the command line, where others can see them: use --token-file FILE, HF_TOKEN, "
            "or `hf auth login`"
        )


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--token-file``, and refuse a token itself."""
    parser.add_argument(
        "--token-file",
        type=os.path.expanduser,
        metavar="FILE",
        help="File with the token for the Hub (default: HF_TOKEN or the one of `hf auth login`)",
    )
    parser.add_argument("--token", nargs="?", action=_RefuseToken, help=argparse.SUPPRESS)


def add_estimator_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `AgeEstimator`."""
    add_weights_option(parser)
    parser.add_argument(
        "--min-face",
        type=positive,
        metavar="N",
        help="Smallest face to detect, in pixels, or below 1 as a share of the photo's short side; larger is faster "
        "(default: 20 pixels or 1/50 of the long side)",
    )
    parser.add_argument(
        "--min-score",
        type=share,
        metavar="P",
        help="Drop detections with a lower score, from 0 to 1 (default: 0.9)",
    )
    parser.add_argument("--device", help="Device to run on, such as cuda (default: the CPU)")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="Runtime of the networks; results are the same (default: the fastest, ONNX Runtime on a CPU)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="Refuse photos and frames with more pixels, width x height (default: %(default)s)",
    )


def at_least_one(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def not_negative(text: str) -> int:
    """A whole number from 0, for argparse."""
    value = int(text)
    if value < 0:
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


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value
