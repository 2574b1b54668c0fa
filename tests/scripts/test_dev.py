"""scripts/dev.py is run by whatever Python there is, before anything is installed."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dev.py"


def test_only_the_standard_library_is_imported():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert "subprocess" in imported
    assert imported <= sys.stdlib_module_names


def test_an_old_python_gets_as_far_as_being_told():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--help"], ["nonsense", "predict"]])
def test_usage(arguments, tmp_path):
    # -I -S: no installed packages, as on a bare machine
    command = [sys.executable, "-I", "-S", str(SCRIPT), *arguments]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert run.returncode not in (0, None)
    assert "predict" in run.stderr and "test" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_that_is_no_virtual_environment_is_left(tmp_path, link):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "demo").mkdir()
    for name in ("scripts/dev.py", "demo/requirements.txt", "pyproject.toml"):
        shutil.copy(SCRIPT.parent.parent / name, tmp_path / name)
    mine = tmp_path / ("elsewhere" if link else ".venv")
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    if link:
        (mine / "pyvenv.cfg").write_text("")
        (tmp_path / ".venv").symlink_to(mine)
    command = [sys.executable, "-I", "-S", str(tmp_path / "scripts" / "dev.py"), "predict"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert run.returncode == 1 and "move it away" in run.stderr
    assert (mine / "notes.txt").read_text() == "mine"
