"""Model cards, rendered from a template, the zoo, and recorded results."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import OutputError, UnknownModelError
from ..images.alignment import Framing
from ..models.architectures import complete_arguments, list_tensors
from ..models.config import read_task, read_training
from ..models.cost import count_cost
from ..models.preparation import InputConfig
from ..models.zoo import DEFAULT, ZOO, Weights, count_parameters
from ..utils.defaults import ONNX_FILES
from ..utils.io import file_digest, is_file, join_names, replace_file
from ..utils.metrics import SMALLEST_GROUP
from .checkpoints import Checkpoint, describe_folder
from .files import WEIGHTS_FILE

__all__ = [
    "name_to_record",
    "name_weights",
    "record_calibration",
    "record_exports",
    "record_figures",
    "render_card",
    "render_table",
]

_TEMPLATE = Path(__file__).with_name("card.md.jinja")


@dataclass(frozen=True)
class _Data:
    """A data set that weights were trained on.

    Attributes:
        id: Identifier in the front matter.
        name: Name given by its publishers.
        terms: Terms under which it is distributed.
        url: Home page, if any.
    """

    id: str
    name: str
    terms: str
    url: str = ""


_IMDB_WIKI = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/"
_DATA = {
    "utkface": _Data(
        "utkface", "UTKFace", "for non-commercial research purposes only", "https://susanqq.github.io/UTKFace/"
    ),
    "fairface": _Data(
        "fairface",
        "FairFace",
        "under CC BY 4.0, its pictures being from YFCC-100M",
        "https://github.com/joojs/fairface",
    ),
    "aaf": _Data(
        "all-age-faces",
        "All-Age-Faces",
        "without a license, for research",
        "https://github.com/JingchunCheng/All-Age-Faces-Dataset",
    ),
    "imdb": _Data("imdb-wiki", "the IMDB part of IMDB-WIKI", "for academic research only", _IMDB_WIKI),
    "wiki": _Data("imdb-wiki", "the WIKI part of IMDB-WIKI", "for academic research only", _IMDB_WIKI),
    "morph2": _Data("morph2", "MORPH Album 2", "under a license that must be requested from its owner"),
    "megaage_asian": _Data(
        "megaage-asian",
        "MegaAge-Asian",
        "for non-commercial research only",
        "http://mmlab.ie.cuhk.edu.hk/projects/MegaAge/",
    ),
}
"""Data sets, by the tag of the weights, or by parts of it for several data sets."""

_OTHERS = {
    "dex_resnet10.dlib": "the age predictor of dlib-models (CC0-1.0). Its training data is not documented and probably "
    "includes FG-NET, so results on FG-NET are optimistic",
    "dex_resnet10.fairface.1": "the age predictor of dlib-models (CC0-1.0), trained further on FairFace by "
    "`scripts/train_teacher.py`. Its original training data is not documented",
    "dex_resnet10.fairface": "the mean of the weights of the recipes `dex_resnet10.fairface.1` and "
    "`dex_resnet10.fairface.2`: the age predictor of dlib-models (CC0-1.0), trained further on FairFace. Its original "
    "training data is not documented",
    "dex_resnet10.fairface.3": "the network of the recipe `dex_resnet10.fairface.3`: the age predictor of dlib-models "
    "(CC0-1.0), trained further on FairFace. Its original training data is not documented",
    **dict.fromkeys(
        ["dex_resnet10.utkface_fairface_aaf", "dex_resnet10.utkface_fairface_aaf.1"],
        "the age predictor of dlib-models (CC0-1.0), trained further on UTKFace, FairFace, and All-Age-Faces. Its "
        "original training data is not documented and probably includes FG-NET, so results on FG-NET are optimistic",
    ),
    "vladmandic-face-api-1.7.15.tgz": "the ageGenderNet of @vladmandic/face-api 1.7.15 (MIT). It was trained on "
    "UTKFace and FG-NET, among others, so results on these are optimistic",
}
"""Third-party networks that weights started from or were distilled from, by their name in the config."""

_AUTHORS_FIGURES = {
    "ssrnet.morph2": "MAE 3.16 years on MORPH Album 2",
    "ssrnet.megaage_asian": "CA(3) 0.549 and CA(5) 0.741, the shares of errors below 3 and 5 years, on MegaAge-Asian",
}
"""Results in the paper for networks trained on the same data."""


def name_weights(weights: Union[str, os.PathLike]) -> str:
    """Name of weights in the zoo, given the name or a folder.

    Raises:
        UnknownModelError: The weights are not in the zoo.
    """
    if isinstance(weights, str) and weights in ZOO:
        return weights
    file = Path(weights, WEIGHTS_FILE)
    digest = file_digest(file) if is_file(file) else None
    for entry in ZOO.values():
        if entry.sha256 == digest:
            return entry.name
    raise UnknownModelError(f"{weights} is not in the zoo; results are only recorded for {', '.join(ZOO)}.")


def name_to_record(weights: Union[str, os.PathLike]) -> str:
    """Name of weights in the zoo; checks, before anything is measured, that their results can be recorded.

    Raises:
        UnknownModelError: The weights are not in the zoo.
        OutputError: The package does not run from a clone.
    """
    name = name_weights(weights)
    _assert_clone(ZOO[name].figures_file)
    return name


def _assert_clone(figures_file: Path) -> None:
    if not (figures_file.parents[3] / "scripts" / "maintain").is_dir():
        raise OutputError(
            f"Results are recorded in a clone of ssrnet_hub only, and {figures_file.parent} is not in one."
        )


def record_figures(name: str, figures: dict[str, Any]) -> Path:
    """Record results of weights in the zoo. Replaces results on the same data; drops those of earlier weights.

    For maintainers of the package, like `record_exports` and `record_calibration`.

    Raises:
        OutputError: The package does not run from a clone.
    """
    kept = [measured for measured in ZOO[name].figures if _data(measured) != _data(figures)]
    return _record(name, measured=[*kept, figures])


def record_exports(name: str, exports: dict[str, Any]) -> Path:
    """Record results of the ONNX files of weights in the zoo, replacing earlier ones."""
    return _record(name, exports=exports)


def record_calibration(name: str, calibration: dict[str, Any]) -> Path:
    """Record results of the calibration of weights in the zoo, replacing earlier ones."""
    return _record(name, calibration=calibration)


def _record(name: str, **parts: Any) -> Path:
    weights = ZOO[name]
    _assert_clone(weights.figures_file)
    record = {"measured": [], **weights.record, "weights": name, "sha256": weights.sha256, **parts}
    order = ("weights", "sha256", "measured", "calibration", "exports")
    with replace_file(weights.figures_file) as temporary:
        text = json.dumps({key: record[key] for key in order if key in record}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    return weights.figures_file


def _data(figures: dict[str, Any]) -> tuple[Any, ...]:
    return figures["dataset"], figures["split"], figures["detect"]


def render_card(weights: Union[str, os.PathLike], repo_id: Optional[str] = None) -> str:
    """Render a model card with front matter for the Hub.

    Args:
        weights: A name in the zoo, or a folder written by `save_pretrained`.
        repo_id: ``owner/name`` on the Hub, for the usage example. Default: a placeholder.

    Raises:
        SSRNetHubError: There is no such folder, or its config is invalid.
    """
    entry, checkpoint = _look_up(weights)
    args, extras = checkpoint.args, checkpoint.extras
    name = entry.name if entry else (repo_id or str(Path(weights).resolve())).rpartition("/")[2]
    training = _format_training(read_training(extras))
    data = _find_data(name.partition(".")[2]) if entry else []
    measured = [_sort_ages(figures) for figures in entry.figures] if entry else []
    calibration = entry.record.get("calibration") if entry else None
    named = isinstance(weights, str) and weights in ZOO
    exports = entry.record.get("exports") if entry else None
    if exports and not named and not _has_exports(Path(weights), exports):
        exports = None
    of_gender = read_task(extras, args["V"]) == "gender"
    license = _line(checkpoint.license or "") or "unknown"
    by_group = {what for figures in measured for what in figures.get("groups", {})}
    context: dict[str, Any] = {
        "weights": name,
        "repo": repo_id or f"OWNER/{name}",
        "embedded": bool(entry and entry.embedded),
        "default": name == DEFAULT,
        "architecture": checkpoint.architecture,
        "of_gender": of_gender,
        "turned": bool(entry and entry.ends and entry.ends[0] == "male"),
        "parameters": count_cost(checkpoint.architecture, **args).parameters,
        "megabytes": _count_bytes(checkpoint.architecture, checkpoint.args) / 1e6,
        "V": float(args["V"]),
        "measured": measured,
        "calibration": calibration,
        "calibrated_elsewhere": calibration is not None and calibration["dataset"] not in {part.id for part in data},
        "calibration_terms": next(
            (part.terms for part in _DATA.values() if calibration and part.id == calibration["dataset"]), ""
        ),
        "exports": exports,
        "onnx": bool(exports) or (not named and Path(weights, "onnx", ONNX_FILES["float32"]).is_file()),
        "by_group": by_group,
        "not_by_group": [what for what in ("age", "gender", "ethnicity") if what not in by_group],
        "smallest_group": SMALLEST_GROUP,
        "authors_figures": _AUTHORS_FIGURES.get(name),
        "framing": _describe(Framing.from_dict(extras["framing"])) if "framing" in extras else None,
        "input_size": "x".join(map(str, checkpoint.input.input_size[1:])),
        "normalization": _describe_normalization(checkpoint.input.mean, checkpoint.input.std),
        "source": entry and entry.source,
        "conversion": entry and entry.source and entry.conversion,
        "data": data,
        "training": training,
        "license": _prose(license),
        "license_title": _prose(_LICENSES.get(license, license)),
    }
    front = ModelCardData(
        library_name="ssrnet_hub",
        pipeline_tag="image-classification",
        tags=["gender-estimation" if of_gender else "age-estimation", "face", "ssr-net", "timm"],
        datasets=[part.id for part in data] or None,
        metrics=["accuracy" if of_gender else "mae"],
        eval_results=[_eval_result(m) for m in measured] or None,
        model_name=name if measured else None,
        **_front_license(license),
    )
    return f"{ModelCard.from_template(front, template_path=str(_TEMPLATE), **context)}\n"


def _sort_ages(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with their ages in order: as texts, 10 comes before 3."""
    groups = dict(figures.get("groups") or {})
    if "age" in groups:
        groups["age"] = dict(sorted(groups["age"].items(), key=lambda item: int(re.sub(r"\D.*", "", item[0]) or 0)))
    return {**figures, "groups": groups}


def _has_exports(folder: Path, exports: Mapping[str, Any]) -> bool:
    """Whether a folder has the ONNX files that were measured, as far as their sizes tell."""
    files = [(folder / "onnx" / row["file"], row["bytes"]) for row in exports["files"]]
    return all(is_file(path) and path.stat().st_size == size for path, size in files)


def _find_data(tag: str) -> list[_Data]:
    return [_DATA[tag]] if tag in _DATA else [_DATA[part] for part in tag.split("_") if part in _DATA]


def _look_up(weights: Union[str, os.PathLike]) -> tuple[Optional[Weights], Checkpoint]:
    """The zoo's entry of weights, if any, and their checkpoint."""
    entry = ZOO.get(weights) if isinstance(weights, str) else None
    if entry and not entry.embedded:
        args = complete_arguments(entry.architecture)
        data = InputConfig.from_cfg(entry.input, args["in_chans"], args["img_size"])
        return entry, Checkpoint(entry.folder, entry.architecture, args, data, entry.license, entry.extras)
    folder = entry.folder if entry else Path(weights)
    checkpoint = describe_folder(folder)
    digest = file_digest(folder / WEIGHTS_FILE)
    return next((w for w in ZOO.values() if w.sha256 == digest), None), checkpoint


def _count_bytes(architecture: str, args: Mapping[str, Any]) -> int:
    """Size of a model's tensors; batch counters have 8 bytes each."""
    tensors = list_tensors(architecture, **args)
    return sum(4 * math.prod(shape) if shape else 8 for shape in tensors.values())


def _format_training(training: dict[str, Any]) -> dict[str, Any]:
    """Format the values of the card's section on training as Markdown."""
    runs = _list_runs(training)
    values: dict[str, Any] = {"steps": [], "others": []}
    if any(run.get("command") for run, _ in runs):
        values["steps"] = [_format_step(run, before) for run, before in runs]
    # by name if there are several sets
    aside = training.get("set_aside") or 0
    counts = aside if isinstance(aside, dict) else {"": aside}
    if parts := [f"{count:,} crops" + f" of {_prose(name)}" * bool(name) for name, count in counts.items() if count]:
        values["set_aside"] = join_names(parts)
    teachers = dict.fromkeys(name for run, _ in reversed(runs) for name in run.get("teachers") or ())
    if teachers:
        values["teachers"] = join_names([f"`{_code(name)}`" for name in teachers])
    if training.get("data"):
        values["data"] = _prose(training["data"])
    first = [run for run, before in runs if not before]
    starts = [str((run.get("recipe") or {}).get("start") or "") for run in first]
    values["from_random"] = not any(starts) and not any(run.get("start") for run in first)
    values["others"] = _describe_others(dict.fromkeys([*starts, *teachers]))
    return values


def _list_runs(training: dict[str, Any]) -> list[tuple[dict[str, Any], list[int]]]:
    """The runs that led to weights, each once and after those that it starts from, with the positions of these."""
    runs: dict[str, tuple[int, dict[str, Any], list[int]]] = {}

    def add(run: dict[str, Any]) -> int:
        sources = [source for source in run.get("average_of") or () if source]
        # weights of others may have data alone
        if (start := run.get("start")) and not start.keys().isdisjoint(("command", "start", "average_of")):
            sources.append(start)
        before = list(dict.fromkeys(map(add, sources)))
        return runs.setdefault(json.dumps(run, sort_keys=True), (len(runs), run, before))[0]

    add(training)
    return [(run, before) for _, run, before in runs.values()]


def _format_step(run: dict[str, Any], before: Sequence[int]) -> str:
    said = [f"`{_code(run['command'])}`" if run.get("command") else "An unknown command"]
    if before:
        numbers = join_names([str(position + 1) for position in before])
        said.append(f"from the weights of step{'s' * (len(before) > 1)} {numbers}")
    if run.get("minutes") is not None:
        on = f" on {_prose(run['device'])}" if run.get("device") else ""
        said.append(f"{run['minutes']:.0f} minutes{on}")
    return ", ".join(said)


def _describe_others(names: Iterable[str]) -> list[str]:
    """What is known of third-party networks; one sentence for those with the same description."""
    known: dict[str, list[str]] = {}
    for name in names:
        if name in _OTHERS:
            known.setdefault(_OTHERS[name], []).append(f"`{name}`")
    return [f"{join_names(alike)} {'is' if len(alike) < 2 else 'are'} {said}." for said, alike in known.items()]


def _prose(text: str) -> str:
    """Untrusted text, with Markdown and HTML escaped."""
    return re.sub(r"([\\`*_\[\]<>&|~])", r"\\\1", _line(text))


def _code(text: str) -> str:
    """Untrusted text for use between backticks."""
    return _line(text).replace("`", "'")


def _line(text: str) -> str:
    """Printable characters of a text, on one line."""
    return "".join(filter(str.isprintable, " ".join(text.split())))


def _front_license(license: str) -> dict[str, Any]:
    # the Hub requires a name and a link for terms that it does not know
    terms = {"license_name": "research-use-only", "license_link": "LICENSE"} if license == "other" else {}
    return {"license": license, **terms}


_METRICS = {
    "mae": ("Age estimation", "MAE, years"),
    "distance": ("Age estimation", "mean distance to the labeled range, years"),
    "accuracy": ("Gender estimation", "accuracy"),
}
"""Task and name of each metric, for the Hub."""


def _eval_result(figures: dict[str, Any]) -> EvalResult:
    metric = next(name for name in _METRICS if name in figures)
    task, name = _METRICS[metric]
    return EvalResult(
        task_type="image-classification",
        task_name=task,
        dataset_type=figures["dataset"],
        dataset_name=f"{figures['dataset']} ({'photos' if figures['detect'] else 'aligned chips'})",
        dataset_split=figures["split"] or "all",
        metric_type=metric,
        metric_name=name,
        metric_value=figures[metric] if metric == "accuracy" else round(figures[metric], 2),
    )


def _describe_normalization(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    if not any(mean) and {round(1 / v) for v in std} == {255}:
        return "RGB from 0 to 255"
    # one value per channel, or a single one if they are equal
    mean_text, std_text = (
        ", ".join(f"{v:.4g}" for v in (values[:1] if len(set(values)) == 1 else values)) for values in (mean, std)
    )
    return f"RGB from 0 to 1, normalized with mean {mean_text} and standard deviation {std_text}"


def _describe(framing: Framing) -> str:
    if framing.template is None:
        return (
            f"The detector's bounding box, widened by {framing.margin:.0%} of its size on each side, clipped to the "
            f"photo, and stretched to {framing.size}x{framing.size} pixels."
        )
    points = ", ".join(f"({x:g}, {y:g})" for x, y in framing.template)
    return (
        f"The face aligned by a similarity transform of its five landmarks (eyes, nose, corners of the mouth) to "
        f"{points}, in fractions of the side of a crop of {framing.size}x{framing.size} pixels."
    )


def render_table(cards: str = "cards", *, include_hub: bool = False) -> str:
    """Render the zoo as a Markdown table.

    Args:
        cards: Path of the folder of the model cards, for links.
        include_hub: Also list weights that are not in this package.
    """
    lines = [
        "| name | size | UTKFace val | FG-NET photos | FairFace photos | weights | license |",
        "|---|---|---|---|---|---|---|",
    ]
    for weights in ZOO.values():
        if not (weights.embedded or include_hub):
            continue
        measured = {(m["dataset"], m["split"], m["detect"]): m for m in weights.figures}
        name = f"[`{weights.name}`]({cards}/{weights.name}.md){' (default)' * (weights.name == DEFAULT)}"
        size = _count_bytes(weights.architecture, complete_arguments(weights.architecture)) / 1e6
        if weights.embedded:
            size = (weights.folder / WEIGHTS_FILE).stat().st_size / 1e6
        cells = [
            name,
            f"{count_parameters(weights.name):,} parameters, {size:.2f} MB",
            _headline(measured.get(("utkface", "val", False))),
            _headline(measured.get(("fgnet", None, True))),
            _headline(measured.get(("fairface_photos", "val", True)) or measured.get(("fairface_photos", None, True))),
            "in the package" if weights.embedded else f"not included; convert the authors' `{weights.source}`",
            _LICENSES.get(weights.license, weights.license),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_LICENSES = {"other": "research use", "apache-2.0": "Apache-2.0", "cc-by-4.0": "CC BY 4.0"}


def _headline(figures: Optional[dict[str, Any]]) -> str:
    if figures is None:
        return ""
    if "mae" in figures:
        return f"MAE {figures['mae']:.2f}, CS@5 {figures['cs5']:.1%}"
    if "distance" in figures:
        return f"distance {figures['distance']:.2f}"
    return f"accuracy {figures['accuracy']:.1%}"
