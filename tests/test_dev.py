"""scripts/dev.py is run by whatever Python there is, before anything is installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "dev.py"


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
