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
        help="Detect faces in photos and estimate their ages",
        description="Detect faces in photos and estimate their ages. Results go to stdout, messages to stderr. The "
        "exit code is 1 if a photo could not be read.",
    )
    predict.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="Photo, folder (searched with its subfolders, including linked ones), glob, zip of photos, - for a photo "
        "from stdin, or http(s) address",
    )
    predict.add_argument(
        "--gender",
        metavar="WEIGHTS",
        type=os.path.expanduser,
        help="Also predict gender with these weights, as a score from 0 (female) to 1 (male)",
    )
    predict.add_argument(
        "--boxes",
        metavar="FILE.csv",
        type=os.path.expanduser,
        help="Use these bounding boxes instead of detecting faces: CSV with the columns file, x1, y1, x2, y2 in "
        "pixels, a row per face, such as the output of --csv; with PATHs, only for these photos",
    )
    output = predict.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="Print a JSON list with an object per photo")
    output.add_argument("--csv", action="store_true", help="Print CSV with a row per face")
    output.add_argument(
        "--output",
        metavar="FILE",
        type=os.path.expanduser,
        help="For many photos: write FILE.csv or FILE.parquet, a row per face, or FILE.jsonl, an object per photo, "
        "with several processes; progress survives interruption",
    )
    predict.add_argument(
        "--resume",
        action="store_true",
        help="With --output: continue an interrupted job, or add photos that are missing from FILE",
    )
    predict.add_argument(
        "--overwrite",
        action="store_true",
        help="With --output: start over and replace FILE; with --annotate: replace files in DIR, but never one of the "
        "photos",
    )
    predict.add_argument(
        "--workers", type=at_least_one, metavar="N", help="With --output: number of processes (default: one per core)"
    )
    predict.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="With --output: run in processes on this machine (default), or on a Ray cluster (extra ray), which writes "
        "a folder of Parquet files",
    )
    predict.add_argument(
        "--address", help="With --engine ray: address of the cluster (default: start one on this machine)"
    )
    predict.add_argument(
        "--annotate",
        metavar="DIR",
        type=os.path.expanduser,
        help="Write a copy of each photo with bounding boxes and ages to DIR; existing files are kept without "
        "--overwrite. With --explain, also plot the breakdown of each face to NAME.face1.png",
    )
    predict.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="Also fetch photos from this machine and the local network, not only from public hosts",
    )
    predict.add_argument("--explain", action="store_true", help="Show the contribution of each stage to the age")
    add_estimator_options(predict)
    predict.set_defaults(run=run, check=check_options, resumable=is_resumable)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    on_ray = args.engine == "ray"
    if not args.paths and not args.boxes:
        return "name a photo or a folder, or pass --boxes"
    if args.output and args.annotate:
        return "--annotate cannot be combined with --output"
    if not args.output and (args.resume or args.workers or on_ray):
        return "--resume, --workers, and --engine require --output"
    if args.overwrite and not (args.output or args.annotate):
        return "--overwrite requires --output or --annotate"
    if args.overwrite and args.resume:
        return "--resume and --overwrite are mutually exclusive"
    if on_ray and (args.resume or args.overwrite or args.boxes):
        return "--resume, --overwrite, and --boxes cannot be combined with --engine ray"
    if args.address and not on_ray:
        return "--address requires --engine ray"
    return None


def is_resumable(args: argparse.Namespace) -> bool:
    return bool(args.output) and args.engine == "processes"


def run(args: argparse.Namespace) -> int:
    from .photos import predict

    return predict(args)
