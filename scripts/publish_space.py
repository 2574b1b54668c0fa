"""Push the demo as a Space to the Hub: python scripts/publish_space.py --repo owner/name.

A Space installs requirements.txt before its other files exist, so the package's source is copied next to app.py. With
--static, push the page that runs entirely in the browser. The token is taken from --token-file, HF_TOKEN, or `hf auth
login`, in this order.
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
    # the browser demo is a separate Space
    ours = shutil.ignore_patterns("__pycache__", ".*", "browser")
    shutil.copytree(ROOT / "demo", directory, ignore=ours, dirs_exist_ok=True)
    shutil.copytree(ROOT / "ssrnet_hub", directory / "ssrnet_hub", ignore=unwanted, dirs_exist_ok=True)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, directory / name)
    return directory


def prepare_static_space(directory: Path) -> Path:
    """Write the files of the static Space, exactly as they are pushed."""
    import build_browser

    build_browser.build(None, directory)
    shutil.copy(build_browser.SOURCE / "space.md", directory / "README.md")
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME")
    parser.add_argument("--static", action="store_true", help="push the page that runs entirely in the browser")
    parser.add_argument("--private", action="store_true", default=None, help="make a new Space private")
    parser.add_argument("--token-file", metavar="FILE", help="file with the token")
    parser.add_argument("--dry-run", metavar="FOLDER", type=Path, help="push nothing; write the exact files to FOLDER")
    args = parser.parse_args()
    prepare = prepare_static_space if args.static else prepare_space
    try:
        if args.dry_run:
            print(prepare(args.dry_run))
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            files = prepare(Path(temporary, "space"))
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
