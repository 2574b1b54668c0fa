"""Average weights that were trained from the same start: python scripts/average.py A B ... --output DIR."""

import argparse
import sys
from pathlib import Path

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.training.average import average_weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="+", help="zoo name, folder or owner/repo")
    parser.add_argument("--output", required=True, help="folder for the mean")
    args = parser.parse_args()
    names = " ".join(Path(name).name for name in args.weights)
    try:
        average_weights(args.weights, args.output, command=f"python scripts/average.py {names} --output DIR")
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
