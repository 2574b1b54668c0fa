"""The command `ssrnet-hub evaluate`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
