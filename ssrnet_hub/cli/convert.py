"""`ssrnet-hub convert`: weights that others released."""

import argparse
import os
from typing import Optional

__all__ = ["add_parser"]

SOURCES = ("keras", "blog", "torch")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    convert = commands.add_parser(
        "convert",
        help="Convert released weights to safetensors",
        description="Convert released weights to safetensors, and print their SHA-256.",
    )
    convert.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=SOURCES,
        help="Format: keras for weights of the paper's authors (.h5, extra convert), blog for a pickled state dict of "
        "the blog post's PyTorch network, torch for one of a model of this package",
    )
    convert.add_argument("--gender", action="store_true", help="With keras: the weights predict gender, not age")
    convert.add_argument("--bgr", action="store_true", help="With blog: trained on BGR images, as OpenCV loads them")
    convert.add_argument("input", metavar="IN", type=os.path.expanduser, help="File to convert")
    convert.add_argument("output", metavar="OUT_DIR", type=os.path.expanduser, help="Folder for the weights")
    convert.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    for option, source in (("gender", "keras"), ("bgr", "blog")):
        if getattr(args, option) and args.source != source:
            return f"--{option} requires --from {source}"
    return None


def run(args: argparse.Namespace) -> int:
    from ..hub.convert import convert_blog, convert_keras, convert_torch
    from ..hub.files import WEIGHTS_FILE
    from ..utils.io import file_digest

    if args.source == "keras":
        directory = convert_keras(args.input, args.output, gender=args.gender)
    elif args.source == "blog":
        directory = convert_blog(args.input, args.output, bgr=args.bgr)
    else:
        directory = convert_torch(args.input, args.output)
    weights = directory / WEIGHTS_FILE
    print(f"{file_digest(weights)}  {weights}")
    return 0
