"""`ssrnet-hub train`: a labels file to weights."""

import argparse
import json
import os
import shlex
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, OutputError
from ..training.recipe import Recipe, describe_fields, read_recipe
from .options import need_extra, not_negative

__all__ = ["add_parser"]

RECIPES = Path(__file__).resolve().parents[1] / "training" / "recipes"
DEFAULT = "ssrnet.utkface"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    train = commands.add_parser(
        "train",
        help="Train weights on labeled faces",
        description="Train weights on aligned, labeled faces (extra train). On several GPUs, machines, or processes, "
        "use torchrun --nproc-per-node N -m ssrnet_hub.cli train ..., or accelerate launch.",
    )
    train.add_argument(
        "--recipe",
        type=os.path.expanduser,
        default=DEFAULT,
        help=f"YAML file, or a recipe of this package: {', '.join(recipe_names())} (default: %(default)s)",
    )
    train.add_argument(
        "--labels",
        type=os.path.expanduser,
        required=True,
        action="append",
        metavar="LABELS.csv",
        help="CSV of aligned faces with the columns file, age (or age_min and age_max), and split (train or val), and "
        "optionally gender; repeatable",
    )
    train.add_argument(
        "--teacher",
        type=os.path.expanduser,
        action="append",
        default=[],
        metavar="WEIGHTS",
        help="Weights to distill from, in addition to the labels, with the share --teaching of the loss: "
        "a name, a folder, or the archive of @vladmandic/face-api (.tgz); repeatable",
    )
    train.add_argument(
        "--output",
        type=os.path.expanduser,
        required=True,
        metavar="DIR",
        help="Folder for the weights, their config, and the log",
    )
    again = train.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="Continue the interrupted run in DIR after its last complete epoch, or start one if there is none",
    )
    again.add_argument("--overwrite", action="store_true", help="Start over, and remove the run in DIR")
    train.add_argument("--cpu", action="store_true", help="Train on the CPU even if there is a GPU")
    train.add_argument(
        "--workers", type=not_negative, default=0, metavar="N", help="Worker processes that load data (default: 0)"
    )
    changes = train.add_argument_group("recipe overrides", "Each defaults to its value in the recipe.")
    texts = describe_fields()
    for field in fields(Recipe):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        of_json = {"type": json.loads, "metavar": "JSON"}
        of_itself = {"type": str if default is None else type(default)}
        kind: dict[str, Any] = of_json if isinstance(default, dict) else of_itself
        changes.add_argument(f"--{field.name.replace('_', '-')}", **kind, help=texts.get(field.name))
    train.set_defaults(run=run, resumable=lambda args: True)


def run(args: argparse.Namespace) -> int:
    with need_extra("Training", "train"):
        from ..training.loop import train

    path = find_recipe(args.recipe)
    changed = {field.name: value for field in fields(Recipe) if (value := getattr(args, field.name)) is not None}
    recipe = read_recipe(path, **changed)
    check_output(Path(args.output), args.resume, args.overwrite)
    command = describe(path, [Path(labels) for labels in args.labels], args.teacher, changed)
    options = {"teachers": args.teacher, "cpu": args.cpu, "workers": args.workers, "overwrite": args.overwrite}
    print(train(args.labels, args.output, recipe, **options, command=command))
    return 0


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe, by its path or by the name of one of this package."""
    path = Path(name)
    own = RECIPES / f"{path.name.removesuffix('.yaml')}.yaml"
    # the path that cards state
    if not path.is_file() and own.is_file() and path.parent.as_posix() in (".", "scripts/recipes"):
        return own
    if not path.is_file() and path.name == name and path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"{name!r} is neither a file nor a recipe of this package, which has {', '.join(recipe_names())}."
        )
    return path


def check_output(output: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to touch an existing run without --resume or --overwrite.

    Raises:
        OutputError: There is one.
    """
    from ..hub.files import WEIGHTS_FILE
    from ..training.loop import LOG, STATE

    cut_off = (output / STATE).exists()
    finished = not cut_off and any((output / name).exists() for name in (LOG, WEIGHTS_FILE))
    if cut_off and not (resume or overwrite):
        raise OutputError(f"{output} contains an interrupted run: --resume continues it, --overwrite starts over.")
    if finished and not overwrite:
        raise OutputError(
            f"{output} already contains trained weights: train them further with --start {output} and another "
            "--output, or replace them with --overwrite."
        )


def describe(recipe: Path, labels: list[Path], teachers: list[str], changed: dict[str, Any]) -> str:
    """The command that reproduces the weights, without local paths."""
    name = recipe.stem if recipe.parent == RECIPES else recipe.name
    command = ["ssrnet-hub train", "--recipe", shlex.quote(name)]
    command += [f"--labels {shlex.quote(f'{path.resolve().parent.name}/{path.name}')}" for path in labels]
    command += [f"--teacher {shlex.quote(Path(teacher).name)}" for teacher in teachers]
    command += ["--output DIR"]
    said = {**changed, **({"start": Path(changed["start"]).name} if "start" in changed else {})}
    for option, value in said.items():
        text = shlex.quote(json.dumps(value) if isinstance(value, dict) else str(value))
        command.append(f"--{option.replace('_', '-')} {text}")
    return " ".join(command)
