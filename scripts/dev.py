"""Set up and run the project with nothing but Python and git.

python3 scripts/dev.py predict [PHOTO ...]   the age of every face in a photo (scikit-image's astronaut by default)
python3 scripts/dev.py demo                  the web page, on http://127.0.0.1:7860 (--host, --port: elsewhere)
python3 scripts/dev.py docs                  the documentation, in build/docs
python3 scripts/dev.py check [REVISION]      ruff, mypy and the tests of the files changed since then (default: HEAD)
python3 scripts/dev.py test [ARGUMENT ...]   ruff, mypy and all tests; arguments go to pytest

Each creates the virtual environment .venv and, the first time, installs its requirements.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# files are not split: many start a server or a toy training run once
PARALLEL = ["-n", "auto", "--dist", "loadfile"]
NAMED = [ROOT / name for name in ("pyproject.toml", "constraints.txt", "demo/requirements.txt")]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
# rebuild all pages: an unchanged one may link to one that changed
SPHINX = ["-m", "sphinx", "-W", "--keep-going", "-q", "-a", "-E", "-c", "docs"]
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def install(extra: str) -> None:
    """Install the project with an extra, unless it is up to date with the files in `NAMED`."""
    stamp = VENV / f"installed-{extra}"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in NAMED)).hexdigest()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    # an environment whose creation was interrupted has no pip yet
    if not PYTHON.exists() or subprocess.run([str(PYTHON), "-m", "pip", "--version"], capture_output=True).returncode:
        # clear=True below would delete it
        if VENV.is_symlink() or (VENV.exists() and not (VENV / "pyvenv.cfg").exists()):
            sys.exit(f"{VENV} is not a virtual environment of this project: move it away.")
        print(f"Creating {VENV}", file=sys.stderr)
        try:
            venv.create(VENV, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            sys.exit("Creating the virtual environment failed. On Debian and Ubuntu: apt install python3-venv")
    print("Installing requirements; this takes a few minutes the first time, as PyTorch is large", file=sys.stderr)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--editable", f".[{extra}]"]
    # tests run with pinned versions, including those of the Space
    if extra == "dev":
        command += ["--constraint", ROOT / "constraints.txt"]
    run(command)
    stamp.write_text(wanted)


def run(command: list) -> None:
    """Run a command in the project's folder; exit with its exit code if it fails."""
    code = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if code:
        sys.exit(code)


def predict(arguments: list) -> None:
    install("examples")
    if not arguments:
        photo = VENV / "astronaut.png"
        save = "import sys, skimage.data, skimage.io; skimage.io.imsave(sys.argv[1], skimage.data.astronaut())"
        run([PYTHON, "-c", save, photo])
        arguments = ["--explain", photo]
    # paths of photos are relative to the current folder, not the project's
    sys.exit(subprocess.run([str(BIN / "ssrnet-hub"), "predict", *map(str, arguments)]).returncode)


def demo(arguments: list) -> None:
    install("demo")
    sys.exit(subprocess.run([str(BIN / "ssrnet-hub"), "demo", *arguments]).returncode)


def docs(arguments: list) -> None:
    install("dev")
    run([PYTHON, *SPHINX, "-d", "build/doctrees", *arguments, ".", "build/docs"])
    print(f"{ROOT / 'build' / 'docs' / 'index.html'}; for GitHub Pages or a static Space, publish this folder")


def lint() -> None:
    run([PYTHON, "-m", "ruff", "check", "."])
    run([PYTHON, "-m", "ruff", "format", "--check", "."])
    run([PYTHON, "-m", "mypy"])
    run([PYTHON, "-m", "codespell_lib"])


def check(arguments: list) -> None:
    install("dev")
    lint()
    tests = find_tests(*arguments[:1])
    run([PYTHON, "-m", "pytest", "-q", *(PARALLEL if len(tests) > 1 else []), "-m", "not slow", *tests])


def find_tests(revision: str = "HEAD") -> list:
    """Find the tests of files that changed since a revision.

    Tests of ssrnet_hub/ROOM/NAME.py are in tests/ROOM/test_NAME.py or, without such a file, anywhere in tests/ROOM.
    """
    names = []
    for command in (["diff", "--name-only", revision, "--"], ["ls-files", "--others", "--exclude-standard"]):
        result = subprocess.run(["git", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if result.returncode:
            sys.exit(result.returncode)
        names += result.stdout.splitlines()
    tests = {Path("tests", "test_rooms.py"), Path("tests", "docs", "test_words.py")}
    for path in map(Path, names):
        if path.parts[0] == "ssrnet_hub" and len(path.parts) > 2 and path.suffix == ".py":
            room = Path("tests", path.parts[1])
            own = room / f"test_{path.name}"
            tests.add(own if (ROOT / own).exists() else room)
        elif path.parts[0] == "tests" and path.name.startswith("test_") and (ROOT / path).exists():
            tests.add(path)
        elif path.suffix == ".md":
            tests.add(Path("tests", "docs"))
    return sorted(map(str, tests))


def test(arguments: list) -> None:
    install("dev")
    lint()
    run([PYTHON, "-m", "pytest", *PARALLEL, "--durations", "20", *arguments])


def main() -> None:
    commands = {"predict": predict, "demo": demo, "docs": docs, "check": check, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):  # noqa: UP036  may be run by any Python
        sys.exit(f"Python 3.11 or later is required; this is {sys.version.split()[0]}.")
    commands[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
