"""The documentation builds without a warning, covers every public name, and asks nothing of the network."""

import importlib
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser

from sphinx.util.inventory import InventoryFile

import ssrnet_hub
from ssrnet_hub import errors
from ssrnet_hub.batch import ray_data
from ssrnet_hub.inference import tracking, video

from .pages import PAGES, ROOT, name_of


class Requests(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.addresses.append(attributes.get("src"))
        elif tag == "link" and attributes.get("rel") not in ("canonical", "author"):
            self.addresses.append(attributes.get("href"))


def test_the_site(tmp_path):
    build = runpy.run_path(str(ROOT / "scripts" / "dev.py"))["SPHINX"]
    assert "-W" in build
    command = [sys.executable, *build, "-d", str(tmp_path / "doctrees"), ".", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"

    # every public name
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for kind, objects in inventory.data.items() if kind.startswith("py:") for name in objects}
    public = {f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
    assert public <= documented, public - documented

    # every page
    assert not [page for page in PAGES if not (site / name_of(page)).with_suffix(".html").exists()]

    # nothing comes from elsewhere, and the search works without a server
    for page in site.rglob("*.html"):
        requests = Requests()
        requests.feed(page.read_text(encoding="utf-8"))
        assert not [a for a in requests.addresses if a and re.match(r"(https?:)?//", a)], page
    assert "soft stagewise" in (site / "searchindex.js").read_text(encoding="utf-8").lower()

    # bars are over letters, and subscripts beside them
    equations = (site / "docs" / "explanation" / "stagewise-regression.html").read_text(encoding="utf-8")
    assert "<math" in equations and not re.search(r"<mo[^>]*>[ˉ~]</mo>\s*</munderover>", equations)

    # as GitHub Pages and a static Space want it
    (target,) = re.findall(r"url=([^\"]+)\"", (site / "index.html").read_text(encoding="utf-8"))
    assert (site / target).exists() and (site / ".nojekyll").exists()
    assert "sdk: static" in (site / "README.md").read_text(encoding="utf-8")


MODULES = [ssrnet_hub, errors, video, tracking, ray_data, importlib.import_module("ssrnet_hub.webapp")]
"""Those all of whose names are for users."""
