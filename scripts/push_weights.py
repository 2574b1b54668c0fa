"""The command `ssrnet-hub push`, in a clone."""

import sys

from ssrnet_hub.cli import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
