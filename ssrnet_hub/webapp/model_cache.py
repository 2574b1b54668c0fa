"""Weights for visitors: names of the zoo and repositories on the Hub, never a path."""

import copy
import re
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Optional, Union
from weakref import WeakKeyDictionary

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ..errors import HubError, SSRNetHubError, UnknownModelError
from ..hub.checkpoints import Checkpoint, describe_folder, find_checkpoint
from ..hub.files import CONFIG_FILE, WEIGHTS_FILE
from ..inference.detector import MTCNNDetector
from ..inference.estimator import AgeEstimator
from ..models.cost import count_cost
from ..models.zoo import DEFAULT, ZOO
from ..utils.untrusted import MAX_FILE_SIZE
from .limits import Limits

__all__ = ["ModelCache", "Search"]

_REPO = re.compile(r"(?P<repo>[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w-]*(\.[\w-]+)*)(@(?P<revision>[\w.-]+))?")


class Search(NamedTuple):
    """How photos are searched for faces; see `MTCNNDetector`."""

    min_face: Optional[float] = None
    upright_only: bool = False


class ModelCache:
    """Bounded cache of estimators by the names of their weights, with a shared detector.

    Args:
        limits: Limits on the size and number of weights, and on the size of photos.
        folder: Folder for weights while they are loaded. Default: the system's temporary folder.
    """

    def __init__(self, limits: Limits, folder: Optional[Path] = None):
        self._limits, self._folder = limits, folder
        self._detector = MTCNNDetector(max_faces=limits.max_faces)
        # a camera's picture has to be done with before the next one is there
        self._quick_detector = MTCNNDetector(min_face=40, max_side=640, max_faces=limits.max_faces)
        # a model is traced to be made fast, which PyTorch cannot do twice at a time
        self._making = Lock()
        self._quick: WeakKeyDictionary[AgeEstimator, AgeEstimator] = WeakKeyDictionary()
        self._default = self._make(None)
        self._kept: OrderedDict[str, AgeEstimator] = OrderedDict()
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """The available age weights of the zoo, the default first."""
        return [w.name for w in ZOO.values() if w.task == "age" and (w.embedded or w.repo)]

    @staticmethod
    def tidy(name: Any) -> str:
        """Normalize a name: stripped, and the default if empty.

        Raises:
            UnknownModelError: It is not text.
        """
        if name is not None and not isinstance(name, str):
            raise UnknownModelError("The name of the weights must be a string.")
        return (name or "").strip() or DEFAULT

    def __getitem__(self, name: Optional[str]) -> AgeEstimator:
        """Get the estimator of weights, from the cache if possible.

        Args:
            name: A name of `names`, ``owner/repo`` or ``owner/repo@revision``; nothing for the default.

        Raises:
            UnknownModelError: The name is invalid.
            HubError: The repository is not public, or the weights are too large.
            SSRNetHubError: They are not age weights of this package.
        """
        name = self.tidy(name)
        if name == DEFAULT:
            return self._default
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        estimator = self._load(name)
        with self._lock:
            self._kept[name] = estimator
            while len(self._kept) > self._limits.kept_weights:
                self._kept.popitem(last=False)
        return estimator

    def searching(self, name: Optional[str], search: Search) -> AgeEstimator:
        """As by index, on the same networks, with another way to search."""
        estimator = self[name]
        if search == Search():
            return estimator
        estimator, detector = copy.copy(estimator), copy.copy(self._detector)
        detector.min_face, detector.upright_only = search
        estimator.detector = detector
        return estimator

    def quick(self, name: Optional[str]) -> AgeEstimator:
        """As by index, for cameras: pictures are reduced to 640 pixels and faces below 40 are not looked for."""
        estimator = self[name]
        with self._making:
            if estimator not in self._quick:
                # on the same networks
                quick = self._quick[estimator] = copy.copy(estimator)
                quick.detector, quick.max_pixels = self._quick_detector, self._limits.max_film_pixels
            return self._quick[estimator]

    def _load(self, name: str) -> AgeEstimator:
        weights = ZOO.get(name)
        if weights and weights.embedded:
            return self._make(name)
        match = _REPO.fullmatch(weights.repo or "" if weights else name)
        if not match:
            raise UnknownModelError(
                "{name!r:.100} is not available here. Choose {names}, or a public repository on the Hugging Face Hub "
                "as owner/repo or owner/repo@revision.",
                name=name,
                names=", ".join(self.names),
            )
        repo, revision = match["repo"], match["revision"]
        # nothing stays on disk: the cache is in memory
        with tempfile.TemporaryDirectory(dir=self._folder) as cache:
            commit = self._check(repo, revision, cache)
            wanted = {"name": name} if weights else {"name": repo, "revision": commit}
            return self._make(find_checkpoint(**wanted, token=False, cache_dir=cache))

    def _check(self, repo: str, revision: Optional[str], cache: str) -> str:
        """Look at the sizes and the config of a repository before its weights are downloaded; its commit."""
        try:
            info = HfApi(token=False).model_info(repo, revision=revision, files_metadata=True, timeout=20)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            for file, limit in ((WEIGHTS_FILE, self._limits.max_weights_size), (CONFIG_FILE, MAX_FILE_SIZE)):
                if sizes.get(file, 0) > limit:
                    raise HubError(
                        "{file} of {repo} has {size:,} bytes, more than the limit of {limit:,}.",
                        file=file,
                        repo=repo,
                        size=sizes[file],
                        limit=limit,
                    )
            if CONFIG_FILE in sizes:
                # it shows whether these are weights of this package
                config = hf_hub_download(repo, CONFIG_FILE, revision=info.sha, cache_dir=cache, token=False)
                model = describe_folder(Path(config).parent)
                # they may be of half precision in the file
                size = 4 * count_cost(model.architecture, **model.args).parameters
                if size > self._limits.max_weights_size:
                    raise HubError(
                        "The weights of {repo} take {size:,} bytes of memory, more than the limit of {limit:,}.",
                        repo=repo,
                        size=size,
                        limit=self._limits.max_weights_size,
                    )
        except SSRNetHubError:
            raise
        except RevisionNotFoundError as e:
            raise HubError("{repo} has no revision {revision!r}.", repo=repo, revision=revision) from e
        except (GatedRepoError, RepositoryNotFoundError) as e:
            raise HubError("{repo} is not on the Hugging Face Hub, or is not public.", repo=repo) from e
        except HFValidationError as e:
            raise UnknownModelError("{repo} is not a valid repository name.", repo=repo) from e
        except Exception as e:  # whatever the network, or a server that is not the Hub, makes the client raise
            raise HubError("The Hugging Face Hub is unreachable. The embedded weights are always available.") from e
        if not info.sha:
            raise HubError("The Hugging Face Hub does not say which commit of {repo} is meant.", repo=repo)
        return info.sha

    def _make(self, model: Union[str, Checkpoint, None]) -> AgeEstimator:
        with self._making:
            return AgeEstimator(model, self._detector, max_pixels=self._limits.max_pixels)
