"""The browser that the machine has, for tests of what it shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def find_chromium() -> str:
    """The path of Chromium; without one the test is skipped, or fails where SSRNET_TEST_BROWSER is set."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        if os.environ.get("SSRNET_TEST_BROWSER"):
            pytest.fail("SSRNET_TEST_BROWSER is set, and there is no chromium: apt-get install chromium")
        pytest.skip("no chromium is installed: apt-get install chromium")
    return chromium


@contextmanager
def start_chromium(webcam: Optional[Path] = None) -> Iterator[Browser]:
    """A browser of the tests' own; with a film that its camera shows, nobody is asked whether it may."""
    arguments = list(QUIET)
    if webcam:
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        arguments += [f"--use-file-for-fake-video-capture={webcam}"]
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def keep(page: Page, name: str) -> None:
    """Keep a picture of a page in the folder that SSRNET_SCREENSHOTS names."""
    folder = os.environ.get("SSRNET_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)
