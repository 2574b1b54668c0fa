"""Download weights from the Hugging Face Hub to the cache. Imports huggingface_hub."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional, TypeVar, Union

from filelock import FileLock
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import CheckError, CorruptWeightsError, HubError, UnknownModelError, WeightsNotFoundError
from ..utils.io import file_digest, git_digest
from .files import CHECK_FILE, CONFIG_FILE, WEIGHTS_FILE, missing_weights

__all__ = ["check_token", "download"]


def download(
    repo: str,
    revision: Optional[str],
    token: Union[str, bool, None],
    cache_dir: Optional[Path],
    local_files_only: bool,
    files: list[str],
) -> Path:
    """Download files of a repository, or take them from the cache.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag, or commit.
        token: As in `from_pretrained`.
        cache_dir: Folder for downloads. Default: the cache of huggingface_hub.
        local_files_only: Use only files that were downloaded before.
        files: Names of the files.

    Returns:
        A folder with the files that exist in the repository.

    Raises:
        HubError: The files could not be downloaded; `CheckError` if only the check tensors are missing.
        UnknownModelError: The name of the repository is invalid.
        WeightsNotFoundError: The repository has no weights or no config.
        CorruptWeightsError: A file differs from its checksum on the Hub.
    """
    where = f"{repo} at revision {revision}" if revision else repo
    cache = cache_dir or constants.HF_HUB_CACHE
    check_token(token)

    def fetch() -> Path:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=files,
            )
        )

    try:
        folder = _retry(fetch)
        damaged = _find_damaged(folder, files)
        if damaged or not (local_files_only or all((folder / name).is_file() for name in files)):
            # a file may be damaged, or another process may just be replacing it in the same cache
            with FileLock(folder.parent.parent / ".mend.lock"):
                damaged = _remove_damaged(folder, files)
                if not local_files_only:
                    folder = _retry(fetch)
                    damaged = _remove_damaged(folder, files)
    except GatedRepoError as e:
        raise HubError(
            f"{repo} is a gated repository: accept its terms at https://huggingface.co/{repo}, then pass token= or set "
            "HF_TOKEN."
        ) from e
    except RevisionNotFoundError as e:
        raise HubError(f"Revision {revision!r} not found in {repo}: pass an existing branch, tag, or commit.") from e
    except RepositoryNotFoundError as e:
        raise HubError(
            f"Repository {repo} not found on the Hub. Check the name; if the repository is private, pass token= or set "
            "HF_TOKEN."
        ) from e
    except HFValidationError as e:
        raise UnknownModelError(f"{where} is not a valid repository name: {e}") from e
    except LocalEntryNotFoundError as e:
        why = "the Hub is unreachable or requests are disabled" + (f" ({e.__cause__!s:.200})" if e.__cause__ else "")
        if CHECK_FILE in files and _is_cached(repo, revision, cache_dir, [CONFIG_FILE, WEIGHTS_FILE]):
            raise CheckError(
                f"The check tensors of {where} are not in the cache {cache}, and {why}. Load it once with verify=True "
                "and a network connection, or load it without verify=True."
            ) from e
        raise HubError(
            f"{where} is not in the cache {cache}, and {why}. Check your connection, set another cache with cache_dir= "
            "or the environment variable HF_HOME, or download the files on another machine and pass their folder."
        ) from e
    except Exception as e:  # the client may raise anything, due to the network or a server that is not the Hub
        if isinstance(e, OSError) and e.errno is not None:  # from the disk
            raise HubError(
                f"Cannot write {where} to the cache {cache}: {e.strerror}. Pass a writable folder as cache_dir=, or "
                "set the environment variable HF_HOME before importing ssrnet_hub."
            ) from e
        raise HubError(f"Downloading {where} failed: {e!r:.500}") from e
    if damaged:
        raise CorruptWeightsError(
            f"Checksum mismatch for {' and '.join(damaged)} of {where}. The damaged download was removed from the "
            "cache: try again."
        )
    if not (folder / WEIGHTS_FILE).is_file() and not local_files_only:
        try:
            # a single request; list_repo_files would retry for 23 seconds if the Hub is unreachable
            names = [file.rfilename for file in HfApi(token=token).model_info(repo, revision=revision).siblings or ()]
        except Exception:  # as above; the error then only lacks the hint about a pickle
            names = []
        pinned = f" --revision {revision}" if revision else ""
        command = f"hf download {repo} PICKLE {CONFIG_FILE} --local-dir DIR{pinned}"
        raise missing_weights(where, names, command)
    if not (folder / CONFIG_FILE).is_file():
        raise WeightsNotFoundError(f"{where} has no {CONFIG_FILE}, so it is not a timm model repository.")
    return folder


def _is_cached(repo: str, revision: Optional[str], cache_dir: Optional[Path], files: list[str]) -> bool:
    """Whether files of a repository are in the cache."""
    try:
        folder = snapshot_download(
            repo, revision=revision, cache_dir=cache_dir, local_files_only=True, allow_patterns=files
        )
    except Exception:  # the client may raise anything on a damaged cache
        return False
    return all(Path(folder, name).is_file() for name in files)


def check_token(token: Union[str, bool, None]) -> None:
    """Reject a token that cannot be sent: the client would raise an error that quotes it."""
    if isinstance(token, str) and not re.fullmatch("[!-~]*", token):
        raise HubError("Invalid token: it contains a space, a line break, or another character that is not allowed.")


_T = TypeVar("_T")


def _retry(request: Callable[[], _T]) -> _T:
    """Retry if the Hub was busy or closed the connection; its client retries only some requests."""
    for pause in (1.0, 3.0):
        try:
            return request()
        except Exception as e:
            if not _is_transient(e):
                raise
            time.sleep(max(pause, _retry_after(e)))
    return request()


def _is_transient(error: Optional[BaseException]) -> bool:
    """Whether an error of the Hub's client may be transient."""
    if isinstance(error, LocalEntryNotFoundError):
        # without a response, the Hub is unreachable, and the client has already retried
        return getattr(error.__cause__, "response", None) is not None and _is_transient(error.__cause__)
    response = getattr(error, "response", None)
    if response is None:
        # the client raises an OSError without errno if it received less than the expected size
        return isinstance(error, HTTPError) or (type(error) is OSError and error.errno is None)
    return response.status_code == 429 or response.status_code >= 500


def _retry_after(error: Exception) -> float:
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    seconds = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(seconds), 30.0) if seconds.isdigit() else 0.0


def _find_damaged(folder: Path, files: list[str]) -> list[str]:
    """Find cached files whose content does not match the digest in their name.

    The client does not check this; its `verify_repo_checksums` queries the Hub, and checks all files of the repository.
    """
    return [name for name in files if _is_damaged(folder / name)]


def _is_damaged(path: Path) -> bool:
    blob = _blob_of(path)
    if blob is None:
        return False
    try:
        return blob.name not in (file_digest(blob), git_digest(blob))
    except FileNotFoundError:
        return True


def _blob_of(path: Path) -> Optional[Path]:
    """Return the cache entry, named by its digest, that a file links to; None if the file is not such a link."""
    if not path.is_symlink():
        return None
    # the entry may itself be a link, into a store shared by all repositories, whose names are other digests
    blob = Path(os.path.normpath(path.parent / path.readlink()))
    return blob if blob.parent == path.parents[2] / "blobs" else None


def _remove_damaged(folder: Path, files: list[str]) -> list[str]:
    damaged = _find_damaged(folder, files)
    cache = folder.parents[2].resolve()
    for name in damaged:
        if blob := _blob_of(folder / name):
            # keep targets outside the cache, which the client did not write
            if blob.resolve().is_relative_to(cache):
                blob.resolve().unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)
    return damaged
