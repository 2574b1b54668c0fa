"""Measure the page in the browser beside @vladmandic/face-api with its WebAssembly backend: benchmarks/browser.json.

Both are served compressed by one server and run in one chromium, on one thread each. Needs npm, which downloads the
peer, and the photos in SSRNET_SHARED.
"""

import argparse
import functools
import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

from playwright.sync_api import Browser, Page, expect, sync_playwright

from ssrnet_hub.utils.metrics import describe_device
from ssrnet_hub.utils.version import __version__

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import build_browser  # noqa: E402

RECORD = ROOT / "benchmarks" / "browser.json"
PEER = {"@vladmandic/face-api": "1.7.15", "@tensorflow/tfjs-backend-wasm": "4.22.0"}
MODELS = ("ssd_mobilenetv1", "face_landmark_68", "age_gender")

_PEER_PAGE = """<!doctype html>
<input type="file" id="file"><p id="status"></p>
<script type="module">
  import * as faceapi from './face-api.esm.js';
  const { tf, nets } = faceapi;
  async function load() {
    tf.setWasmPaths('./wasm/');
    if (!(await tf.setBackend('wasm'))) throw new Error('There is no WebAssembly backend.');
    await tf.ready();
    const used = [nets.ssdMobilenetv1, nets.faceLandmark68Net, nets.ageGenderNet];
    await Promise.all(used.map((net) => net.loadFromUri('./model')));
  }
  const ready = load();
  const status = document.querySelector('#status');
  document.querySelector('#file').addEventListener('change', async ({ target }) => {
    status.textContent = 'Looking';
    const photo = await faceapi.bufferToImage(target.files[0]);
    target.value = '';
    await ready;
    const faces = await faceapi.detectAllFaces(photo).withFaceLandmarks().withAgeAndGender();
    status.textContent = `${faces.length} faces found: ${faces.map(({ age }) => age.toFixed(1))}`;
  });
</script>
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="fresh visits of each page (default: 5)")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    args = parser.parse_args()
    shared = Path(os.environ["SSRNET_SHARED"], "data")
    photos = sorted((shared / "photos").glob("*.jpg"))
    photos += sorted((shared / "fairface_photos" / "images").iterdir())[: 20 - len(photos)]
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        pages = {
            "ssrnet-hub": build_browser.build(None, Path(temporary, "ours")),
            "face-api": build_peer(Path(temporary, "peer")),
        }
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        figures = measure(chromium, pages, photos, args.rounds)
        version = chromium.version
        chromium.close()
    ours = json.loads((build_browser.SOURCE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    said = {
        "command": "python scripts/maintain/benchmark_browser.py --record",
        "device": describe_device("cpu"),
        "versions": {"ssrnet_hub": __version__, "chromium": version, **ours, **PEER},
        "photos": len(photos),
        "rounds": args.rounds,
        "pages": figures,
    }
    print(json.dumps(said, indent=2))
    if args.record:
        RECORD.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return 0


def build_peer(folder: Path) -> Path:
    """A page around the peer that does what ours does, from files of its packages."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        names = [f"{name}@{version}" for name, version in PEER.items()]
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        subprocess.run([shutil.which("npm") or "npm", "install", *quiet, *names], cwd=temporary, check=True)
        face_api, backend = (Path(temporary, "node_modules", name) for name in PEER)
        shutil.copy(face_api / "dist" / "face-api.esm.js", folder)
        shutil.copytree(
            backend / "dist", folder / "wasm", ignore=lambda _, names: [n for n in names if ".wasm" not in n]
        )
        (folder / "model").mkdir()
        for path in (face_api / "model").iterdir():
            if path.name.startswith(MODELS) and "tiny" not in path.name:
                shutil.copy(path, folder / "model")
    (folder / "index.html").write_text(_PEER_PAGE, encoding="utf-8")
    return folder


class Handler(SimpleHTTPRequestHandler):
    """Serves files compressed, and counts what it sends."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        packed = compress(path)
        self.server.sent += len(packed)  # type: ignore[attr-defined]
        self.send_response(200)
        types = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        self.send_header("Content-Type", types.get(path.suffix) or self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *args: Any) -> None:
        pass


@functools.cache
def compress(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 9)


def measure(chromium: Browser, pages: dict[str, Path], photos: list[Path], rounds: int) -> dict[str, Any]:
    """Visits that take turns: the first answer of each, with nothing cached, and in the last round all photos."""
    first: dict[str, list[float]] = {name: [] for name in pages}
    figures: dict[str, dict[str, Any]] = {name: {} for name in pages}
    for turn in range(1 + rounds):
        for name, folder in pages.items():
            # a server of its own each time, so that nothing is known of its address
            server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
            server.sent = 0  # type: ignore[attr-defined]
            for path in folder.rglob("*"):
                if path.is_file():
                    compress(path)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            context = chromium.new_context(service_workers="block")
            page = context.new_page()
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_port}/", wait_until="domcontentloaded")
            answer(page, photos[0])
            seconds = time.perf_counter() - start
            if turn:
                first[name].append(seconds)
            figures[name]["compressed_bytes"] = server.sent  # type: ignore[attr-defined]
            if turn == rounds:
                times = [answer(page, photo) for photo in photos]
                figures[name]["photo_seconds"] = {
                    "median": round(statistics.median(times), 3),
                    "total": round(sum(times), 3),
                    "each": {photo.name: round(value, 3) for photo, value in zip(photos, times, strict=True)},
                }
            context.close()
            server.shutdown()
            server.server_close()
    for name, folder in pages.items():
        figures[name]["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        figures[name]["first_answer_seconds"] = round(statistics.median(first[name]), 3)
    return figures


def answer(page: Page, photo: Path, timeout: Optional[float] = 180_000) -> float:
    """Seconds from choosing a photo to its ages."""
    start = time.perf_counter()
    page.set_input_files("#file", photo)
    # neither page says so before it is done; and ours says the same of the next photo only after another text
    expect(page.locator("#status")).to_have_text(re.compile("found"), timeout=timeout)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
