"""The work of `ssrnet-hub predict`: photos are looked at one by one, or handed to a job."""

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Union

from PIL import Image

from ..batch.local import Counts, Task, predict_files
from ..errors import BoxError, LabelsError, OutputError, PhotoError, SSRNetHubError
from ..images.folders import find_photos
from ..images.formats import Sieve
from ..images.sources import Found, copy_name, find_packed, find_source, open_source, unpack
from ..inference.estimator import AgeEstimator, Face
from ..inference.visualization import draw_faces, plot_breakdown
from ..training.labels import read_boxes
from ..utils.io import assert_free, full_name, is_file, replace_file
from .options import need_extra
from .printing import Result, print_csv, print_json, print_table, tell_error, with_name

__all__ = ["predict"]


def predict(args: argparse.Namespace) -> int:
    """Run `ssrnet-hub predict`; returns the exit code."""
    boxes = read_boxes(args.boxes) if args.boxes else {}
    sieve = Sieve()
    found = find_sources(args.paths or boxes, args.allow_private_urls, sieve)
    if not found:
        raise LabelsError(f"{args.boxes} contains no photos.")
    boxes_of = {full_name(path): own for path, own in boxes.items()}
    tasks = []
    for file, photo, error in found:
        own = boxes_of.get(full_name(file))
        missing = f"{args.boxes} has no row for this photo" if args.boxes and own is None else None
        tasks.append(Task(file, photo, own, error or missing))
    options = {"device": args.device, "gender": args.gender, "max_pixels": args.max_pixels}
    options |= {"min_face": args.min_face, "min_score": args.min_score, "runtime": args.runtime}
    if args.output:
        run = run_on_ray if args.engine == "ray" else run_job
        photos, failed = run(args, tasks, {"model": args.weights, **options})
        print(f"{args.output}: {photos} photos" + (f", {failed} of them not read" if failed else ""), file=sys.stderr)
        return 1 if tell_left_out(sieve) or failed else 0
    estimator = AgeEstimator(args.weights, **options)
    names = unique_names([task.file for task in tasks])
    if args.annotate:
        check_copies(Path(args.annotate), names, args.overwrite)
    look = Look(estimator, args, names)
    results = look(tasks)
    if args.json:
        print_json(results, args.explain)
    elif args.csv:
        print_csv(results, args.explain)
    else:
        with_interval = estimator.calibrated
        print_table(results, [task.file for task in tasks], with_interval, args.gender is not None, args.explain)
    if look.failed > 1:
        print(f"error: {look.failed} of {len(tasks)} failed", file=sys.stderr)
    return 1 if tell_left_out(sieve) or look.failed or look.unwritten else 0


class Look:
    """Processes photos one by one, writes annotated copies, and reports errors immediately.

    Attributes:
        failed: Photos that could not be read.
        unwritten: Copies that could not be written.
    """

    def __init__(self, estimator: AgeEstimator, args: argparse.Namespace, names: dict[str, str]):
        self._estimator, self._args, self._names = estimator, args, names
        self.failed = self.unwritten = 0

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the faces of each photo, lazily: output appears before the next photo is processed."""
        args = self._args
        photos: Iterable[Task] = tasks
        # rows on a terminal show the progress
        if len(tasks) > 1 and (args.json or args.csv or not sys.stdout.isatty()):
            from tqdm import tqdm

            photos = tqdm(tasks, unit="photo", file=sys.stderr, leave=False)
        for task in photos:
            faces: list[Face] = []
            error, pages = task.error, 1
            if error is None:
                try:
                    image = open_source(task.photo, args.max_pixels)
                    pages = image.info.get("pages", 1)
                    faces = self._estimator(image, boxes=task.boxes)
                except (PhotoError, BoxError) as e:
                    error = str(e)
            if error is not None:
                self.failed += 1
                tell_error(with_name(task.file, error))
            elif args.annotate:
                try:
                    self._write_copy(image, faces, Path(args.annotate, self._names[task.file]))
                except SSRNetHubError as e:
                    self.unwritten += 1
                    tell_error(str(e))
            yield task.file, faces, error, pages
            sys.stdout.flush()

    def _write_copy(self, image: Image.Image, faces: list[Face], path: Path) -> None:
        self._check(path)
        save_picture(draw_faces(image, faces), path)
        if self._args.explain:
            for number, face in enumerate(faces, start=1):
                breakdown = path.with_name(f"{path.name}.face{number}.png")
                self._check(breakdown)
                save_breakdown(face, breakdown)

    def _check(self, path: Path) -> None:
        # overwriting input photos was ruled out before, as their own copies would have these names
        if not self._args.overwrite:
            assert_free(path)


def tell_left_out(sieve: Sieve) -> bool:
    """Say which pictures in folders and zips cannot be read, if there are any."""
    if sieve.left_out:
        tell_error(str(sieve))
    return bool(sieve.left_out)


def run_job(args: argparse.Namespace, tasks: list[Task], options: dict[str, Any]) -> Counts:
    from tqdm import tqdm

    bar = tqdm(total=len(tasks), unit="photo", file=sys.stderr)

    def begin(done: int) -> None:
        # photos of an earlier job do not count toward the rate
        bar.initial = bar.n = done
        bar.refresh()

    def report(photos: list[dict[str, Any]]) -> None:
        bar.update(len(photos))
        for photo in photos:
            if photo["error"]:
                tell_error(with_name(photo["file"], photo["error"]))

    with bar:
        return predict_files(
            tasks,
            args.output,
            workers=args.workers,
            resume=args.resume,
            overwrite=args.overwrite,
            explain=args.explain,
            report=report,
            begin=begin,
            **options,
        )


def run_on_ray(args: argparse.Namespace, tasks: list[Task], options: dict[str, Any]) -> Counts:
    paths = [task.photo for task in tasks if isinstance(task.photo, Path)]
    if len(paths) < len(tasks):
        raise SSRNetHubError("With --engine ray, photos must be files or folders, not zips, pipes, or web addresses.")
    with need_extra("Ray", "ray"):
        import ray

        from ..batch.ray_data import predict_ray
    try:
        ray.init(args.address, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise SSRNetHubError(f"No Ray cluster at {args.address}: {e}.") from e
    return predict_ray(paths, args.output, concurrency=args.workers, explain=args.explain, **options)


def find_sources(names: Iterable[Union[str, Path]], allow_private_urls: bool, sieve: Sieve) -> list[Found]:
    """The photos that names stand for, each once. A `Path` is that of one photo, as a file of boxes has it."""
    found: dict[str, Found] = {}
    for name in names:
        for one in _find(name, allow_private_urls, sieve):
            # a pipe or the standard input, read already, may be a link to a file
            found.setdefault(one.file if isinstance(one.photo, bytes) else full_name(one.file), one)
    return list(found.values())


def _find(name: Union[str, Path], allow_private_urls: bool, sieve: Sieve) -> list[Found]:
    source = find_source(str(name), allow_private_urls)
    if source:
        return [source]
    photos = [(name, None)] if isinstance(name, Path) else find_photos([os.path.expanduser(name)], sieve)  # noqa: PTH111
    found = []
    for path, error in photos:
        packed = None if is_file(path) else find_packed(path)
        if packed or error:
            found.append(packed or Found(str(path), path, error))
        else:
            found += unpack(path, sieve)
    return found


def unique_names(files: Sequence[str]) -> dict[str, str]:
    """A name for the annotated copy of each photo: its own, numbered where two photos of different folders share it."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for file in files:
        own = Path(copy_name(file))
        # formats that cannot be written, or would lose by it, become PNG
        suffix = own.suffix if own.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else ".png"
        name, number = f"{own.stem}{suffix}", 2
        while name.lower() in taken:
            name, number = f"{own.stem}-{number}{suffix}", number + 1
        taken.add(name.lower())
        names[file] = name
    return names


def check_copies(folder: Path, names: dict[str, str], overwrite: bool) -> None:
    """Refuse annotated copies that would take the place of something."""
    photos = {Path(file).resolve() for file in names}
    for copy in (folder / name for name in names.values()):
        if os.path.lexists(copy) and copy.resolve() in photos:
            raise OutputError(f"The copies would replace the photos in {folder}: choose another folder.")
    for name in () if overwrite else names.values():
        assert_free(folder / name)


def save_picture(image: Image.Image, path: Path) -> None:
    try:
        with replace_file(path) as temporary:
            image.save(temporary, quality=92, icc_profile=image.info.get("icc_profile"))
    except (OSError, ValueError) as e:  # ValueError: more than the format can hold
        raise SSRNetHubError(f"{path} cannot be written: {e}.") from e


def save_breakdown(face: Face, path: Path) -> None:
    try:
        with replace_file(path) as temporary:
            plot_breakdown(face).savefig(temporary, format="png", dpi=110)
    except OSError as e:
        raise SSRNetHubError(f"{path} cannot be written: {e}.") from e
