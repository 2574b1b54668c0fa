"""The command `ssrnet-hub average`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["average", *sys.argv[1:]]))
