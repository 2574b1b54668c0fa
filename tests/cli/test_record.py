"""--record, for those who keep the package: never in an installed one."""

import pytest

from ssrnet_hub.cli import options


@pytest.mark.parametrize("command", ["evaluate", "calibrate --output out", "export --output out"])
def test_figures_are_kept_in_a_clone_alone(run, capsys, monkeypatch, tmp_path, command):
    monkeypatch.setattr(options, "_PACKAGE", tmp_path / "site-packages" / "ssrnet_hub")
    with pytest.raises(SystemExit) as e:
        run(*command.split(), "--labels", "labels.csv", "--record")
    assert e.value.code == 2 and "--record keeps figures in a clone" in capsys.readouterr().err
