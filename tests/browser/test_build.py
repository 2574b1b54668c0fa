"""What is built: the page, the npm package, and the Space, all of whose files are their own."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ssrnet_hub import AgeEstimator, __version__
from ssrnet_hub.models.zoo import DEFAULT

from .conftest import ROOT, SOURCE, need


def test_the_lock_file_names_no_address():
    lock = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    assert not re.search(r"https?://|\"resolved\"", json.dumps(lock))
    others = [package for name, package in lock["packages"].items() if name]
    assert others and all(package["integrity"].startswith("sha512-") for package in others)
    versions = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+", version)
        for version in {**versions["dependencies"], **versions["devDependencies"]}.values()
    )


def test_the_page_is_whole_and_names_no_other_host(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "{" not in re.sub(r"<script.*?</script>", "", page)
    own = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
    addresses = {match for path in own for match in re.findall(r"https?://[\w.]+", path.read_text(encoding="utf-8"))}
    assert addresses <= {"http://www.w3.org"}  # the name of SVG
    values = dict(re.findall(r"self\.(\w+) = (.*);", (site / "files.js").read_text(encoding="utf-8")))
    kept = set(json.loads(values["FILES"])) - {"./"}
    loaded = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert kept == {name for name in loaded if "LICENSE" not in name} - {"NOTICE", "files.js"}
    config = json.loads((site / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["name"] == DEFAULT and config["version"] == __version__
    assert config["framing"] == AgeEstimator().framing.to_dict()


def test_modules_are_loaded_in_one_step(builder, site):
    """None waits until one that imports it has come: not the page's, nor its thread's."""
    page = (site / "index.html").read_text(encoding="utf-8")
    for module in builder["imports"](site, Path("src/page.js")):
        assert f'<link rel="modulepreload" href="{module}">' in page
    thread = (site / "src" / "thread.js").read_text(encoding="utf-8")
    (listed,) = re.findall(r"MODULES = \[(.*?)\];", thread, re.DOTALL)
    named = {(site / "src" / name).resolve() for name in re.findall(r"'(.*?)'", listed)}
    imported = {*builder["imports"](site, Path("src/worker.js")), "src/worker.js"}
    assert named == {(site / name).resolve() for name in imported}


def test_the_package(builder, tmp_path):
    folder = builder["build"](None, tmp_path / "package", package=True)
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    assert package["version"] == __version__ and "scripts" not in package and "private" not in package
    pack = [need("npm"), "pack", "--dry-run", "--json", "--loglevel", "error"]
    (packed,) = as_list(json.loads(subprocess.run(pack, cwd=folder, capture_output=True, text=True, check=True).stdout))
    files = {file["path"] for file in packed["files"]}
    assert {"src/estimator.js", "types/estimator.d.ts", "model/model.onnx", "README.md", "LICENSE", "NOTICE"} <= files
    assert not {name for name in files if "page" in name or "node_modules" in name}
    # a user's program, checked against the package's own types
    (folder / "node_modules").symlink_to(SOURCE / "node_modules")
    use = "import { createEstimator } from 'ssrnet-hub';\nconst estimate = await createEstimator();\n"
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]
    tsc = [SOURCE / "node_modules" / ".bin" / "tsc", *options, "use.ts"]
    lines = {
        "const [low, high] = (await estimate(new Blob()))[0].interval ?? [0, 0];": True,
        "(await estimate(new Blob()))[0].years": False,
    }
    for line, is_right in lines.items():
        (folder / "use.ts").write_text(f"{use}{line}\nexport {{}};\n")
        said = subprocess.run(tsc, cwd=folder, capture_output=True, text=True)
        assert (said.returncode == 0) == is_right, said.stdout
        assert is_right or "'years' does not exist" in said.stdout


def as_list(value):
    return list(value.values()) if isinstance(value, dict) else value


def test_weights_that_do_not_run_in_a_browser(builder, monkeypatch, capsys, tmp_path):
    script = str(ROOT / "scripts" / "build_browser.py")
    refused = {
        "dex_resnet10.utkface_fairface_aaf": "is not supported in the browser",
        "ssrnet_gender.fairface": "estimate age",
    }
    for name, said in refused.items():
        monkeypatch.setattr(sys, "argv", [script, "--weights", name, "--output", str(tmp_path / name)])
        with pytest.raises(SystemExit) as e:
            runpy.run_path(script, run_name="__main__")
        assert e.value.code == 1 and said in capsys.readouterr().err
        assert not any((tmp_path / name).iterdir())


def test_without_npm(monkeypatch, capsys, tmp_path):
    script = str(ROOT / "scripts" / "build_browser.py")
    functions = runpy.run_path(script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(functions["MissingPackageError"], match=r"npm is not installed: install Node.js 20"):
        functions["run"]("npm", "ci")


def test_the_static_space(builder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    functions = runpy.run_path(str(ROOT / "scripts" / "publish_space.py"))
    space = functions["prepare_static_space"](tmp_path / "static")
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert front["sdk"] == "static" and (space / front["app_file"]).is_file()
    assert front["custom_headers"]["cross-origin-embedder-policy"] == "require-corp"
    assert front["custom_headers"]["cross-origin-opener-policy"] == "same-origin"
    assert len(front["short_description"]) <= 60  # the Hub's limit
    assert (space / "ort" / "ort-wasm-simd-threaded.wasm").stat().st_size > 1_000_000
    # and the one with a server has nothing of it
    served = functions["prepare_space"](tmp_path / "served")
    assert not [path for path in served.rglob("*") if {"browser", "node_modules"} & set(path.relative_to(served).parts)]


def test_nothing_of_it_is_in_the_wheel():
    ignored = subprocess.run(
        ["git", "check-ignore", "demo/browser/node_modules/x", "demo/browser/.install.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert len(ignored.stdout.split()) == 2
    assert not [path for path in Path(ROOT / "ssrnet_hub").rglob("*.onnx") if "mtcnn" not in path.parts]
