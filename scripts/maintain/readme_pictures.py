"""Make the pictures of README.md: plots of scikit-image's astronaut (NASA, public domain) and of the results of
scripts/benchmark.py, and a screenshot and animation of the page, which require Chromium.
"""

import io
import json
import shutil
from pathlib import Path

import skimage.data
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

from ssrnet_hub import AgeEstimator, Face
from ssrnet_hub.inference.visualization import plot_breakdown, plot_ratios
from ssrnet_hub.training.worn import worn_copies
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.webapp import launch

ROOT = Path(__file__).resolve().parents[2]

_FRAMES = 48
"""Frames of the animation, without the last one."""


def main() -> None:
    estimator = AgeEstimator()
    (face,) = estimator(skimage.data.astronaut())
    with replace_file(ROOT / "docs" / "breakdown.png") as path:
        plot_breakdown(face).savefig(path, dpi=110)
    with replace_file(ROOT / "docs" / "intervals.png") as path:
        plot_intervals(estimator, face).savefig(path, dpi=110)
    with replace_file(ROOT / "docs" / "speed.png") as path:
        plot_speed().savefig(path, dpi=110)
    picture, movie = record_page()
    with replace_file(ROOT / "docs" / "demo.png") as path:
        path.write_bytes(picture)
    with replace_file(ROOT / "docs" / "demo.webp") as path:
        movie[0].save(
            path, "WEBP", save_all=True, append_images=movie[1:], duration=[*[90] * (len(movie) - 1), 3000], loop=0
        )


def plot_intervals(estimator: AgeEstimator, face: Face) -> Figure:
    """Plot a face and three degraded copies, with the interval and doubts of each."""
    worn = dict(worn_copies([face.crop]))
    names = {
        "reduced to 24 pixels": "24 pixels",
        "blurred, 1/24": "blurred",
        "lower half covered": "lower half covered",
    }
    pictures = {"original": face.crop, **{title: worn[name][0] for name, title in names.items()}}
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    axes = figure.subplots(2, 4, height_ratios=(3, 1))
    seen = estimator.crops(pictures.values())
    for column, (title, picture, own) in enumerate(zip(pictures, pictures.values(), seen, strict=True)):
        top, bottom = axes[:, column]
        top.imshow(picture)
        top.set_title(title, fontsize=9)
        top.axis("off")
        low, high = own.interval(0.9) or (0, 100)
        color = "tab:orange" if own.doubts else "tab:blue"
        bottom.plot((low, high), (0, 0), color=color, linewidth=5, solid_capstyle="butt")
        bottom.plot(own.age, 0, "o", color="black", markersize=4)
        bottom.set(xlim=(0, 100), yticks=[], xticks=(0, 50, 100))
        flagged = f"flagged: {', '.join(own.doubts)}" if own.doubts else "not flagged"
        bottom.set_xlabel(f"{own.age:.0f} years, 90% interval {low:.0f} to {high:.0f}\n{flagged}", fontsize=8)
        bottom.tick_params(labelsize=7)
        for side in ("left", "right", "top"):
            bottom.spines[side].set_visible(False)
    return figure


def plot_speed() -> Figure:
    """Plot the times for a face, 64 faces, and photos, relative to the baseline without this package."""
    measured = json.loads((ROOT / "benchmarks" / "cpu.json").read_text(encoding="utf-8"))
    tasks = {
        "one face": measured["model"]["batch 1"],
        "64 faces": measured["model"]["batch 64"],
        f"{measured['photos']['photos']} photos to ages": measured["photos"]["ways"],
    }
    return plot_ratios({task: {way: row["ratio"] for way, row in rows.items()} for task, rows in tasks.items()})


def record_page() -> tuple[bytes, list[Image.Image]]:
    """Return a PNG screenshot of the page with an example, and frames of its breakdown from the grid to the age."""
    _, url, _ = launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.goto(url)
        page.get_by_role("button", name="Example: three sizes").click(timeout=60_000)
        page.locator(".ssr-face").nth(1).click(timeout=60_000)
        page.get_by_text("Face 2, stage by stage").first.wait_for()
        page.wait_for_timeout(1000)  # images fade in
        picture = page.screenshot(full_page=True)
        page.locator(".ssr-example").nth(0).click()
        page.locator(".ssr-face[data-face='2']").wait_for(state="detached")
        slider, frames = page.locator(".ssrnet-slider"), []
        for step in range(_FRAMES + 1):
            slider.evaluate(
                "(it, share) => { it.value = share * it.max; it.dispatchEvent(new Event('input', {bubbles: true})); }",
                step / _FRAMES,
            )
            frame = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            frames.append(frame.resize((880, 720), Image.Resampling.LANCZOS))
        browser.close()
    return picture, frames


if __name__ == "__main__":
    main()
