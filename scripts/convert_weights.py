"""Convert weights that others released: python scripts/convert_weights.py --from keras imdb.h5 OUT_DIR."""

import argparse
import hashlib
import sys

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.convert import convert_keras, convert_torch
from ssrnet_hub.hub import WEIGHTS_FILE

CONVERTERS = {"keras": convert_keras, "torch": convert_torch}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=CONVERTERS,
        help="keras: age weights of the paper's authors (.h5); torch: a pickled state dict of a model of this package",
    )
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT_DIR")
    args = parser.parse_args()
    try:
        directory = CONVERTERS[args.source](args.input, args.output)
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    weights = directory / WEIGHTS_FILE
    print(f"{hashlib.sha256(weights.read_bytes()).hexdigest()}  {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
