import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "maintain"))
import to_float16  # noqa: E402


def test_eight_significant_bits_are_kept(tmp_path, monkeypatch):
    values = torch.cat([torch.linspace(-3, -0.01, 500), torch.linspace(0.01, 3, 500)])
    save_file({"weight": values, "count": torch.tensor(7)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path)])
    to_float16.main()
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["count"] == 7 and stored["weight"].dtype == torch.float16
    assert ((stored["weight"].float() - values).abs() <= values.abs() * 2**-8).all()
    # the last three bits of the mantissa are always the same
    assert not (stored["weight"].view(torch.int16) & 0b111).any()
