"""The command `ssrnet-hub calibrate`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["calibrate", *sys.argv[1:]]))
