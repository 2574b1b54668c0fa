"""ssrnet-hub export: the options; what the files hold is tested in tests/inference/test_onnx_export.py."""

import sys

import pytest


def test_export(run, tmp_path):
    code, out, err = run("export", "--output", tmp_path, "--program")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["model.onnx", "model.pt2"]
    assert out.startswith(f"file {tmp_path / 'onnx' / 'model.onnx'}  precision float32  bytes ")


def test_export_with_few_faces(run, labels, tmp_path):
    """int8 is calibrated on those there are."""
    code, out, err = run("export", "--output", tmp_path, "--labels", labels)
    assert code == 0, err
    assert "precision int8" in out and (tmp_path / "onnx" / "model_int8.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8"], "int8 requires --labels"),
        (["--record"], "--record requires --labels"),
        (["--precision", "float8"], "invalid choice"),
    ],
)
def test_options_that_do_not_go_together(run, capsys, tmp_path, options, said):
    with pytest.raises(SystemExit) as e:
        run("export", "--output", tmp_path, *options)
    assert e.value.code == 2 and said in capsys.readouterr().err


def test_export_without_onnx(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("onnx_export", "onnx_graph"):
        monkeypatch.delitem(sys.modules, f"ssrnet_hub.inference.{name}", raising=False)
    code, _, err = run("export", "--output", tmp_path)
    assert code == 1 and "ssrnet_hub[onnx]" in err and not list(tmp_path.iterdir())
