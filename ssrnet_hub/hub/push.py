"""Prepare the files of a repository and push them to the Hugging Face Hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from torch import nn

from ..errors import CheckError, HubError, SSRNetHubError, UnknownModelError
from ..models.zoo import embedded_folder
from ..utils.defaults import ONNX_FILES
from ..utils.io import make_empty_folder, replace_file
from .cards import render_card
from .check_tensors import verify_model, write_check
from .downloading import check_token
from .files import CHECK_FILE, CONFIG_FILE, DIGEST_KEY, WEIGHTS_FILE
from .loading import from_pretrained, save_pretrained, tensors_digest

__all__ = ["Push", "prepare_repository", "push_repository", "push_to_hub", "read_token"]

_ONNX = tuple(f"onnx/{name}" for name in ONNX_FILES.values())
_OPTIONAL = ("LICENSE", *_ONNX)
"""Files that are pushed if the folder has them."""


@dataclass(frozen=True)
class Push:
    """Result of a push.

    Attributes:
        repo_id: ``owner/name``.
        commit: Commit with the files.
        changed: Whether the commit is new; False if the repository already had all files.
        revision: Revision to load: the branch that was pushed to, or the pull request.
    """

    repo_id: str
    commit: str
    changed: bool
    revision: str


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    commit_message: Optional[str] = None,
    private: Optional[bool] = None,
    revision: Optional[str] = None,
    create_pr: bool = False,
    token: Optional[str] = None,
    tag: Optional[str] = None,
    extras: Optional[Mapping[str, Any]] = None,
) -> Push:
    """Push a model with a model card to the Hub in one commit; the repository is created if it does not exist.

    Args:
        model: A model created by `from_pretrained` or timm.
        repo_id: ``owner/name``.
        commit_message: Summary of the commit.
        private: Whether a new repository is private. Default: as set by its owner.
        revision: Branch to push to, created if it does not exist. Default: main.
        create_pr: Open a pull request instead.
        token: Token with write access. Default: that of the environment or the login.
        tag: Tag for the commit.
        extras: As in `save_pretrained`.

    Raises:
        HubError: The push failed; the repository is unchanged.
        ConfigError: The model is not from this package.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, Path(temporary, "model"), extras)
        files = prepare_repository(folder, Path(temporary, "repository"), repo_id)
        return push_repository(
            files,
            repo_id,
            commit_message=commit_message,
            private=private,
            revision=revision,
            create_pr=create_pr,
            token=token,
            tag=tag,
        )


def prepare_repository(folder: Union[str, os.PathLike], directory: Union[str, os.PathLike], repo_id: str) -> Path:
    """Write the files of a repository, exactly as they are pushed.

    The model is loaded, run, and compared with the check tensors first.

    Args:
        folder: Folder written by `save_pretrained`. Check tensors, ``LICENSE``, and ``onnx/*.onnx`` are included if
            they exist; without a ``LICENSE``, that of the embedded weights the model was derived from.
        directory: Target folder; empty, or created if it does not exist.
        repo_id: ``owner/name``, for the usage example in the model card.

    Raises:
        UnknownModelError: ``repo_id`` is invalid.
        OutputError: The directory is not empty.
        SSRNetHubError: The folder cannot be loaded; `CheckError` if its output differs from the check tensors, or an
            ONNX file was exported from other weights.
    """
    folder = Path(folder)
    _check_repo_id(repo_id)
    model = from_pretrained(folder)
    check = folder / CHECK_FILE
    if check.is_file():
        verify_model(model, check)
    for name in _ONNX:
        if (folder / name).is_file():
            _verify_onnx(folder / name, model)
    card = render_card(folder, repo_id)
    directory = make_empty_folder(directory)
    files = {name: folder / name for name in (WEIGHTS_FILE, CONFIG_FILE, CHECK_FILE, *_OPTIONAL)}
    cfg = model.pretrained_cfg
    origin = embedded_folder(f"{cfg.get('architecture')}.{cfg.get('tag')}")
    if cfg.get("license") == "other" and origin and not files["LICENSE"].is_file():
        # the terms of embedded weights also apply to weights derived from them
        files["LICENSE"] = origin / "LICENSE"
    for name, path in files.items():
        if path.is_file():
            with replace_file(directory / name) as temporary:
                shutil.copyfile(path, temporary)
    if not check.is_file():
        write_check(model, directory / CHECK_FILE)
    with replace_file(directory / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    return directory


def _verify_onnx(path: Path, model: nn.Module) -> None:
    """Check that an ONNX file was exported from the model.

    Raises:
        CheckError: It was not, or cannot be read.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        digest = session.get_modelmeta().custom_metadata_map.get(DIGEST_KEY)
    except Exception as e:  # of several types, which have no common base
        raise CheckError(f"{path} cannot be read as an ONNX model: remove it, or run ssrnet-hub export again.") from e
    if digest != tensors_digest(model):
        raise CheckError(
            f"{path} was not exported from the weights in {path.parents[1]}: remove it, or run ssrnet-hub export again."
        )


def push_repository(
    files: Union[str, os.PathLike],
    repo_id: str,
    *,
    commit_message: Optional[str] = None,
    private: Optional[bool] = None,
    revision: Optional[str] = None,
    create_pr: bool = False,
    token: Optional[str] = None,
    tag: Optional[str] = None,
    repo_type: str = "model",
    mirror: bool = False,
) -> Push:
    """Push all files of a folder in one commit; the repository is created if it does not exist.

    The other arguments, and the errors, are those of `push_to_hub`.

    Args:
        files: The folder.
        repo_type: ``"model"`` or ``"space"``.
        mirror: Delete files from the repository that are not in the folder.
    """
    check_token(token)
    _check_repo_id(repo_id)
    files = Path(files)
    api = HfApi(token=token)
    is_space = repo_type == "space"
    with _push_errors(repo_id):
        sdk = "gradio" if is_space else None
        api.create_repo(repo_id, private=private, repo_type=repo_type, exist_ok=True, space_sdk=sdk)
        if revision and not create_pr:
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        before = (api.space_info if is_space else api.model_info)(repo_id, revision=revision)
        refs = api.list_repo_refs(repo_id, repo_type=repo_type).tags if tag else []
        tags = {ref.name: ref.target_commit for ref in refs}
        if tag and tags.get(tag, before.sha) != before.sha:
            raise HubError(f"{repo_id} already has a tag {tag!r} on another commit: choose another name.")
        names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
        operations: list[Any] = [CommitOperationAdd(name, files / name) for name in names]
        if mirror:
            gone = {file.rfilename for file in before.siblings or ()} - {*names, ".gitattributes"}
            operations += [CommitOperationDelete(name) for name in sorted(gone)]
        # not upload_folder, which may create several commits; existing files are not sent again
        done = api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message or "Push by ssrnet_hub",
            revision=revision,
            create_pr=create_pr,
            repo_type=repo_type,
        )
        if tag in tags and tags[tag] != done.oid:
            raise HubError(
                f"Pushed {done.oid} to {repo_id}, but without the tag {tag!r}, which is already on the previous commit."
            )
        if tag and tag not in tags:
            api.create_tag(repo_id, tag=tag, revision=done.oid, repo_type=repo_type)
    return Push(repo_id, done.oid, done.oid != before.sha, done.pr_revision or revision or "main")


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise UnknownModelError(f"{repo_id!r} is not a valid repository name: {e}") from e
    if "/" not in repo_id:
        raise UnknownModelError(f"{repo_id!r} has no owner: write owner/{repo_id}.")


@contextmanager
def _push_errors(repo_id: str) -> Iterator[None]:
    """Convert errors of the client while pushing to errors that say what to do."""
    try:
        yield
    except SSRNetHubError:
        raise
    except LocalTokenNotFoundError as e:
        raise HubError(f"Pushing to {repo_id} requires write access: {_TOKENS}.") from e
    except RevisionNotFoundError as e:
        raise HubError(f"Branch not found in {repo_id}: a pull request needs an existing branch as its base.") from e
    except HfHubHTTPError as e:
        status = getattr(e.response, "status_code", None)
        if status in (401, 403) or isinstance(e, RepositoryNotFoundError):
            raise HubError(f"No write access to {repo_id}: {_TOKENS}.") from e
        reason = e.server_message or f"status {status}"
        raise HubError(
            f"The Hub rejected the push to {repo_id}: {reason:.300}. Try again; uploaded files are not sent twice."
        ) from e
    except Exception as e:  # the client may raise anything, due to the network or a server that is not the Hub
        raise HubError(
            f"Pushing to {repo_id} failed: {e!r:.300}. The repository is unchanged, unless only the response was lost. "
            "Try again; uploaded files are not sent twice."
        ) from e


_TOKENS = "pass a token with write access as --token-file (token= in Python) or HF_TOKEN, or run `hf auth login`"


def read_token(path: Union[str, os.PathLike, None]) -> Optional[str]:
    """Read the token from a file, for options like ``--token-file``; None for None.

    Raises:
        HubError: The file cannot be read or is empty. The error never quotes the token.
    """
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise HubError(f"Cannot read the token file {path}.") from (e if isinstance(e, OSError) else None)
    if not token:
        raise HubError(f"The token file {path} is empty.")
    return token
