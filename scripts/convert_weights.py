"""Convert weights that others released: python scripts/convert_weights.py --from keras imdb.h5 OUT_DIR."""

import argparse
import sys

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.hub.convert import convert_blog, convert_keras, convert_torch
from ssrnet_hub.hub.loading import WEIGHTS_FILE
from ssrnet_hub.utils.io import file_digest

CONVERTERS = {"keras": convert_keras, "blog": convert_blog, "torch": convert_torch}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=CONVERTERS,
        help="keras: weights of the paper's authors (.h5); blog: a pickled state dict of the blog post's PyTorch "
        "network; torch: one of a model of this package",
    )
    parser.add_argument("--gender", action="store_true", help="with keras: the weights are of gender, not of age")
    parser.add_argument("--bgr", action="store_true", help="with blog: trained on pictures as OpenCV reads them")
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT_DIR")
    args = parser.parse_args()
    options = {}
    for option, source in (("gender", "keras"), ("bgr", "blog")):
        if getattr(args, option):
            if args.source != source:
                parser.error(f"--{option} goes with --from {source}")
            options[option] = True
    try:
        directory = CONVERTERS[args.source](args.input, args.output, **options)
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    weights = directory / WEIGHTS_FILE
    print(f"{file_digest(weights)}  {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
