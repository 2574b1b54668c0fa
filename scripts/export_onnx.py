"""The command `ssrnet-hub export`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
