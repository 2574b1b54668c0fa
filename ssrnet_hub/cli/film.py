"""`ssrnet-hub film`: the people in a video and their ages."""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Optional

from ..errors import OutputError
from ..utils.io import assert_free, full_name, replace_file
from .options import add_estimator_options, positive

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    film = commands.add_parser(
        "film",
        help="Follow the people in a video and estimate their ages",
        description="Follow the people in a video and estimate their ages, smoothed over time. Reads MP4, MOV, WebM, "
        "MKV, AVI, and MJPEG (extra video). Existing files are never replaced, and no partial files are left behind.",
    )
    film.add_argument("film", type=os.path.expanduser, metavar="FILM", help="Video file")
    film.add_argument(
        "--output",
        metavar="COPY.mp4",
        type=os.path.expanduser,
        help="Write a copy with bounding boxes, the numbers of people, and their ages, without sound",
    )
    film.add_argument(
        "--csv",
        metavar="AGES.csv",
        type=os.path.expanduser,
        help="Write a row per person and analyzed frame: seconds, the person's number, age, and 90%% interval, and the "
        "bounding box",
    )
    film.add_argument(
        "--rate", type=positive, default=10.0, metavar="N", help="Frames per second to analyze (default: %(default)g)"
    )
    film.add_argument(
        "--max-seconds",
        type=positive,
        default=3600.0,
        metavar="N",
        help="Refuse longer videos (default: %(default)g)",
    )
    add_estimator_options(film)
    film.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    if args.output or args.csv:
        return None
    return "pass --output COPY.mp4, --csv AGES.csv, or both"


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..batch.records import to_film_rows
    from ..inference.estimator import AgeEstimator
    from ..inference.video import annotate_frames

    if args.output and Path(args.output).suffix.lower() != ".mp4":
        raise OutputError(f"The copy is an MP4 file: {args.output} must end in .mp4.")
    if args.output and args.csv and full_name(args.output) == full_name(args.csv):
        raise OutputError(f"{args.output} cannot be both the copy and the table.")
    for path in filter(None, (args.output, args.csv)):
        assert_free(path)
    options = {"device": args.device, "min_face": args.min_face, "min_score": args.min_score, "runtime": args.runtime}
    estimator = AgeEstimator(args.weights, max_pixels=args.max_pixels, **options)
    frames, people = 0, set()
    # 250 frames a second, and as many pixels as 100 frames of 3840x2160 have
    bounds = {"max_frames": round(250 * args.max_seconds), "max_total_pixels": round(830_000_000 * args.max_seconds)}
    moments = annotate_frames(
        args.film,
        args.output or None,
        estimator,
        rate=args.rate,
        max_seconds=args.max_seconds,
        max_pixels=args.max_pixels,
        **bounds,
    )
    form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with (
        write_film_csv(args.csv) as write,
        closing(moments),
        tqdm(total=1.0, desc="0.0 s ", bar_format=form, file=sys.stderr, leave=False) as bar,
    ):
        for moment in moments:
            if moment is None:
                bar.refresh()
                continue
            frames += 1
            people |= {sighting.person for sighting in moment.people}
            write(to_film_rows(moment.seconds, moment.people))
            bar.set_description_str(f"{moment.seconds:.1f} s ", refresh=False)
            bar.update(moment.progress - bar.n)
    written = " and ".join(filter(None, (args.output, args.csv)))
    print(f"{written}: {len(people)} {'person' if len(people) == 1 else 'people'} in {frames} frames", file=sys.stderr)
    return 0


@contextmanager
def write_film_csv(path: Optional[str]) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Yield a function that adds rows to the table, if any; the file is written if the block succeeds."""
    if not path:
        yield lambda rows: None
        return
    from ..batch.records import FILM_COLUMNS

    try:
        with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FILM_COLUMNS, lineterminator="\n")
            writer.writeheader()
            yield writer.writerows
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror or e}.") from e
