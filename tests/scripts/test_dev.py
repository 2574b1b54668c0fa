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
    for name in ("scripts/dev.py", "demo/requirements.txt", "constraints.txt", "pyproject.toml"):
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


def test_which_tests_are_checked(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    files = ["scripts/dev.py", "ssrnet_hub/errors.py", "ssrnet_hub/images/tiff.py", "ssrnet_hub/webapp/middleware.py"]
    files += ["tests/images/test_tiff.py", "tests/images/test_loading.py", "tests/webapp/test_page.py"]
    files += ["tests/test_rooms.py", "tests/hub/test_push.py", "tests/hub/helpers.py", "docs/index.md"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "dev.py")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")

    def tests_of(*changed):
        for name in changed:
            (tmp_path / name).write_text("# changed\n")
        program = "import sys; sys.path.insert(0, 'scripts'); import dev; print(*dev.find_tests())"
        run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        git("checkout", ".")
        return run.stdout.split()

    always = ["tests/docs/test_words.py", "tests/test_rooms.py"]
    assert tests_of() == always
    assert tests_of("ssrnet_hub/images/tiff.py") == sorted(["tests/images/test_tiff.py", *always])
    assert tests_of("ssrnet_hub/webapp/middleware.py") == [*always, "tests/webapp"]
    assert tests_of("tests/hub/test_push.py", "tests/hub/helpers.py") == sorted(["tests/hub/test_push.py", *always])
    assert tests_of("ssrnet_hub/errors.py") == always
    assert tests_of("docs/index.md") == ["tests/docs", *always]
    # what is new counts as well
    (tmp_path / "ssrnet_hub" / "images" / "loading.py").touch()
    assert tests_of() == sorted(["tests/images/test_loading.py", *always])
