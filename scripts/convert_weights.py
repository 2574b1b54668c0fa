"""The command `ssrnet-hub convert`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
