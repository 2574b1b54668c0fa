"""The zoo: a table of named weights, and functions to query it. Does not need PyTorch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Optional

from ..images.alignment import AUTHORS_FRAMING, Framing
from .architectures import ARCHITECTURES
from .cost import count_cost

__all__ = [
    "AUTHORS_INPUT",
    "DEFAULT",
    "FEMALE_MALE",
    "OWNER_VARIABLE",
    "ZOO",
    "Weights",
    "count_parameters",
    "embedded_folder",
    "list_architectures",
    "list_models",
    "weights_of",
]

DEFAULT = "ssrnet_wide.utkface_fairface_aaf"
"""Name of the weights that `from_pretrained` loads when given none."""

OWNER_VARIABLE = "SSRNET_HUB_OWNER"
"""Environment variable with the user or organization on the Hub that owns the zoo's repositories."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Weights:
    """An entry of the zoo; its repository on the Hub is called ``name``.

    Attributes:
        name: ``architecture.tag``, in timm as well.
        sha256: Digest of ``model.safetensors``.
        framing: How faces are cropped for these weights.
        license: License of the weights, as named by the Hub.
        source: File of the paper's authors that these weights are converted from; None for our own.
        input: Entries of timm's config that differ from the architecture's defaults, such as ``mean`` and ``std``.
        embedded: Whether the weights are included in this package.
        ends: For gender weights, the genders at scores 0 and 1.
    """

    name: str
    sha256: str
    framing: Framing
    license: str
    source: Optional[str] = None
    input: Mapping[str, Any] = field(default_factory=dict)
    embedded: bool = False
    ends: Optional[tuple[str, str]] = None

    @property
    def architecture(self) -> str:
        return self.name.split(".")[0]

    @property
    def repo(self) -> Optional[str]:
        """``owner/name`` on the Hub; None until the environment names the owner."""
        owner = os.environ.get(OWNER_VARIABLE)
        return f"{owner}/{self.name}" if owner else None

    @property
    def conversion(self) -> str:
        """Command that converts ``source`` to these weights."""
        gender = "--gender " if self.architecture == "ssrnet_gender" else ""
        return f"ssrnet-hub convert --from keras {gender}{self.source} OUT_DIR"

    @property
    def extras(self) -> dict[str, Any]:
        """Config entries on the use of the weights that are not in timm's schema."""
        ends = {"ends": list(self.ends)} if self.ends else {}
        return {"task": self.task, "framing": self.framing.to_dict(), **ends}

    @property
    def task(self) -> str:
        """What the weights predict: ``"age"`` or ``"gender"``."""
        return "gender" if self.ends else "age"

    @property
    def folder(self) -> Path:
        """Folder of the weights if they are embedded."""
        return _FOLDER / "weights" / self.name

    @property
    def figures_file(self) -> Path:
        """File in which ``ssrnet-hub evaluate --record`` saves the results of these weights."""
        return _FOLDER / "eval_results" / f"{self.name}.json"

    @property
    def record(self) -> dict[str, Any]:
        """Results in `figures_file`: ``measured``, and optionally ``calibration`` and ``exports``."""
        path = self.figures_file
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # results of another version of the weights do not count
        return record if record.get("sha256") == self.sha256 else {}

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Evaluation results, one dictionary per data set."""
        return self.record.get("measured", [])


AUTHORS_INPUT: Mapping[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Input of the authors' weights, and of all gender weights: pixels from 0 to 255, not normalized."""

FEMALE_MALE = ("female", "male")
"""The genders at scores 0 and 1, unless the weights specify otherwise."""


def _of_authors(source: str, name: str, sha256: str, **kwargs: Any) -> Weights:
    # the digest is that of the output of convert_keras, which is deterministic
    return Weights(name, sha256, AUTHORS_FRAMING, "apache-2.0", source, AUTHORS_INPUT, **kwargs)


ZOO: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            "ssrnet_wide.utkface_fairface_aaf",
            "0e0d7786a4866840c5b1390f83c9c57cd6620cf130a3536833318e2c0e86afc6",
            Framing(),
            "other",
            embedded=True,
        ),
        Weights(
            "ssrnet_wide.fairface",
            "e542ce19b11cb1ae252208227691d25cf8f49e4054f25b01a35e0600e052e36f",
            Framing(),
            "cc-by-4.0",
            embedded=True,
        ),
        Weights(
            "ssrnet.utkface_fairface_aaf",
            "63570d0d053a4bd5ae49947ec95210431239677a5fd25214048d2ce9413c0ae1",
            Framing(),
            "other",
            embedded=True,
        ),
        Weights(
            "ssrnet.fairface",
            "c091ebf4fc2e97f8ab05610a6c6f55e6d7ad5cef21f3af89ca8af977349343b6",
            Framing(),
            "cc-by-4.0",
            embedded=True,
        ),
        _of_authors(
            "imdb.h5",
            "ssrnet.imdb",
            "35f9056b371fe6d7019709798e90099ff08382df50f4acac20ae5116e3429651",
        ),
        _of_authors(
            "wiki.h5",
            "ssrnet.wiki",
            "022796ff51fce1c96fa9c024c841b38275cf2ee363482763a163a9b5377fca17",
        ),
        _of_authors(
            "morph2.h5",
            "ssrnet.morph2",
            "ae52dbd66e79fdf8a12dd4b38e10e647b09808df4bee0062fc021b0ed427601d",
        ),
        _of_authors(
            "megaage_asian.h5",
            "ssrnet.megaage_asian",
            "64002c94a6cb309e19cafd2922447d971217199da271b3517761221db37f7ad1",
        ),
        Weights(
            "dex_resnet10.utkface_fairface_aaf",
            "c35815eddb1933c2fe5b5dc3912d1063ad7c00199539b1ddae406aca287b8aa5",
            Framing(),
            "other",
            embedded=True,
        ),
        Weights(
            "ssrnet_gender.fairface",
            "247492f792e0905f972e3f9b3b9639ae2f046f9e1274751496e95518f1724e21",
            Framing(),
            "cc-by-4.0",
            input=AUTHORS_INPUT,
            embedded=True,
            ends=FEMALE_MALE,
        ),
        _of_authors(
            "gender_imdb.h5",
            "ssrnet_gender.imdb",
            "60f8f83e9c03a083608574678da999033339ebf3fcf753bc7fdcbfcfb85704a1",
            ends=FEMALE_MALE,
        ),
        _of_authors(
            "gender_wiki.h5",
            "ssrnet_gender.wiki",
            "2ac21e3c1534b65b0f23f19972f86d8099ff109254b089047c8d1c4684bee51f",
            ends=FEMALE_MALE,
        ),
        _of_authors(
            "gender_morph2.h5",
            "ssrnet_gender.morph2",
            "ac2849113c6efe631adcb35e7a3f1008c3ac97321a6d93e8fc539e999a7f24ab",
            ends=FEMALE_MALE[::-1],
        ),
    )
}
"""All weights with a name, the default of each architecture first."""


def weights_of(architecture: str) -> dict[str, dict[str, Any]]:
    """Return entries of timm's config for each of an architecture's weights, by name."""
    cfgs = {}
    for weights in ZOO.values():
        if weights.architecture == architecture:
            # without an owner, the name is deliberately invalid, and the Hub's client rejects it
            repo = weights.repo or f"<{OWNER_VARIABLE}>/{weights.name}"
            file = str(weights.folder / "model.safetensors") if weights.embedded else None
            cfgs[weights.name] = {**weights.input, "license": weights.license, "hf_hub_id": repo, "file": file}
    return cfgs


def list_models(pattern: str = "", *, include_hub: bool = False) -> list[str]:
    """List the names of weights, ``architecture.tag``, that `from_pretrained` can load.

    Args:
        pattern: Wildcard pattern to filter the names, such as ``"ssrnet_gender*"``.
        include_hub: Also list weights that are not in this package. They are downloaded from the Hugging Face Hub, and
            the environment variable ``SSRNET_HUB_OWNER`` must name their owner.
    """
    # as in timm, a pattern without a tag matches all tags
    wanted = pattern if not pattern or "." in pattern else f"{pattern}.*"
    names = [name for name in sorted(ZOO) if fnmatchcase(name, wanted or "*")]
    return [name for name in names if include_hub or ZOO[name].embedded]


def list_architectures() -> list[str]:
    """List the names of this package's architectures, for `timm.create_model`."""
    return sorted(ARCHITECTURES)


def count_parameters(name: str) -> int:
    """Count the trainable parameters of an architecture, or of weights in the zoo, by name."""
    return count_cost(name.partition(".")[0]).parameters


def embedded_folder(name: str) -> Optional[Path]:
    """Return the folder of weights that are included in this package, or None."""
    weights = ZOO.get(name)
    return weights.folder if weights and weights.embedded else None
