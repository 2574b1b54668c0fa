"""Model cards: a template, the weights' config and figures that were measured."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .errors import UnknownModelError
from .files import replace_file
from .framing import Framing
from .hub import WEIGHTS_FILE, from_pretrained, get_extras
from .zoo import DEFAULT, count_parameters, embedded_folder, list_models

__all__ = ["read_figures", "record_figures", "render_card", "render_table", "weights_digest"]

_TEMPLATE = Path(__file__).with_name("card.md.jinja")


def weights_digest(name: str) -> str:
    """SHA-256 of the safetensors file of embedded weights."""
    folder = embedded_folder(name)
    if folder is None:
        raise UnknownModelError(
            f"{name} is not part of this package: {', '.join(filter(embedded_folder, list_models()))} is."
        )
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def read_figures(path: Union[str, os.PathLike]) -> dict[str, Any]:
    """What was measured of some weights: ``weights``, their ``sha256`` and the list ``measured``."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def record_figures(path: Union[str, os.PathLike], weights: str, figures: dict[str, Any]) -> None:
    """Add figures to a file, in place of those on the same data; figures of other weights' bytes are dropped."""
    path = Path(path)
    record = {"weights": weights, "sha256": weights_digest(weights), "measured": []}
    if path.exists():
        before = read_figures(path)
        if before["sha256"] == record["sha256"]:
            record["measured"] = [m for m in before["measured"] if _data(m) != _data(figures)]
    record["measured"].append(figures)
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _data(figures: dict[str, Any]) -> tuple[Any, ...]:
    return figures["dataset"], figures["split"], figures["detect"]


def render_card(record: dict[str, Any]) -> str:
    """The model card of embedded weights, with front matter for the Hub.

    Args:
        record: What `read_figures` answers.
    """
    name = record["weights"]
    model = from_pretrained(name)
    cfg = model.pretrained_cfg
    training = get_extras(model)["training"]
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        license="other",
        license_name="research-use-only",
        license_link="LICENSE",
        datasets=sorted({m["dataset"] for m in record["measured"] if not m["detect"]}),
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
            for m in record["measured"]
        ],
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        weights=name,
        argument="" if name == DEFAULT else f'"{name}"',
        description=f"Trained from scratch on {training['data']}.",
        parameters=count_parameters(name),
        megabytes=_megabytes(name),
        V=model.V,
        measured=record["measured"],
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


def render_table(records: Sequence[dict[str, Any]]) -> str:
    """The zoo as a Markdown table, a row a record."""
    lines = [
        "| name | parameters | file | UTKFace val MAE | CS@5 | FG-NET photo to age MAE | weights' licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        name = record["weights"]
        measured = {(m["dataset"], m["split"]): m for m in record["measured"]}
        val, fgnet = measured["utkface", "val"], measured["fgnet", None]
        lines.append(
            f"| [`{name}`](cards/{name}.md) | {count_parameters(name):,} | {_megabytes(name):.2f} MB | "
            f"{val['mae']:.2f} years | {val['cs5']:.1%} | {fgnet['mae']:.2f} years | research use |"
        )
    return "\n".join(lines)


def _megabytes(name: str) -> float:
    return (embedded_folder(name) / WEIGHTS_FILE).stat().st_size / 1e6
