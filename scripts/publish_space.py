"""Push the demo as a Space to the Hub: python scripts/publish_space.py --repo owner/name.

The Space installs requirements.txt before its other files are there, so the package's source lies beside app.py. The
token is that of --token-file, else of HF_TOKEN, else of `hf auth login`.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.hub.push import push_repository, read_token
from ssrnet_hub.utils.io import make_empty_folder

ROOT = Path(__file__).resolve().parent.parent


def prepare_space(directory: Path) -> Path:
    """Write the files of the Space, exactly as they are pushed."""
    make_empty_folder(directory)
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "demo", directory, ignore=unwanted, dirs_exist_ok=True)
    shutil.copytree(ROOT / "ssrnet_hub", directory / "ssrnet_hub", ignore=unwanted, dirs_exist_ok=True)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, directory / name)
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME")
    parser.add_argument("--private", action="store_true", default=None, help="make a new Space private")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds the token")
    parser.add_argument("--dry-run", metavar="FOLDER", type=Path, help="push nothing; write the exact files to FOLDER")
    args = parser.parse_args()
    try:
        if args.dry_run:
            print(prepare_space(args.dry_run))
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            files = prepare_space(Path(temporary, "space"))
            push = push_repository(
                files,
                args.repo,
                private=args.private,
                token=read_token(args.token_file),
                repo_type="space",
                mirror=True,
            )
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(f"{'pushed' if push.changed else 'unchanged'}: {push.commit}, the Space is {args.repo}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
