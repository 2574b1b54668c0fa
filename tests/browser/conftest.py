"""The page built from its sources, behind a server of files, in a browser."""

import functools
import os
import runpy
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

import pytest
from playwright.sync_api import Browser, Page, expect

from ..chromium import start_chromium

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "demo" / "browser"

expect.set_options(timeout=60_000)  # a machine that has other work to do is slow, not wrong


def need(*commands: str) -> str:
    """The path of the first of some commands that is installed."""
    found = next(filter(None, map(shutil.which, commands)), None)
    if not found:
        said = f"{commands[0]} is not installed"
        if os.environ.get("SSRNET_TEST_BROWSER"):
            pytest.fail(f"SSRNET_TEST_BROWSER is set, and {said}")
        pytest.skip(said)
    return found


@pytest.fixture(scope="session")
def builder():
    """What `scripts/build_browser.py` defines, and npm's packages are installed."""
    need("npm")
    functions = runpy.run_path(str(ROOT / "scripts" / "build_browser.py"))
    functions["install"]()
    return functions


@pytest.fixture(scope="session")
def site(builder, tmp_path_factory) -> Path:
    """The folder of the page."""
    return builder["build"](None, tmp_path_factory.mktemp("browser") / "page")


class Handler(SimpleHTTPRequestHandler):
    def guess_type(self, path) -> str:
        return {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(Path(path).suffix) or super().guess_type(
            path
        )

    def end_headers(self) -> None:
        for item in self.server.headers.items():
            self.send_header(*item)
        super().end_headers()

    def log_message(self, *args) -> None:
        self.server.asked.append(self.path)


@dataclass
class Server:
    """A server of files on 127.0.0.1."""

    url: str
    asked: list[str]
    _server: ThreadingHTTPServer = field(repr=False)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def start(folder: Path, headers: Optional[dict[str, str]] = None) -> Server:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.asked, server.headers = [], headers or {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Server(f"http://127.0.0.1:{server.server_port}/", server.asked, server)


@pytest.fixture(scope="module")
def server(site) -> Iterator[Server]:
    server = start(site)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def webcam(tmp_path_factory) -> Path:
    """A film of the astronaut, as chromium plays it for a camera."""
    path = tmp_path_factory.mktemp("webcam") / "webcam.mjpeg"
    runpy.run_path(str(ROOT / "scripts" / "maintain" / "live_rate.py"))["write_camera"](path)
    return path


@pytest.fixture(scope="module")
def browser(webcam) -> Iterator[Browser]:
    with start_chromium(webcam) as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(browser, server):
    """The page, open, and what went wrong in it: it takes seconds to compile the networks' runtime."""
    wrong: list[str] = []
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("request", lambda r: r.url.startswith((server.url, "data:", "blob:")) or wrong.append(r.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(server.url)
    expect(page.locator("body[data-ready]")).to_be_visible()
    yield page, wrong
    context.close()


@pytest.fixture
def page(opened) -> Iterator[Page]:
    """The page on a desk, in English and light; errors in it, and what it asks of other hosts, fail the test."""
    page, wrong = opened
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.select_option("#language", "en")
    yield page
    said = wrong.copy()
    wrong.clear()
    assert not said
