"""Make the pictures of README.md from scikit-image's astronaut (NASA, public domain); the page's needs chromium."""

import shutil
from pathlib import Path

import skimage.data
from playwright.sync_api import sync_playwright

from ssrnet_hub import AgeEstimator
from ssrnet_hub.files import replace_file
from ssrnet_hub.plots import plot_breakdown
from ssrnet_hub.webapp import launch

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    (face,) = AgeEstimator()(skimage.data.astronaut())
    with replace_file(ROOT / "docs" / "breakdown.png") as path:
        plot_breakdown(face).savefig(path, dpi=110)
    with replace_file(ROOT / "docs" / "demo.png") as path:
        path.write_bytes(photograph_demo())


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
