"""Push weights with their card to the Hub: python scripts/push_weights.py DIR --repo owner/name.

DIR is a folder that save_pretrained, train.py or convert_weights.py wrote, or its model.safetensors; CHECKPOINT is a
pickled state dict of a model of this package, which is converted first. The token is that of --token-file, else of
HF_TOKEN, else of `hf auth login`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ssrnet_hub import SSRNetHubError, from_pretrained
from ssrnet_hub.errors import UnknownModelError
from ssrnet_hub.hub.convert import convert_torch
from ssrnet_hub.hub.loading import WEIGHTS_FILE
from ssrnet_hub.hub.push import prepare_repository, push_repository, read_token


def find_folder(source: Path, temporary: str) -> Path:
    """The folder of weights that is meant by a path."""
    if source.name == WEIGHTS_FILE:
        return source.parent
    if source.is_file():
        return convert_torch(source, Path(temporary, "converted"))
    if not source.is_dir():
        raise UnknownModelError(f"{source} is no folder and no file: name what train.py or convert_weights.py wrote.")
    return source


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="DIR|CHECKPOINT")
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, made where it is missing")
    parser.add_argument("--tag", help="name the commit, such as v1")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of pushing")
    parser.add_argument("--message", help="first line of the commit")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds the token")
    parser.add_argument(
        "--dry-run",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="push nothing; write the exact files to FOLDER, by default a new temporary one",
    )
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            target = Path(temporary, "repository")
            if args.dry_run is not None:
                target = Path(args.dry_run or tempfile.mkdtemp(prefix="ssrnet-hub-"))
            prepare_repository(find_folder(args.source, temporary), target, args.repo)
            print(f"{target if args.dry_run is not None else args.repo} gets:")
            for path in sorted(p for p in target.rglob("*") if p.is_file()):
                print(f"  {path.stat().st_size:>10,}  {path.relative_to(target).as_posix()}")
            if args.dry_run is not None:
                return 0
            token = read_token(args.token_file)
            push = push_repository(
                target,
                args.repo,
                private=args.private,
                revision=args.revision,
                token=token,
                commit_message=args.message,
                create_pr=args.create_pr,
                tag=args.tag,
            )
            # as a stranger would, from the Hub and not from a cache
            from_pretrained(
                args.repo, revision=push.commit, token=token, cache_dir=Path(temporary, "cache"), verify=True
            )
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(f"{'pushed' if push.changed else 'unchanged'}: {push.commit}. It loads by")
    revision = f', revision="{args.tag or push.revision}"' if args.tag or push.revision != "main" else ""
    print(f'ssrnet_hub.from_pretrained("{args.repo}"{revision})')
    return 0


if __name__ == "__main__":
    sys.exit(main())
