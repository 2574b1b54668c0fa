"""Train weights on a labels file: python scripts/train.py --recipe NAME.yaml --labels DIR/labels.csv --output DIR.

On several GPUs, machines or processes: torchrun --nproc-per-node N scripts/train.py ..., or accelerate launch. A run
that was cut off goes on when it is started again.
"""

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.training.loop import Recipe, read_recipe, train

RECIPES = Path(__file__).parent / "recipes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=RECIPES / "ssrnet.utkface.yaml", help="default: %(default)s")
    parser.add_argument("--labels", required=True, help="labels.csv with the columns file, age, split, perhaps gender")
    parser.add_argument("--output", required=True, help="folder for the weights, their config and the log")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU although there is a GPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare chips; default: none")
    changes = parser.add_argument_group("instead of what the recipe says")
    for name, value in asdict(Recipe()).items():
        of_json = {"type": json.loads, "metavar": "JSON"}
        kind = of_json if isinstance(value, dict) else {"type": type(value)}
        changes.add_argument(f"--{name.replace('_', '-')}", **kind)
    args = vars(parser.parse_args())
    recipe, labels, output = args.pop("recipe"), args.pop("labels"), args.pop("output")
    options = {name: args.pop(name) for name in ("cpu", "workers")}
    changed = {name: value for name, value in args.items() if value is not None}
    command = ["python scripts/train.py", "--recipe", Path("scripts/recipes") / Path(recipe).name]
    command += ["--labels", Path(Path(labels).resolve().parent.name) / Path(labels).name, "--output DIR"]
    said = {**changed, **({"start": Path(changed["start"]).name} if "start" in changed else {})}
    for name, value in said.items():
        text = shlex.quote(json.dumps(value)) if isinstance(value, dict) else value
        command.append(f"--{name.replace('_', '-')} {text}")
    try:
        recipe = read_recipe(recipe, **changed)
        print(train(labels, output, recipe, **options, command=" ".join(map(str, command))))
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
