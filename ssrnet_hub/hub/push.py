"""Weights out: the files of a repository, and their push to the Hugging Face Hub."""

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

from ..errors import HubError, SSRNetHubError, UnknownModelError
from ..models.zoo import embedded_folder
from ..utils.io import make_empty_folder, replace_file
from .cards import render_card
from .check_tensors import verify_model, write_check
from .downloading import check_token
from .files import CHECK_FILE, CONFIG_FILE, WEIGHTS_FILE
from .loading import from_pretrained, save_pretrained

__all__ = ["Push", "prepare_repository", "push_repository", "push_to_hub", "read_token"]

_OPTIONAL = ("LICENSE", "onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_int8.onnx")
"""Files that go to the repository where the folder has them."""


@dataclass(frozen=True)
class Push:
    """What a push came to.

    Attributes:
        repo_id: ``owner/name``.
        commit: The commit that has the files.
        changed: Whether it is a new one; not if the repository had them all before.
        revision: What to load: the branch that was pushed to, or the pull request.
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

    Args:
        folder: Weights as `save_pretrained` writes them; check tensors, ``LICENSE`` and ``onnx/*.onnx`` beside them
            are taken along; without a ``LICENSE``, that of the embedded weights they were made of. They are loaded and
            run, and compared with the check tensors.
        directory: Where to: a folder that is empty, or made where missing.
        repo_id: ``owner/name``, for the lines of the card that load the weights.

    Raises:
        UnknownModelError: Nothing on the Hub can be called ``repo_id``.
        OutputError: The directory has something in it.
        SSRNetHubError: The folder does not load; `CheckError` where it does not answer as its check tensors say.
    """
    folder = Path(folder)
    _check_repo_id(repo_id)
    model = from_pretrained(folder)
    check = folder / CHECK_FILE
    if check.is_file():
        verify_model(model, check)
    card = render_card(folder, repo_id)
    directory = make_empty_folder(directory)
    files = {name: folder / name for name in (WEIGHTS_FILE, CONFIG_FILE, CHECK_FILE, *_OPTIONAL)}
    cfg = model.pretrained_cfg
    origin = embedded_folder(f"{cfg.get('architecture')}.{cfg.get('tag')}")
    if cfg.get("license") == "other" and origin and not files["LICENSE"].is_file():
        # the terms of weights of this package are those of what was made of them
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
    """Push a folder as it is, in one commit; the repository is made where it is missing.

    Arguments and errors are those of `push_to_hub`.

    Args:
        repo_type: ``"model"`` or ``"space"``.
        mirror: Remove from the repository what the folder has not.
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
            raise HubError(f"{repo_id} has the tag {tag!r} already, of another commit: choose another name.")
        names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
        operations: list[Any] = [CommitOperationAdd(name, files / name) for name in names]
        if mirror:
            gone = {file.rfilename for file in before.siblings or ()} - {*names, ".gitattributes"}
            operations += [CommitOperationDelete(name) for name in sorted(gone)]
        # not upload_folder, which may make several commits; what is there already is not sent again
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
                f"Pushed to {repo_id} as {done.oid}, but it has the tag {tag!r} already, of the commit before."
            )
        if tag and tag not in tags:
            api.create_tag(repo_id, tag=tag, revision=done.oid, repo_type=repo_type)
    return Push(repo_id, done.oid, done.oid != before.sha, done.pr_revision or revision or "main")


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise UnknownModelError(f"{repo_id!r} is not a valid name on the Hub: {e}") from e
    if "/" not in repo_id:
        raise UnknownModelError(f"{repo_id!r} has no owner: name the repository as owner/name.")


@contextmanager
def _push_errors(repo_id: str) -> Iterator[None]:
    """Whatever the client raises while pushing, as an error that says what to do."""
    try:
        yield
    except SSRNetHubError:
        raise
    except LocalTokenNotFoundError as e:
        raise HubError(f"Pushing to {repo_id} needs a token with write access: {_TOKENS}.") from e
    except RevisionNotFoundError as e:
        raise HubError(f"{repo_id} has no such branch: a pull request begins at one that is there.") from e
    except HfHubHTTPError as e:
        status = getattr(e.response, "status_code", None)
        if status in (401, 403) or isinstance(e, RepositoryNotFoundError):
            raise HubError(f"The Hub does not let this token, or no token, push to {repo_id}: {_TOKENS}.") from e
        said = e.server_message or f"it answered {status}"
        raise HubError(
            f"The Hub did not take the push to {repo_id}: {said:.300}. Try again; what arrived is kept."
        ) from e
    except Exception as e:  # whatever the network, or a server that is not the Hub, makes the client raise
        raise HubError(
            f"Pushing to {repo_id} failed: {e!r:.300}. Nothing of it is to be seen there, unless the answer alone was "
            "lost; try again, what arrived is not sent twice."
        ) from e


_TOKENS = "give one by --token-file (token= in Python), HF_TOKEN or `hf auth login`"


def read_token(path: Union[str, os.PathLike, None]) -> Optional[str]:
    """The token in a file, for options like ``--token-file``; None for None.

    Raises:
        HubError: The file cannot be read, or holds no token. The error never quotes it.
    """
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise HubError(f"The token file {path} cannot be read.") from (e if isinstance(e, OSError) else None)
    if not token:
        raise HubError(f"The token file {path} is empty.")
    return token
