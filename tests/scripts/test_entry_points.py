"""Scripts that model cards name: entry points of the commands."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
COMMANDS = {
    "average": "average",
    "calibrate": "calibrate",
    "compare": "compare",
    "convert_weights": "convert",
    "evaluate": "evaluate",
    "export_onnx": "export",
    "push_weights": "push",
    "train": "train",
}
OPTIONS = {
    "average": "--output",
    "calibrate": "--weights --labels --photos --output --record",
    "compare": "--labels --split --detect --json --device",
    "convert_weights": "--from --gender --bgr",
    "evaluate": "--weights --labels --split --detect --flip --boxes --robustness --turned --plots --json --record",
    "export_onnx": "--weights --output --labels --precision --program --record",
    "push_weights": "--repo --private --revision --tag --create-pr --token-file --dry-run",
    "train": "--recipe --labels --output --cpu --workers --architecture --model-args --start --epochs --batch-size "
    "--lr --weight-decay --drop-rate --ema-decay --balance --keep-alive --augment --set-aside --mixed-precision --seed",
}
"""Options that the scripts had when they were more than entry points."""


@pytest.mark.parametrize(("script", "command"), COMMANDS.items())
def test_scripts_run_the_commands(script, command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as e:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert not e.value.code
    said = capsys.readouterr().out
    assert said.startswith(f"usage: ssrnet-hub {command} ")
    assert not [option for option in OPTIONS[script].split() if option not in said.split("\n\n", 1)[1]]
