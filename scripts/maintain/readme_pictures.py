"""Make the pictures of README.md: of scikit-image's astronaut (NASA, public domain), of the page, for which chromium is
needed, and of what scripts/benchmark.py measured.
"""

import json
import shutil
from pathlib import Path

import skimage.data
from matplotlib.figure import Figure
from playwright.sync_api import sync_playwright

from ssrnet_hub import AgeEstimator
from ssrnet_hub.inference.visualization import plot_breakdown, plot_ratios
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.webapp import launch

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    (face,) = AgeEstimator()(skimage.data.astronaut())
    with replace_file(ROOT / "docs" / "breakdown.png") as path:
        plot_breakdown(face).savefig(path, dpi=110)
    with replace_file(ROOT / "docs" / "speed.png") as path:
        plot_speed().savefig(path, dpi=110)
    with replace_file(ROOT / "docs" / "demo.png") as path:
        path.write_bytes(photograph_demo())


def plot_speed() -> Figure:
    """How long a face, 64 faces and photos take, as shares of what one would write without this package."""
    measured = json.loads((ROOT / "benchmarks" / "cpu.json").read_text(encoding="utf-8"))
    tasks = {
        "one face": measured["model"]["batch 1"],
        "64 faces": measured["model"]["batch 64"],
        f"{measured['photos']['photos']} photos to ages": measured["photos"]["ways"],
    }
    return plot_ratios({task: {way: row["ratio"] for way, row in rows.items()} for task, rows in tasks.items()})


def photograph_demo() -> bytes:
    """A screenshot of the demo with an example in it, PNG."""
    _, url, _ = launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(url)
        page.locator(".gallery button").nth(1).click()
        page.locator(".ssr-face").nth(1).click(timeout=60_000)
        page.get_by_text("face 2, ").wait_for()
        page.wait_for_timeout(1000)  # pictures fade in
        picture = page.screenshot(full_page=True)
        browser.close()
    return picture


if __name__ == "__main__":
    main()
