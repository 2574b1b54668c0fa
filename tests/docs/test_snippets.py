"""What the pages tell people to type works: all commands are parsed, and what needs no network is run."""

import importlib.util
import os
import re
import shlex
import shutil
import sys
import tomllib
import zipfile

import pytest

from ssrnet_hub.cli.command import build_parser

from ..pictures import walk, write_film
from ..programs import run_program
from .pages import PAGES, READMES, ROOT, blocks_of, commands_of, name_of

COMMANDS = [
    pytest.param(command, id=f"{name_of(page)}: {command}")
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "sh"
    for command in commands_of(block)
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
OTHERS = {"cat", "hf", "npm", "python -m http.server", "python3 -m venv", ". .venv/bin/activate"}
"""Commands that are not ours."""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_there(command):
    """Of each command of ours in a line, with its options."""
    for part in re.split(r"[|>]", command):
        words = shlex.split(part)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["torchrun"]:
            words = ["ssrnet-hub", *words[words.index("ssrnet_hub.cli") + 1 :]]
        if words[:1] == ["ssrnet-hub"]:
            parsed = build_parser()[0].parse_args(words[1:])
            assert not parsed.check(parsed)
        elif words[:2] == ["pip", "install"]:
            extra = re.search(r"\[(.+)\]", command)
            assert not extra or set(extra[1].split(",")) <= EXTRAS.keys()
            assert all((ROOT / word).exists() for word in words if word.endswith(".txt"))
        elif len(words) > 1 and words[1].startswith("scripts/"):
            script = (ROOT / words[1]).read_text(encoding="utf-8")
            assert all(f'"{word}"' in script for word in words[2:] if word.startswith("-"))
            assert words[1] != "scripts/dev.py" or f'"{words[2]}":' in script
        elif part == command:
            assert any(command.startswith(other) for other in OTHERS), command


@pytest.mark.parametrize("name", ["tutorials/first-photo.md", "tutorials/first-photo.zh-CN.md", "how-to/python.md"])
def test_the_explanation_is_that_of_the_sample_photo(name, estimator, astronaut):
    (face,) = estimator(astronaut)
    assert f"`{face.explain()}`" in (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_extra_is_listed():
    table = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == EXTRAS.keys()


def test_readme_has_the_commands_to_start_with():
    for readme in READMES:
        commands = [command for block in blocks_of(readme) for command in commands_of(block)]
        assert {"python3 scripts/dev.py predict", "python3 scripts/dev.py test"} <= set(commands)
    # what CI runs is what README says
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "python3 scripts/dev.py test"


@pytest.fixture(scope="module")
def things(astronaut, tmp_path_factory):
    """What the pages name: photos, crops, chips with labels, a zip and a film."""
    folder = tmp_path_factory.mktemp("things")
    face = astronaut.crop((180, 60, 270, 175))
    for name in ("photo.jpg", "photo1.jpg", "photo2.jpg", "photos/a.jpg", "photos/sub/b.jpg", "scans/a.tif"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        astronaut.crop((130, 10, 330, 250)).save(folder / name)
    for name in ("face1.jpg", "face2.jpg", "chip1.jpg", "chip2.jpg"):
        face.save(folder / name)
    astronaut.save(folder / "photo.jpg")
    rows = ["file,age,split"]
    (folder / "chips").mkdir()
    for number in range(36):
        face.resize((128, 128)).rotate(number).save(folder / "chips" / f"{number}.png")
        rows.append(f"{number}.png,{20 + number},{'train' if number < 16 else 'val'}")
    (folder / "chips" / "labels.csv").write_text("\n".join(rows))
    (folder / "photos" / "labels.csv").write_text("file,age\na.jpg,30\nsub/b.jpg,30\n")
    with zipfile.ZipFile(folder / "album.zip", "w") as album:
        album.write(folder / "photo.jpg", "photo.jpg")
    write_film(folder / "film.mp4", walk(astronaut)[:6])
    program = folder / "bin" / "ssrnet-hub"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ssrnet_hub.cli "$@"\n')
    program.chmod(0o755)
    return folder


RUN = [
    page
    for page in PAGES
    # the code of translations is that of the originals
    if not page.stem.endswith(".zh-CN")
    and any(b.language in ("python", "sh") and not b.not_run for b in blocks_of(page))
]


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_says_runs(page, things, tmp_path):
    """As one program, whose commands start once."""
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    lines = ["import subprocess", "from ssrnet_hub.cli import main"]
    for block in blocks_of(page):
        if block.not_run:
            continue
        if block.language == "python":
            lines.append(block.code)
        elif block.language == "sh":
            lines += ["if __name__ == '__main__':", *(f"    {call(command)}" for command in commands_of(block))]
    (tmp_path / "page.py").write_text("\n".join(lines), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "HF_HUB_OFFLINE": "1"}
    done = run_program("page.py", cwd=tmp_path, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_command(things, tmp_path, monkeypatch, capfd):
    """`dev.py predict`, but for the environment that it makes."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "scripts" / "dev.py")
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    for name, value in {"install": lambda extra: None, "VENV": tmp_path, "PYTHON": sys.executable}.items():
        monkeypatch.setattr(dev, name, value)
    monkeypatch.setattr(dev, "BIN", things / "bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(SystemExit) as end:
        dev.predict([])
    assert not end.value.code and "stage 1 says" in capfd.readouterr().out


def call(command):
    """A line of shell as Python; the shell is asked only where there is something for it to do."""
    if command.startswith("ssrnet-hub ") and not re.search("[|<>$]", command):
        return f"assert main({shlex.split(command)[1:]!r}) == 0"
    return f'subprocess.run(["bash", "-euo", "pipefail", "-c", {command!r}], check=True)'


def test_little_is_left_out():
    """What is not run says why, and for one of these reasons."""
    why = {block.not_run for page in PAGES for block in blocks_of(page)} - {None}
    assert why == {
        "downloads from npm",
        "installs packages",
        "needs a running page",
        "needs files from elsewhere",
        "needs reference data",
        "needs the Hub",
        "needs the web",
        "serves until it is stopped",
        "starts a cluster",
        "takes an hour on a real data set",
        "needs 125 held-out faces",
        "takes several processes",
    }
