"""The command itself: calls, help, version, shells."""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssrnet_hub
from ssrnet_hub.cli import main
from ssrnet_hub.cli.command import COMMANDS, build_parser

from ..pictures import encode
from .helpers import shell


def test_no_command(run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "predict" in err and "models" in err


@pytest.mark.parametrize("arguments", [["predict"], ["nonsense"], ["predict", "a.png", "--json", "--csv"], ["--what"]])
def test_wrong_calls(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        main(arguments)
    assert e.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "a.png", "--minscore", "1"], "did you mean --min-score?"),
        (["push", "w", "me/x", "--commit-mesage=a"], "did you mean --commit-message?"),
        (["models", "--threshold", "1"], "unrecognized arguments: --threshold"),
    ],
)
def test_options_that_are_none(arguments, said, capsys):
    with pytest.raises(SystemExit) as e:
        main(arguments)
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert said in err and f"usage: ssrnet-hub {arguments[0]}" in err


def test_a_token_is_not_quoted(capsys):
    for arguments in (["models", "--token", "hf_secret"], ["predict", "a.png", "--tokn=hf_secret"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "hf_secret" not in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--version"])
    assert e.value.code == 0
    assert capsys.readouterr().out.strip() == ssrnet_hub.__version__


def test_every_option_has_a_help_in_sentence_case():
    _, commands = build_parser()
    for name, command in commands.items():
        for action in command._actions:
            said = action.help
            if said != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
                assert said, (name, action.dest)
                assert said[0].isupper() and not said.endswith("."), (name, action.dest, said)
        assert command.description[0].isupper() and command.description.endswith("."), name


def test_help_from_a_shell():
    run = shell("--help")
    assert run.returncode == 0
    assert "predict" in run.stdout and "models" in run.stdout
    assert run.stderr == ""


HELP = """
import contextlib, io, sys
import ssrnet_hub.cli.command as command

said = io.StringIO()
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        command.main([name, "--help"] if name else ["--help"])
assert said.getvalue().count("usage: ssrnet-hub") == len(sys.argv) - 1
libraries = "torch", "timm", "numpy", "PIL", "huggingface_hub", "onnxruntime", "accelerate", "gradio", "tqdm", "jinja2"
print([name for name in libraries if name in sys.modules])
"""


def test_help_imports_no_library():
    names = "", *(module.__name__.rpartition(".")[2] for module in COMMANDS)
    run = subprocess.run([sys.executable, "-c", HELP, *names], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr


def test_from_a_shell(folder, face):
    (folder / "text.jpg").write_text("text")
    run = shell("predict", "--json", folder)
    assert run.returncode == 1
    rows = {Path(row["file"]).name: row for row in json.loads(run.stdout)}
    assert rows["a.png"]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)
    assert "Traceback" not in run.stderr and "Warning" not in run.stderr
    assert "text.jpg" in run.stderr


@pytest.mark.parametrize("output", [[], ["--csv"], ["--json"]])
def test_a_name_that_is_not_unicode(run, tmp_path, photo, output):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(encode(photo, "PNG"))
    except OSError:
        pytest.skip("this file system takes none")
    code, out, err = run("predict", *output, tmp_path)
    assert (code, err) == (0, "")
    assert "caf" in out


def test_output_that_is_caught_by_python(folder, face):
    # as in a notebook, where stdout is no file
    caught = io.StringIO()
    with contextlib.redirect_stdout(caught), contextlib.redirect_stderr(io.StringIO()):
        assert main(["predict", "--json", str(folder / "a.png")]) == 0
    assert json.loads(caught.getvalue())[0]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)
