"""Tables and pages of what was measured, for scripts/maintain/render_cards.py."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined, keep_trailing_newline=True
)

MACHINES = (1, 10, 100)
CORES = 16
"""Of the machines that docs/scaling.md reckons with."""

PHOTOS = 100_000_000


def render_speed(measured: dict[str, Any]) -> str:
    """README's tables of what ``scripts/benchmark.py`` measured."""
    batches = {key: rows for key, rows in measured["model"].items() if key.startswith("batch")}
    lines = [
        f"| from a face to its age, ms (share of the first) | {' | '.join(batches)} |",
        "|---" * (1 + len(batches)) + "|",
    ]
    for name in next(iter(batches.values())):
        cells = [f"{rows[name]['ms']:.3g} ({rows[name]['ratio']:.2f})" for rows in batches.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    photos, film = measured["photos"], measured["film"]
    lines += [
        "",
        f"| from {photos['photos']} photos to ages | seconds | share of the first | faces |",
        "|---|---|---|---|",
    ]
    for name, row in photos["ways"].items():
        lines.append(f"| {name} | {row['ms'] / 1000:.2f} | {row['ratio']:.2f} | {row['faces']} |")
    lost = f"{photos['sure_faces_lost']} of the {photos['sure_faces']} faces that the first is sure of are lost"
    rates = ", ".join(f"{row['frames_a_second']:.0f} ({name})" for name, row in film["ways"].items())
    best = batches["batch 64"]["ssrnet, runtime onnx"]["share_of_matrix_product"]
    lines += [
        "",
        f"By the default {lost}. Frames a second of a film of {'x'.join(map(str, film['size']))}, faces looked for in "
        f"each: {rates}. At batch 64 ONNX Runtime reaches {best:.0%} of the rate of a matrix product on this machine, "
        f"{measured['matrix_product_gflops']:.0f} GFLOP/s.",
        "",
        f"`{measured['command']}` on {measured['device']}, contestants taking turns, medians.",
    ]
    return "\n".join(lines)


def render_start(measured: dict[str, Any]) -> str:
    """README's line of what ``scripts/benchmark.py --start`` measured."""
    rows = [
        f"| {name} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['peak_mb']:.0f} |"
        for name, row in measured["first_age"].items()
    ]
    head = ["| a fresh process with one photo | seconds | share of the first | peak memory, MB |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"`{measured['command']}` on {measured['device']}, medians."])


def render_folder(measured: dict[str, Any]) -> str:
    """README's lines of what ``scripts/benchmark.py --folder`` measured."""
    folder = measured["folder"]
    job, loop = folder["job"], folder["loop"]
    lines = [
        f"{folder['photos']} photos take the job {job['seconds']:.0f} seconds with {folder['workers']} workers, start",
        f"included; a plain loop of facenet-pytorch's MTCNN and the model takes {loop['seconds']:.0f}, which is",
        f"{folder['times_the_rate']:.1f} times as long.",
        f"{folder['sure_faces_lost']} of the {folder['sure_faces']} faces that the loop is sure of are lost.",
        f"All processes together have {folder['peak_mb']:,} MB at most.",
    ]
    return " ".join(lines) + f"\n\n`{measured['command']}` on {measured['device']}."


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
        ("The stages, against no bins at all", "with them", plain, judge(full, plain)),
    ]
    values = {**measured, "variants": rows, "seeds": len(full["val_mae"]), "verdicts": verdicts}
    return TEMPLATES.get_template("ablations.md.jinja").render(values)


def judge(full: dict[str, Any], other: dict[str, Any]) -> str:
    """Whether a part is worth it; not to be told where the seeds of one reach those of the other."""
    if max(full["val_mae"]) < min(other["val_mae"]):
        return "worth it"
    if max(other["val_mae"]) < min(full["val_mae"]):
        return "not worth it with this recipe"
    return "no difference that the seeds do not make"


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
