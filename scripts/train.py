"""Train an age model on a labels file: python scripts/train.py --labels DIR/labels.csv --output DIR."""

import argparse
import sys
from dataclasses import fields

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.training import Recipe, train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", required=True, help="labels.csv with the columns file, age, split")
    parser.add_argument("--output", required=True, help="folder for the weights, their config and the log")
    parser.add_argument("--device", default="cpu")
    for field in fields(Recipe):
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, default=field.default, help="default: %(default)s", **kind)
    args = vars(parser.parse_args())
    labels, output, device = args.pop("labels"), args.pop("output"), args.pop("device")
    try:
        print(train(labels, output, Recipe(**args), device))
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
