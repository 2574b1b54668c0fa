"""Model cards: a template, the weights' config and figures that were measured."""

import json
import os
from pathlib import Path
from typing import Any, Optional, Union

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .errors import UnknownModelError
from .files import file_digest, is_file, replace_file
from .framing import Framing
from .hub import WEIGHTS_FILE, from_pretrained, get_extras
from .zoo import DEFAULT, ZOO, count_parameters

__all__ = ["name_weights", "record_figures", "render_card", "render_table"]

_TEMPLATE = Path(__file__).with_name("card.md.jinja")


def name_weights(weights: Union[str, os.PathLike]) -> str:
    """The zoo's name of some weights, a name of the zoo itself or a folder.

    Raises:
        UnknownModelError: They are none of the zoo's.
    """
    if weights in ZOO:
        return weights
    file = Path(weights, WEIGHTS_FILE)
    digest = file_digest(file) if is_file(file) else None
    for entry in ZOO.values():
        if entry.sha256 == digest:
            return entry.name
    raise UnknownModelError(f"{weights} is not of the zoo, whose figures alone are kept: {', '.join(ZOO)}.")


def record_figures(name: str, figures: dict[str, Any]) -> Path:
    """Keep figures of weights of the zoo, in place of those on the same data; those of other bytes are dropped."""
    weights = ZOO[name]
    kept = [measured for measured in weights.figures if _data(measured) != _data(figures)]
    record = {"weights": name, "sha256": weights.sha256, "measured": [*kept, figures]}
    with replace_file(weights.figures_file) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return weights.figures_file


def _data(figures: dict[str, Any]) -> tuple[Any, ...]:
    return figures["dataset"], figures["split"], figures["detect"]


def render_card(name: str) -> str:
    """The model card of embedded weights, with front matter for the Hub."""
    measured = ZOO[name].figures
    model = from_pretrained(name)
    cfg = model.pretrained_cfg
    training = get_extras(model)["training"]
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        license="other",
        license_name="research-use-only",
        license_link="LICENSE",
        datasets=sorted({m["dataset"] for m in measured if not m["detect"]}),
        tags=["age-estimation", "face", "ssr-net", "regression"],
        metrics=["mae"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                task_name="Age estimation",
                dataset_type=m["dataset"],
                dataset_name=f"{m['dataset']} ({'photos' if m['detect'] else 'aligned chips'})",
                dataset_split=m["split"],
                metric_type="mae",
                metric_name="MAE, years",
                metric_value=round(m["mae"], 2),
            )
            for m in measured
        ],
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        weights=name,
        argument="" if name == DEFAULT else f'"{name}"',
        description=f"Trained from scratch on {training['data']}.",
        parameters=count_parameters(name),
        megabytes=(ZOO[name].folder / WEIGHTS_FILE).stat().st_size / 1e6,
        V=model.V,
        measured=measured,
        framing=_describe(Framing.from_dict(get_extras(model)["framing"])),
        input_size="x".join(map(str, cfg["input_size"][1:])),
        mean=cfg["mean"][0],
        std=cfg["std"][0],
        training=f"`{_train_command(training['recipe'])}`, {training['minutes']:.0f} minutes on {training['device']}.",
        license="non-commercial research use only, as the data; see the file LICENSE beside them.",
        data_license="UTKFace, for non-commercial research purposes only; it is not distributed here.",
    )
    return str(card)


def _train_command(recipe: dict[str, Any]) -> str:
    options = []
    for field, value in recipe.items():
        name = field.replace("_", "-")
        options.append(f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name} {value}")
    return f"python scripts/train.py --labels DIR/labels.csv --output DIR {' '.join(options)}"


def _describe(framing: Framing) -> str:
    if framing.template is None:
        return (
            f"The detector's box, widened by {framing.margin:.0%} of its size on each side and cut at the edge, "
            f"stretched to {framing.size}x{framing.size} pixels."
        )
    points = ", ".join(f"({x:g}, {y:g})" for x, y in framing.template)
    return (
        f"The face aligned by a similarity transform of its five landmarks (eyes, nose, corners of the mouth) to "
        f"{points}, in fractions of the side of a crop of {framing.size}x{framing.size} pixels."
    )


def render_table() -> str:
    """The zoo as a Markdown table."""
    lines = [
        "| name | parameters | where | UTKFace val | FG-NET, photo to age | weights' licence |",
        "|---|---|---|---|---|---|",
    ]
    for weights in ZOO.values():
        measured = {(m["dataset"], m["split"], m["detect"]): m for m in weights.figures}
        name = f"[`{weights.name}`](cards/{weights.name}.md)" if weights.embedded else f"`{weights.name}`"
        cells = [
            name,
            f"{count_parameters(weights.name):,}",
            "in the package" if weights.embedded else f"converted from the authors' `{weights.source}`",
            _headline(measured.get(("utkface", "val", False))),
            _headline(measured.get(("fgnet", None, True))),
            _LICENSES.get(weights.license, weights.license),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_LICENSES = {"other": "research use", "apache-2.0": "Apache-2.0"}


def _headline(figures: Optional[dict[str, Any]]) -> str:
    if figures is None:
        return ""
    if "mae" in figures:
        return f"MAE {figures['mae']:.2f}, CS@5 {figures['cs5']:.1%}"
    return f"{figures['accuracy']:.1%} right"
