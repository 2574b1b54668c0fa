"""The command `ssrnet-hub compare`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
