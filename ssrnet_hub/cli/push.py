"""`ssrnet-hub push`: weights with their card to the Hub."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Optional

from ..errors import UnknownModelError
from .options import add_token_options, add_weights_argument

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    push = commands.add_parser(
        "push",
        help="Push weights with a model card to the Hugging Face Hub",
        description="Push weights with a model card and check tensors to the Hugging Face Hub in one commit, then load "
        "them from there to verify the upload.",
    )
    add_weights_argument(
        push,
        "DIR|CHECKPOINT",
        "Folder written by save_pretrained, train, calibrate, or convert, or its model.safetensors; the name of "
        "weights in this package; or a pickled state dict of a model of this package, which is converted first",
    )
    push.add_argument(
        "repo",
        nargs="?",
        default=argparse.SUPPRESS,
        metavar="OWNER/NAME",
        help="Repository; created if it does not exist",
    )
    push.add_argument("--repo", metavar="OWNER/NAME", help="Same as the argument")
    push.add_argument("--private", action="store_true", default=None, help="Make a new repository private")
    push.add_argument("--revision", metavar="BRANCH", help="Push to this branch; created if it does not exist")
    push.add_argument("--create-pr", action="store_true", help="Open a pull request instead of pushing")
    push.add_argument("--commit-message", metavar="TEXT", help="Summary of the commit")
    push.add_argument("--message", dest="commit_message", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    push.add_argument("--tag", help="Tag the commit, such as v1")
    add_token_options(push)
    push.add_argument(
        "--dry-run",
        nargs="?",
        const="",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="Push nothing; write the files to FOLDER (default: a new temporary folder)",
    )
    push.set_defaults(run=run, check=check_options)


def check_options(args: argparse.Namespace) -> Optional[str]:
    """Return the error in the arguments, if any."""
    if not args.weights:
        return "name the weights to push: a folder or a checkpoint"
    return None if args.repo else "name the repository to push to: owner/name, after the weights or with --repo"


def run(args: argparse.Namespace) -> int:
    from ..hub.loading import from_pretrained
    from ..hub.push import prepare_repository, push_repository, read_token

    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary, "repository")
        if args.dry_run is not None:
            target = Path(args.dry_run or tempfile.mkdtemp(prefix="ssrnet-hub-"))
        prepare_repository(find_folder(Path(args.weights), temporary), target, args.repo)
        print(f"{target if args.dry_run is not None else args.repo} gets:")
        for path in sorted(p for p in target.rglob("*") if p.is_file()):
            print(f"  {path.stat().st_size:>10,}  {path.relative_to(target).as_posix()}")
        if args.dry_run is not None:
            print("Dry run: nothing was pushed.")
            return 0
        token = read_token(args.token_file)
        push = push_repository(
            target,
            args.repo,
            commit_message=args.commit_message,
            private=args.private,
            revision=args.revision,
            create_pr=args.create_pr,
            token=token,
            tag=args.tag,
        )
        # as a stranger would, from the Hub and not from a cache
        from_pretrained(args.repo, revision=push.commit, token=token, cache_dir=Path(temporary, "cache"), verify=True)
    print(f"{'pushed' if push.changed else 'unchanged'}: {push.commit}. Load it with")
    revision = f', revision="{args.tag or push.revision}"' if args.tag or push.revision != "main" else ""
    print(f'ssrnet_hub.from_pretrained("{args.repo}"{revision})')
    return 0


def find_folder(source: Path, temporary: str) -> Path:
    """The folder of weights that is meant by a path."""
    from ..hub.convert import convert_torch
    from ..hub.files import WEIGHTS_FILE
    from ..models.zoo import embedded_folder

    if folder := embedded_folder(str(source)):
        return folder
    if source.name == WEIGHTS_FILE:
        return source.parent
    if source.is_file():
        return convert_torch(source, Path(temporary, "converted"))
    if not source.is_dir():
        raise UnknownModelError(
            f"{source} is neither a folder nor a file: pass one written by save_pretrained, `ssrnet-hub train`, or "
            "`ssrnet-hub convert`."
        )
    return source
