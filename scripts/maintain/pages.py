"""Tables and pages of what was measured, for scripts/maintain/render_cards.py."""

import argparse
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ssrnet_hub.cli.command import build_parser

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined, keep_trailing_newline=True
)

MACHINES = (1, 10, 100)
CORES = 16
"""Of the machines in the estimate of docs/scaling.md."""

PHOTOS = 100_000_000


def render_speed(measured: dict[str, Any]) -> str:
    """Tables of docs/speed.md from what ``scripts/benchmark.py`` measured."""
    batches = {key: rows for key, rows in measured["model"].items() if key.startswith("batch")}
    lines = [
        f"| face crop to age, ms (relative to the first row) | {' | '.join(batches)} |",
        "|---" * (1 + len(batches)) + "|",
    ]
    for name in next(iter(batches.values())):
        cells = [f"{rows[name]['ms']:.3g} ({rows[name]['ratio']:.2f})" for rows in batches.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    photos, film = measured["photos"], measured["film"]
    lines += ["", f"| {photos['photos']} photos to ages | seconds | relative | faces |", "|---|---|---|---|"]
    for name, row in photos["ways"].items():
        lines.append(f"| {name} | {row['ms'] / 1000:.2f} | {row['ratio']:.2f} | {row['faces']} |")
    rates = ", ".join(f"{row['frames_a_second']:.0f} ({name})" for name, row in film["ways"].items())
    best = batches["batch 64"]["ssrnet, runtime onnx"]["share_of_matrix_product"]
    lines += [
        "",
        f"By default, {_missed(photos)}. Frames per second of a {'x'.join(map(str, film['size']))} video with "
        f"detection in every frame: {rates}. At batch 64, ONNX Runtime reaches {best:.0%} of the rate of a matrix "
        f"product on this machine, {measured['matrix_product_gflops']:.0f} GFLOP/s.",
        "",
        f"`{measured['command']}` on {measured['device']}; implementations take turns, medians.",
    ]
    return "\n".join(lines)


def _missed(measured: dict[str, Any]) -> str:
    lost, sure = measured["sure_faces_lost"], measured["sure_faces"]
    if lost:
        return f"{lost} of {sure} confident baseline detections are missed"
    return f"no confident baseline detection is missed (0/{sure})"


def summarize_speed(template: str, cpu: dict[str, Any], start: dict[str, Any], folder: dict[str, Any]) -> str:
    """A README's lines on speed, of what ``scripts/benchmark.py`` measured."""
    values = {
        "device": cpu["device"],
        "crop": cpu["model"]["batch 1"]["est.crops"]["ms"],
        "photos": cpu["photos"],
        "ours": cpu["photos"]["ways"]["ours"],
        "first": start["first_age"]["AgeEstimator, first age"],
        "folder": folder["folder"],
    }
    return TEMPLATES.get_template(template).render(values).strip()


def translate_table(table: str) -> str:
    """The table of weights for README.zh-CN.md.

    Raises:
        ValueError: A text of the table has changed.
    """
    texts = yaml.safe_load((Path(__file__).parent / "templates" / "zoo.zh-CN.yaml").read_text(encoding="utf-8"))
    for text, translation in texts.items():
        if text not in table:
            raise ValueError(f"The table of weights has no {text!r}.")
        table = table.replace(text, translation)
    return table


def render_start(measured: dict[str, Any]) -> str:
    """Table of docs/speed.md from what ``scripts/benchmark.py --start`` measured."""
    rows = [
        f"| {name} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['peak_mb']:.0f} |"
        for name, row in measured["first_age"].items()
    ]
    head = ["| fresh process, one photo | seconds | relative | peak memory, MB |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"`{measured['command']}` on {measured['device']}, medians."])


def render_folder(measured: dict[str, Any]) -> str:
    """Lines of docs/tutorials/many-photos.md from what ``scripts/benchmark.py --folder`` measured."""
    folder = measured["folder"]
    job, loop = folder["job"], folder["loop"]
    lines = [
        f"{folder['photos']} photos take {job['seconds']:.0f} seconds with {folder['workers']} workers, with start-up.",
        f"A plain loop over facenet-pytorch's MTCNN and the model takes {loop['seconds']:.0f} seconds,",
        f"{folder['times_the_rate']:.1f} times as long. Compared with the loop, {_missed(folder)}.",
        f"All processes together use at most {folder['peak_mb']:,} MB.",
    ]
    return " ".join(lines) + f"\n\n`{measured['command']}` on {measured['device']}."


def render_browser(measured: dict[str, Any]) -> str:
    """Table of docs/how-to/web-page.md from what ``scripts/maintain/benchmark_browser.py`` measured."""
    peer = next(name for name in measured["versions"] if name.endswith("/face-api"))
    pages = measured["pages"]
    lines = [
        f"| in one Chromium, {pages['photos']} photos | first answer, cold cache, s | median photo, s | all, s "
        "| MB, compressed |",
        "|---|---|---|---|---|",
    ]
    for name, row in pages["each"].items():
        photo = row["photo_seconds"]
        cells = [row["first_answer_seconds"], photo["median"], photo["total"], row["compressed_bytes"] / 1e6]
        title = f"`{peer}` {measured['versions'][peer]}" if peer.endswith(name) else "this page"
        lines.append(f"| {title} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    said = [f"`{measured['command']}` on {measured['device']}, one thread each."]
    if camera := measured.get("camera"):
        width, height = camera["size"]
        said.append(
            f"A camera of {width}x{height} is answered {camera['pictures_per_second']:.1f} times a second; "
            f"{camera['with_an_age']:.1%} of these pictures show the age of the face before it."
        )
    if parity := measured.get("parity"):
        faces, years = parity["faces"], parity["years"]
        said.append(
            f"In {parity['photos']} photos, the page finds {faces['page']} faces and Python {faces['python']}; "
            f"{parity['same_box']:.1%} are the same (IoU of at least 0.9). Their ages differ by {years['mean']:.4f} "
            f"years on average, and 98% of them by at most {years['quantile_98']:.3f}."
        )
    return "\n".join([*lines, "", " ".join(said)])


_METRICS = {
    "val_mae_utkface": "UTKFace MAE",
    "val_distance_fairface": "FairFace distance",
    "val_mae_aaf": "All-Age-Faces MAE",
    "val_distance": "FairFace distance",
    "val_accuracy": "FairFace accuracy",
}


def render_training(log: Path) -> str:
    """A table of docs/experiments.md from the log of a run."""
    with log.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in rows[0] if key in _METRICS]
    lines = [f"| epoch | {' | '.join(_METRICS[key] for key in keys)} |", "|---" * (len(keys) + 1) + "|"]
    lines += [f"| {row['epoch']} | {' | '.join(f'{float(row[key]):.2f}' for key in keys)} |" for row in rows]
    return "\n".join(lines)


def render_command() -> str:
    """docs/reference/command.md, from the parsers of the command."""
    parser, commands = build_parser()
    lines = ["# Command reference", "", f"`{parser.prog} COMMAND [OPTION ...]`", "", f"{parser.description}", ""]
    for name, command in commands.items():
        summary = (command.description or "").partition(". ")[0].removesuffix(".")
        lines.append(f"- [`{name}`](#{name}): {_plain(summary)}")
    for name, command in commands.items():
        lines += ["", f"## {name}", "", _plain(command.description or "")]
        for group in command._action_groups:
            actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
            actions = [action for action in actions if not isinstance(action, argparse._HelpAction)]
            if actions:
                lines += ["", f"**{(group.title or '').capitalize()}**"]
                lines += ["", _plain(group.description)] if group.description else []
                lines += ["", *map(_describe_option, actions)]
    return "\n".join(lines) + "\n"


def _describe_option(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or _choices(action) or action.dest.upper()}"
    name = ", ".join(f"`{option}{value}`" for option in action.option_strings) or f"`{value.strip()}`"
    text = (action.help or "") % {**vars(action), "prog": "ssrnet-hub"}
    return f"- {name}{' (required)' * (action.required and bool(action.option_strings))}" + f": {_plain(text)}" * bool(
        text
    )


def _choices(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""


def _plain(text: str) -> str:
    """Text of the help as Markdown: options as code."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", text).replace("<", "\\<")


def render_ablations(measured: dict[str, Any]) -> str:
    """docs/ablations.md."""
    rows = [{**row, "half_spread": (max(row["val_mae"]) - min(row["val_mae"])) / 2} for row in measured["variants"]]
    full, *others = rows
    fixed = next(row for row in others if row["model_args"].get("dynamic_range") is False)
    dex = next(row for row in others if row["architecture"] == "ssrnet_dex" and not row["model_args"])
    plain = next(row for row in others if row["architecture"] == "ssrnet_dex" and row["model_args"])
    verdicts = [
        ("The dynamic range", "with it", fixed, judge(full, fixed)),
        ("The stages", "with them", dex, judge(full, dex)),
        ("The stages, compared with plain regression", "with them", plain, judge(full, plain)),
    ]
    values = {**measured, "variants": rows, "seeds": len(full["val_mae"]), "verdicts": verdicts}
    return TEMPLATES.get_template("ablations.md.jinja").render(values)


def judge(full: dict[str, Any], other: dict[str, Any]) -> str:
    """Whether a part is worth it; undecided where the ranges across seeds overlap."""
    if max(full["val_mae"]) < min(other["val_mae"]):
        return "worth it"
    if max(other["val_mae"]) < min(full["val_mae"]):
        return "not worth it with this recipe"
    return "within seed variation"


def render_scaling(measured: dict[str, Any]) -> str:
    """docs/scaling.md."""
    one, two = (measured["photos_a_second"][workers] for workers in ("1", "2"))
    rows = []
    for machines in MACHINES:
        rate = machines * CORES * two / 2
        network = CORES * two / 2 * measured["bytes_read_a_photo"] / 1e6
        rows.append(
            {
                "machines": machines,
                "workers": machines * CORES,
                "rate": rate,
                "hours": PHOTOS / rate / 3600,
                "network": network,
            }
        )
    own = {"one": one, "two": two, "kept": two / (2 * one), "cores": CORES, "rows": rows, "photos": PHOTOS}
    return TEMPLATES.get_template("scaling.md.jinja").render({**measured, **own})


def render_comparison(measured: dict[str, Any]) -> str:
    """docs/comparison.md, from what ``scripts/maintain/benchmark_peers.py`` measured."""
    return TEMPLATES.get_template("comparison.md.jinja").render(
        {
            **measured,
            "sets": [{"name": name, **_compare(part, measured["ours"])} for name, part in measured["sets"].items()],
            "fewer_missed": _fewer_missed(measured),
            "cheaper": _cheaper(measured),
            "no_number": _count_no_number(measured),
        }
    )


def _compare(measured: dict[str, Any], ours: list[str]) -> dict[str, Any]:
    """A data set as docs/comparison.md and README have it: a row per system, and who is ahead of whom."""
    error, share = ("mae", "cs5") if "mae" in next(iter(measured["systems"].values())) else ("distance", "within")
    rows = [
        {
            "system": system,
            # a lead that the printed digits do not show is none
            "error": round(row[error], 2),
            "interval": row[f"{error}_interval"],
            "share": row[share],
            "missed": row["missed"],
            "error_on_common": round(row["found_by_all"][error], 2),
            "share_on_common": row["found_by_all"][share],
        }
        for system, row in measured["systems"].items()
    ]
    for key, bold in (("error", "bold"), ("error_on_common", "bold_on_common")):
        least = min(row[key] for row in rows)
        for row in rows:
            row[bold] = "**" if row[key] == least else ""
    return {
        **measured,
        "measure": "MAE" if error == "mae" else "distance to the range",
        "share": "CS@5" if error == "mae" else "within the range",
        "rows": rows,
        "ahead": find_ahead({row["system"]: row["error"] for row in rows}, ours),
        "ahead_on_common": find_ahead({row["system"]: row["error_on_common"] for row in rows}, ours),
    }


def find_ahead(errors: dict[str, float], ours: list[str]) -> list[dict[str, Any]]:
    """The other packages that are ahead of some of our weights, the best first.

    Args:
        errors: By system.
        ours: Those that are our weights.

    Returns:
        Of each ``system`` and ``error``; ``behind``, our weights with a larger error, and ``errors``, theirs.
    """
    rows = []
    for system, error in sorted(errors.items(), key=lambda item: item[1]):
        behind = [name for name in ours if errors[name] > error]
        if system not in ours and behind:
            rows.append({"system": system, "error": error, "behind": behind, "errors": [errors[n] for n in behind]})
    return rows


def _count_no_number(measured: dict[str, Any]) -> dict[str, int]:
    """By system the faces that it found and gave no age, of those that have any."""
    counts: dict[str, int] = {}
    for part in measured["sets"].values():
        for system, row in part["systems"].items():
            counts[system] = counts.get(system, 0) + row["no_number"]
    return {system: count for system, count in counts.items() if count}


def _fewer_missed(measured: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for part in measured["sets"].values():
        missed = {system: row["missed"] for system, row in part["systems"].items()}
        least = missed[measured["ours"][0]]
        rows = [{"system": system, "missed": count} for system, count in missed.items() if count < least]
        if rows:
            lines.append({"title": part["title"], "rows": rows, "ours": least})
    return lines


def _cheaper(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Which packages cost less than our default weights, by what."""
    if "cost" not in measured:
        return []
    rows = measured["cost"]["systems"]
    costs: dict[str, Callable[[dict[str, Any]], float]] = {
        "Time to the first age": lambda row: row["first"]["seconds"],
        f"Time for {measured['cost']['photos']} photos": lambda row: row["all"]["seconds"],
        "Memory": lambda row: row["all"]["peak_mb"],
        "Disk": lambda row: row["install_mb"],
        "Weights": lambda row: row["weights_mb"],
    }
    ours = rows[measured["ours"][0]]
    others = {name: row for name, row in rows.items() if name not in measured["ours"]}
    lines = []
    for title, cost in costs.items():
        systems = [name for name, row in others.items() if cost(row) < cost(ours)]
        if systems:
            lines.append({"title": title, "systems": systems})
    return lines


def measure_installs(measured: dict[str, Any]) -> dict[str, str]:
    """GB that the package installs with and without PyTorch, by name of the figure."""
    sizes = [row["install_mb"] / 1000 for name, row in measured["cost"]["systems"].items() if name in measured["ours"]]
    return {"full": f"{max(sizes):.1f} GB", "light": f"{min(sizes):.1f} GB"}


def summarize_comparison(template: str, measured: dict[str, Any]) -> str:
    """A README's lines on how the package compares."""
    ours = measured["ours"]
    sets = {name: _compare(part, ours) for name, part in measured["sets"].items()}
    first = {row["system"]: row["error"] for row in sets["fairface_photos"]["rows"]}
    values = {
        "photos": sets["fairface_photos"]["photos"],
        "drawn_from": sets["fairface_photos"]["drawn_from"],
        "ours": {name: first[name] for name in ours},
        "peers": {name: error for name, error in first.items() if name not in ours},
        "sets": len(sets),
        "ahead": [
            (name, part, row, min(row["errors"]))
            for name, part in sets.items()
            for row in part["ahead"][:1]
            if len(row["behind"]) == len(ours)
        ],
    }
    return TEMPLATES.get_template(template).render(values).strip()
