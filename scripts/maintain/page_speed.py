"""Measure the web page in Chromium: the time from the server's start to the first result, compared with a bare Gradio
page, and from the upload of a 12-megapixel photo to its result, compared with the package alone. Medians.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import Browser, Error, Page, sync_playwright

from ssrnet_hub import AgeEstimator

_BARE = "import gradio as gr\nwith gr.Blocks() as page:\n    gr.Image(elem_id='photo')\npage.launch()"
_PAGES = {
    "a bare Gradio page": ([sys.executable, "-c", _BARE], "#photo"),
    "ours with its first answer": ([sys.executable, "-m", "ssrnet_hub.cli", "demo"], ".ssr-face"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        starts: dict[str, list[float]] = {name: [] for name in _PAGES}
        for _ in range(rounds):
            for name, (command, selector) in _PAGES.items():
                with serve(browser, command, selector) as (_, seconds):
                    starts[name].append(seconds)
        with (
            serve(browser, *_PAGES["ours with its first answer"]) as (page, _),
            tempfile.TemporaryDirectory() as folder,
        ):
            times = measure_uploads(page, Path(folder), rounds)
        browser.close()
    bare, ours = (statistics.median(seconds) for seconds in starts.values())
    print(f"from the start: {bare:.2f} s (a bare Gradio page), {ours:.2f} s (ours with an answer): {ours / bare:.2f}")
    alone, upload = (statistics.median(seconds) for seconds in times)
    print(f"12 megapixels: {alone:.2f} s (the package alone), {upload:.2f} s (on the page): {upload - alone:+.2f} s")


@contextmanager
def serve(browser: Browser, command: list[str], selector: str) -> Iterator[tuple[Page, float]]:
    """Open a page in the browser; yield it with the seconds from the server's start until the selector is shown."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page = browser.new_page()
    try:
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}")
                break
            except Error:
                time.sleep(0.05)
        page.locator(selector).first.wait_for(timeout=120_000)
        yield page, time.monotonic() - start
    finally:
        page.close()
        process.terminate()
        process.wait()


def measure_uploads(page: Page, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Measure the seconds per photo for the package alone and on the page, with a different photo in each round."""
    estimator = AgeEstimator()
    times: tuple[list[float], list[float]] = [], []
    for number in range(rounds + 1):
        path = folder / f"{number}.jpg"
        photo = Image.new("RGB", (4000, 3000), "teal")
        photo.paste(Image.fromarray(skimage.data.astronaut()).resize((2000, 2000)), (900 + 100 * number, 500))
        photo.save(path, quality=90)
        start = time.monotonic()
        estimator(path)
        times[0].append(time.monotonic() - start)
        before = page.locator(".ssr-photo img").get_attribute("src")
        start = time.monotonic()
        page.locator("input[type=file]").first.set_input_files(path)
        page.wait_for_function(
            """before => {
              const { src } = document.querySelector('.ssr-photo img');
              return !document.querySelector('#result [aria-busy]') && src !== before && src.startsWith('data:');
            }""",
            arg=before,
        )
        times[1].append(time.monotonic() - start)
    # the first round is a warm-up
    return times[0][1:], times[1][1:]


if __name__ == "__main__":
    main()
