"""`ssrnet-hub predict`: photos to ages."""

import argparse
import os
from typing import Optional

from .options import add_estimator_options, at_least_one

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    predict = commands.add_parser(
        "predict",
        help="find the faces in photos and tell their ages",
        description="Find the faces in photos and tell their ages. Results go to stdout, the rest to stderr. "
        "Exit code 1 if a photo could not be read.",
    )
    predict.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="photo, folder (searched with its subfolders, linked ones too), glob, zip of photos, - for a photo from "
        "stdin, or http(s) address",
    )
    predict.add_argument(
        "--gender",
        metavar="WEIGHTS",
        type=os.path.expanduser,
        help="tell as well a score from 0, female, to 1, male, by these weights; named as for --weights",
    )
    predict.add_argument(
        "--boxes",
        metavar="FILE.csv",
        type=os.path.expanduser,
        help="where the faces are, instead of looking for them: the columns file, x1, y1, x2, y2 in pixels, a row a "
        "face; with PATHs only of these photos, else of all in it. What --csv prints is such a file",
    )
    output = predict.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a JSON list with one object a photo")
    output.add_argument("--csv", action="store_true", help="print CSV with one row a face")
    output.add_argument(
        "--output",
        metavar="FILE",
        type=os.path.expanduser,
        help="for many photos: write FILE.csv or FILE.parquet, a row a face, or FILE.jsonl, an object a photo, by "
        "several processes; what they have done outlasts a kill",
    )
    predict.add_argument(
        "--resume",
        action="store_true",
        help="with --output, go on where a job that was cut off left off, or add photos that FILE lacks",
    )
    predict.add_argument(
        "--overwrite",
        action="store_true",
        help="with --output, start anew and replace FILE; with --annotate, replace files in DIR, but never one of the "
        "photos",
    )
    predict.add_argument(
        "--workers", type=at_least_one, metavar="N", help="with --output, so many processes; by default one a core"
    )
    predict.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="with --output, what the work is spread by: processes on this machine, or a cluster of Ray (extra ray), "
        "whose output is a folder of Parquet files",
    )
    predict.add_argument("--address", help="with --engine ray, the cluster's; without, one on this machine")
    predict.add_argument(
        "--annotate",
        metavar="DIR",
        type=os.path.expanduser,
        help="write a copy of each photo with boxes and ages to DIR, where no file is replaced without --overwrite; "
        "with --explain also a picture of how the network got to the age of each face, NAME.face1.png",
    )
    predict.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="fetch photos from hosts of this machine and the local network as well, not from public ones alone",
    )
    predict.add_argument("--explain", action="store_true", help="tell how the stages of the network got to each age")
    add_estimator_options(predict)
    predict.set_defaults(run=run, check=check_options, resumable=is_resumable)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """What is wrong with a call of predict, if anything is."""
    on_ray = args.engine == "ray"
    if not args.paths and not args.boxes:
        return "name a photo, a folder, or a file of boxes that names photos"
    if args.output and args.annotate:
        return "--annotate is not for --output"
    if not args.output and (args.resume or args.workers or on_ray):
        return "--resume, --workers and --engine are for --output"
    if args.overwrite and not (args.output or args.annotate):
        return "--overwrite is for --output and --annotate"
    if args.overwrite and args.resume:
        return "--resume and --overwrite exclude each other"
    if on_ray and (args.resume or args.overwrite or args.boxes):
        return "--resume, --overwrite and --boxes are not for --engine ray"
    if args.address and not on_ray:
        return "--address is for --engine ray"
    return None


def is_resumable(args: argparse.Namespace) -> bool:
    return bool(args.output) and args.engine == "processes"


def run(args: argparse.Namespace) -> int:
    from .photos import predict

    return predict(args)
