"""Push the weights of the zoo, each with its model card.

python scripts/maintain/publish_zoo.py --owner OWNER --official-weights DIR

If run again, it uploads only what changed or failed. The token is taken from --token-file, HF_TOKEN, or `hf auth
login`, in this order.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ssrnet_hub import SSRNetHubError, from_pretrained
from ssrnet_hub.errors import ConversionError
from ssrnet_hub.hub.convert import convert_keras
from ssrnet_hub.hub.files import WEIGHTS_FILE
from ssrnet_hub.hub.push import prepare_repository, push_repository, read_token
from ssrnet_hub.models.zoo import ZOO, Weights
from ssrnet_hub.utils.io import file_digest


def find_folder(weights: Weights, official: Path, temporary: Path) -> Path:
    """Return the folder of weights in the zoo: embedded, or converted from the authors' file.

    Raises:
        ConversionError: The file is not the authors' original.
    """
    if weights.source is None:
        return weights.folder
    folder = convert_keras(official / weights.source, temporary / "converted", gender=bool(weights.ends))
    digest = file_digest(folder / WEIGHTS_FILE)
    if digest != weights.sha256:
        raise ConversionError(
            f"{official / weights.source} is not the authors' original: it converts to weights with SHA-256 {digest}, "
            f"not {weights.sha256}."
        )
    return folder


def publish(weights: Weights, owner: str, official: Path, token: str | None, private: bool | None) -> str:
    repo = f"{owner}/{weights.name}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = find_folder(weights, official, Path(temporary))
        files = prepare_repository(folder, Path(temporary, "repository"), repo)
        push = push_repository(files, repo, private=private, token=token)
        from_pretrained(repo, revision=push.commit, token=token, cache_dir=Path(temporary, "cache"), verify=True)
    return f"{'pushed' if push.changed else 'unchanged'}: {repo} at {push.commit}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owner", required=True, help="user or organization on the Hub")
    parser.add_argument("--official-weights", type=Path, metavar="DIR", help="folder with the authors' .h5 files")
    parser.add_argument("--private", action="store_true", default=None, help="make new repositories private")
    parser.add_argument("--token-file", metavar="FILE", help="file with the token")
    args = parser.parse_args()
    failed = 0
    try:
        token = read_token(args.token_file)
    except SSRNetHubError as e:
        parser.error(str(e))
    for weights in ZOO.values():
        if not weights.embedded and args.official_weights is None:
            print(f"skipped: {weights.name}, converted from the authors' {weights.source}; pass --official-weights DIR")
            continue
        try:
            print(publish(weights, args.owner, args.official_weights, token, args.private), flush=True)
        except SSRNetHubError as e:
            failed += 1
            print(f"error: {weights.name}: {e}", file=sys.stderr, flush=True)
    if failed:
        print(f"error: {failed} failed; run again to retry", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
