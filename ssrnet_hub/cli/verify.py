"""`ssrnet-hub verify`: check the integrity of weights."""

import argparse
from pathlib import Path
from typing import Optional

from ..errors import DigestError
from .options import WEIGHTS, add_token_options, add_weights_argument

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    verify = commands.add_parser(
        "verify",
        help="Verify weights against their checksums and check tensors",
        description="Load weights and compare their output with the check tensors next to them, or their SHA-256 with "
        "the zoo. The exit code is 1 if they differ, or if there is nothing to compare with.",
    )
    add_weights_argument(verify, "WEIGHTS", WEIGHTS)
    verify.add_argument("--revision", help="Branch, tag, or commit on the Hub")
    add_token_options(verify)
    verify.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    return None if args.weights else "name the weights to verify: a name, a folder, or owner/repo"


def run(args: argparse.Namespace) -> int:
    from ..hub.files import CHECK_FILE, WEIGHTS_FILE
    from ..hub.loading import from_pretrained
    from ..hub.push import read_token
    from ..models.zoo import ZOO
    from ..utils.io import file_digest, is_file, is_folder

    name = args.weights
    named = None if args.revision else ZOO.get(name)
    folder = named.folder if named and named.embedded else Path(name) if not named and is_folder(name) else None
    known = None
    if folder and is_file(folder / WEIGHTS_FILE):
        digest = file_digest(folder / WEIGHTS_FILE)
        known = next((weights for weights in ZOO.values() if weights.sha256 == digest), None)
        if named and known is not named:
            raise DigestError(f"{folder / WEIGHTS_FILE} was modified: its SHA-256 is {digest}, not {named.sha256}.")
    # weights of the zoo are checked by digest, without check tensors
    answers = folder is None or not known or (folder / CHECK_FILE).is_file()
    from_pretrained(name, revision=args.revision, token=read_token(args.token_file), verify=answers)
    ways = ["output matches the check tensors"] * answers
    ways += [f"weights are identical to {known.name} in the zoo"] if known else []
    print(f"{name}: {', and '.join(ways)}")
    return 0
