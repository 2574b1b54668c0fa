"""The command `ssrnet-hub train`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
