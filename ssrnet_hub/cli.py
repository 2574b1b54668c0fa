"""The command ``ssrnet-hub``."""

import argparse
import csv
import errno
import io
import json
import math
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Optional, Union

from PIL import Image
from tqdm import tqdm

from . import __version__
from .batch.local import Counts, Task, predict_files
from .batch.records import FILM_COLUMNS, columns_of, describe_photo, to_film_rows, write_csv
from .errors import BoxError, LabelsError, OutputError, PhotoError, SSRNetHubError
from .hub.loading import get_extras
from .images.folders import find_photos
from .images.formats import Sieve
from .images.loading import MAX_PIXELS
from .images.sources import Found, copy_name, find_packed, find_source, open_source, unpack
from .inference.backends import RUNTIMES
from .inference.estimator import AgeEstimator, Face
from .inference.visualization import draw_faces, plot_breakdown
from .models.pretrained import DEFAULT, OWNER_VARIABLE, ZOO, count_parameters, list_models
from .training.labels import read_boxes
from .utils.io import assert_free, full_name, is_file, on_one_line, printable, replace_file

__all__ = ["main"]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; answers the exit code: 0, or 1 where something failed, or 2 where the call is wrong."""
    parser = argparse.ArgumentParser("ssrnet-hub", description="The age of every face in a photo, with SSR-Net.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

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
        help="write a copy of each photo with boxes and ages to DIR, where no file is replaced; with --explain "
        "also a picture of how the network got to the age of each face, NAME.face1.png",
    )
    predict.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="fetch photos from hosts of this machine and the local network as well, not from public ones alone",
    )
    predict.add_argument("--explain", action="store_true", help="tell how the stages of the network got to each age")
    add_estimator_options(predict)
    predict.set_defaults(run=run_predict)

    film = commands.add_parser(
        "film",
        help="follow the people in a film and tell their ages",
        description="Follow the people in a film and tell their ages, smoothed over time. MP4, MOV, WebM, MKV, AVI and "
        "MJPEG files are read (extra video). No file is replaced; what cannot be finished is not there.",
    )
    film.add_argument("film", type=os.path.expanduser, metavar="FILM")
    film.add_argument(
        "--output",
        metavar="COPY.mp4",
        type=os.path.expanduser,
        help="write a copy with boxes, numbers of people and their ages, without sound",
    )
    film.add_argument(
        "--csv",
        metavar="AGES.csv",
        type=os.path.expanduser,
        help="write a row for each person in each frame that was looked at: seconds, the person's number and age, "
        "between which ages the true one lies in 9 of 10 cases, and the box",
    )
    film.add_argument(
        "--rate", type=positive, default=10.0, metavar="N", help="frames a second to look at (default: %(default)g)"
    )
    film.add_argument(
        "--max-seconds",
        type=positive,
        default=3600.0,
        metavar="N",
        help="refuse longer films (default: %(default)g)",
    )
    add_estimator_options(film)
    film.set_defaults(run=run_film)

    models = commands.add_parser("models", help="list the weights that have a name")
    models.set_defaults(run=run_models)

    demo = commands.add_parser(
        "demo",
        help="serve the web page",
        description="Serve the web page: photos in, ages out, and how the network got there. Ctrl+C ends it.",
    )
    demo.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines as well (default: %(default)s)")
    demo.add_argument("--port", type=port_number, help="the first free one from 7860 without")
    demo.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which the page answers, such as age.example.org behind a proxy; may be repeated. By "
        "default it answers under those of this machine alone, or with --host 0.0.0.0 under any",
    )
    demo.add_argument("--mcp", action="store_true", help="serve its endpoints as MCP tools as well (extra mcp)")
    demo.set_defaults(run=run_demo)

    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # names of files may hold what the terminal or file cannot
            stream.reconfigure(errors="backslashreplace")
    if args.command == "predict" and (wrong := check_options(args)):
        predict.error(wrong)
    if args.command == "film" and not (args.output or args.csv):
        film.error("name a copy to write, --output COPY.mp4, or a table, --csv AGES.csv, or both")
    if not args.command:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except SSRNetHubError as e:
        print(f"error: {on_one_line(str(e))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        resumable = args.command == "predict" and args.output and args.engine == "processes"
        print("error: interrupted" + ("; --resume goes on" if resumable else ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read the output, such as head, has seen enough; the flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


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


def check_options(args: argparse.Namespace) -> Optional[str]:
    """What is wrong with a call of predict, if anything is."""
    on_ray = args.engine == "ray"
    if not args.paths and not args.boxes:
        return "name a photo, a folder, or a file of boxes that names photos"
    if args.output and args.annotate:
        return "--annotate is not for --output"
    if not args.output and (args.resume or args.workers or on_ray):
        return "--resume, --workers and --engine are for --output"
    if on_ray and (args.resume or args.boxes):
        return "--resume and --boxes are not for --engine ray"
    if args.address and not on_ray:
        return "--address is for --engine ray"
    return None


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


def run_models(args: argparse.Namespace) -> int:
    rows = []
    for name in list_models():
        weights = ZOO[name]
        where = "in this package" if weights.embedded else weights.repo or f"the Hub, once {OWNER_VARIABLE} is set"
        notes = "the default" if name == DEFAULT else "gender" if weights.ends else ""
        rows.append((name, f"{count_parameters(name):,}", where, weights.license, notes))
    print(table(("name", "parameters", "where", "licence", ""), rows))
    return 0


def run_demo(args: argparse.Namespace) -> int:
    try:
        from .webapp import launch
    except ImportError as e:
        raise SSRNetHubError(f"The web page needs the extra demo: pip install 'ssrnet_hub[demo]' ({e}).") from e
    try:
        launch(server_name=args.host, server_port=args.port, mcp_server=args.mcp, allowed_hosts=args.allowed_host)
    except OSError as e:
        reason = why_taken(args.host, args.port) or str(e)
        raise SSRNetHubError(
            f"The web page cannot be served on {args.host}" + (f", port {args.port}: " if args.port else ": ") + reason
        ) from e
    return 0


def why_taken(host: str, port: Optional[int]) -> Optional[str]:
    """Why nothing can be served there, if so: of all that goes wrong, Gradio says that there is no free port."""
    try:
        socket.create_server((host, port or 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as e:
        # Python adds where it was, which is said anyway
        reason = (e.strerror or str(e)).partition(" (while ")[0]
        return f"{reason}. Name another by --{'port' if e.errno == errno.EADDRINUSE else 'host'}."
    return None


Result = tuple[str, list[Face], Optional[str], int]
"""File, its faces, what went wrong, and how many pages it has."""


def run_predict(args: argparse.Namespace) -> int:
    boxes = read_boxes(args.boxes) if args.boxes else {}
    sieve = Sieve()
    found = find_sources(args.paths or boxes, args.allow_private_urls, sieve)
    if not found:
        raise LabelsError(f"{args.boxes} names no photos.")
    boxes_of = {full_name(path): own for path, own in boxes.items()}
    tasks = []
    for file, photo, error in found:
        own = boxes_of.get(full_name(file))
        missing = f"{args.boxes} has no row of this photo" if args.boxes and own is None else None
        tasks.append(Task(file, photo, own, error or missing))
    options = {"device": args.device, "gender": args.gender, "max_pixels": args.max_pixels}
    options |= {"min_face": args.min_face, "runtime": args.runtime}
    if args.output:
        run = run_on_ray if args.engine == "ray" else run_job
        photos, failed = run(args, tasks, {"model": args.weights, **options})
        print(f"{args.output}: {photos} photos" + (f", {failed} of them not read" if failed else ""), file=sys.stderr)
        return 1 if tell_left_out(sieve) or failed else 0
    estimator = AgeEstimator(args.weights, **options)
    names = unique_names([task.file for task in tasks])
    if args.annotate:
        check_copies(Path(args.annotate), names)
    look = Look(estimator, args, names)
    results = look(tasks)
    if args.json:
        print_json(results, args.explain)
    elif args.csv:
        print_csv(results, args.explain)
    else:
        with_interval = get_extras(estimator.model).get("calibration") is not None
        print_table(results, [task.file for task in tasks], with_interval, args.gender is not None, args.explain)
    if look.failed > 1:
        print(f"error: {look.failed} of {len(tasks)} failed", file=sys.stderr)
    return 1 if tell_left_out(sieve) or look.failed or look.unwritten else 0


class Look:
    """Looks at photos one by one, writes their annotated copies, and tells errors as soon as they are met.

    Attributes:
        failed: Photos that could not be read.
        unwritten: Copies that could not be written.
    """

    def __init__(self, estimator: AgeEstimator, args: argparse.Namespace, names: dict[str, str]):
        self._estimator, self._args, self._names = estimator, args, names
        self.failed = self.unwritten = 0

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """What is found in each photo; what was made of it is seen before the next one is looked at."""
        args = self._args
        # rows on a terminal say how far it is
        tells = not (args.json or args.csv) and sys.stdout.isatty()
        for task in tqdm(tasks, unit="photo", file=sys.stderr, disable=len(tasks) < 2 or tells, leave=False):
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
        save_picture(draw_faces(image, faces), path)
        if self._args.explain:
            for number, face in enumerate(faces, start=1):
                save_breakdown(face, path.with_name(f"{path.name}.face{number}.png"))


def tell_left_out(sieve: Sieve) -> bool:
    """Say which pictures in folders and zips cannot be read, if there are any."""
    if sieve.left_out:
        tell_error(str(sieve))
    return bool(sieve.left_out)


def tell_error(error: str) -> None:
    # beside the progress bar, where there is one
    tqdm.write(f"error: {on_one_line(error)}", file=sys.stderr)


def run_film(args: argparse.Namespace) -> int:
    from .inference.video import annotate_frames

    if args.output and Path(args.output).suffix.lower() != ".mp4":
        raise OutputError(f"A copy is an MP4, and has to be called so: {args.output} is not.")
    if args.output and args.csv and full_name(args.output) == full_name(args.csv):
        raise OutputError(f"{args.output} cannot be both the copy and the table.")
    for path in filter(None, (args.output, args.csv)):
        assert_free(path)
    options = {"device": args.device, "min_face": args.min_face, "runtime": args.runtime}
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
    print(f"{written}: {len(people)} people in {frames} frames", file=sys.stderr)
    return 0


@contextmanager
def write_film_csv(path: Optional[str]) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """What writes rows to a table, if there is to be one; it is there when the block ends well."""
    if not path:
        yield lambda rows: None
        return
    try:
        with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FILM_COLUMNS, lineterminator="\n")
            writer.writeheader()
            yield writer.writerows
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror or e}.") from e


def run_job(args: argparse.Namespace, tasks: list[Task], options: dict[str, Any]) -> Counts:
    bar = tqdm(total=len(tasks), unit="photo", file=sys.stderr)

    def begin(done: int) -> None:
        # what an earlier job has done says nothing of the rate
        bar.initial = bar.n = done
        bar.refresh()

    def report(photos: list[dict[str, Any]]) -> None:
        bar.update(len(photos))
        for photo in photos:
            if photo["error"]:
                tell_error(with_name(photo["file"], photo["error"]))

    with bar:
        return predict_files(
            [task._replace(file=printable(task.file)) for task in tasks],
            args.output,
            workers=args.workers,
            resume=args.resume,
            explain=args.explain,
            report=report,
            begin=begin,
            **options,
        )


def run_on_ray(args: argparse.Namespace, tasks: list[Task], options: dict[str, Any]) -> Counts:
    paths = [task.photo for task in tasks if isinstance(task.photo, Path)]
    if len(paths) < len(tasks):
        raise SSRNetHubError("A cluster reads photos from files and folders alone, not from zips, pipes or the web.")
    try:
        import ray

        from .batch.ray_data import predict_ray
    except ImportError as e:
        raise SSRNetHubError(f"Ray needs the extra ray: pip install 'ssrnet_hub[ray]' ({e}).") from e
    try:
        ray.init(args.address, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise SSRNetHubError(f"There is no cluster of Ray at {args.address}: {e}.") from e
    return predict_ray(paths, args.output, concurrency=args.workers, explain=args.explain, **options)


def with_name(file: str, error: str) -> str:
    return error if error.startswith(file) else f"{file}: {error}"


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


def check_copies(folder: Path, names: dict[str, str]) -> None:
    """Refuse annotated copies that would take the place of something."""
    photos = {Path(file).resolve() for file in names}
    for copy in (folder / name for name in names.values()):
        if os.path.lexists(copy) and copy.resolve() in photos:
            raise OutputError(f"The copies would replace the photos in {folder}: name another folder.")
    for name in names.values():
        assert_free(folder / name)


def save_picture(image: Image.Image, path: Path) -> None:
    assert_free(path)
    try:
        with replace_file(path) as temporary:
            image.save(temporary, quality=92, icc_profile=image.info.get("icc_profile"))
    except (OSError, ValueError) as e:  # ValueError: more than the format can hold
        raise SSRNetHubError(f"{path} cannot be written: {e}.") from e


def save_breakdown(face: Face, path: Path) -> None:
    assert_free(path)
    try:
        with replace_file(path) as temporary:
            plot_breakdown(face).savefig(temporary, format="png", dpi=110)
    except OSError as e:
        raise SSRNetHubError(f"{path} cannot be written: {e}.") from e


def print_json(results: Iterable[Result], explain: bool) -> None:
    print(json.dumps(list(describe(results, explain)), indent=2))


def print_csv(results: Iterable[Result], explain: bool) -> None:
    write_csv(sys.stdout, describe(results, explain), columns_of(explain))


def describe(results: Iterable[Result], explain: bool) -> Iterator[dict[str, Any]]:
    return (describe_photo(file, faces, error, explain, pages) for file, faces, error, pages in results)


def print_table(
    results: Iterable[Result], files: Sequence[str], with_interval: bool, with_gender: bool, explain: bool
) -> None:
    """Print a row for each face as soon as it is known, in columns of a width that does not depend on what comes."""
    columns = {"file": min(max(len(on_one_line(file)) for file in files), _WIDEST_FILE), "face": 4, "age": 7}
    columns |= {"9 of 10 times": 13} if with_interval else {}
    columns |= {"female 0 .. 1 male": 18} if with_gender else {}
    columns |= {"score": 5, "box (x1 y1 x2 y2)": 19, "stages" if explain else "": 0}
    print_row(columns, columns.values())
    doubtful, of_pages = False, []
    for name, faces, error, pages in results:
        file = on_one_line(name)
        if pages > 1:
            of_pages.append(f"{file}: {pages} pages, only the largest was looked at")
        for number, face in enumerate(faces, start=1):
            doubtful = doubtful or face.reliable is False
            row: list[Any] = [file, number, f"{face.age:.1f}" + " ?" * (face.reliable is False)]
            if with_interval:
                interval = face.interval()
                row.append("{:.0f} to {:.0f}".format(*interval) if interval else "")
            if with_gender:
                row.append(f"{face.gender_score:.2f}")
            row += [
                f"{face.score:.2f}",
                " ".join(f"{v:.0f}" for v in face.box or ()),
                face.explain() if explain else "",
            ]
            print_row(row, columns.values())
        if not faces:
            blank = [""] * (len(columns) - 3)
            print_row([file, *blank, "not read" if error else "no face found", ""], columns.values())
    if doubtful:
        print("?: this looks too little like a face for its age to be trusted", file=sys.stderr)
    for note in of_pages:
        print(note, file=sys.stderr)


_WIDEST_FILE = 100
"""Characters; a longer name moves the columns of its own rows alone."""


def print_row(cells: Iterable[Any], widths: Iterable[int]) -> None:
    line = "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    print(line.rstrip(), flush=True)


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
