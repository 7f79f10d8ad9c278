"""Others' networks beside ours: found where one says, measured before and after the projection; and the curves of trainings."""

import json
import math
import sys

import numpy as np
import pytest
import torch

from benchmarks import curves, peers
from sr_zoo.picture import write_picture

CHECKOUT = """
import torch
class IMDN(torch.nn.Module):
    def __init__(self, upscale):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        return torch.nn.functional.interpolate(x, scale_factor=4) + self.shift
"""


@pytest.fixture
def checkout(tmp_path):
    """A repository as IMDN's is, with a network that shifts colours."""
    (tmp_path / "IMDN" / "model").mkdir(parents=True)
    (tmp_path / "IMDN" / "checkpoints").mkdir()
    (tmp_path / "IMDN" / "model" / "architecture.py").write_text(CHECKOUT)
    torch.save({"module.shift": torch.tensor([0.05])}, tmp_path / "IMDN" / "checkpoints" / "IMDN_x4.pth")
    return tmp_path / "IMDN"


def test_a_network_of_others_before_and_after_the_projection(checkout, picture, tmp_path, monkeypatch):
    (tmp_path / "sets" / "Set5").mkdir(parents=True)
    write_picture(tmp_path / "sets" / "Set5" / "a.png", np.tile(picture, (3, 3, 1)))
    output = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", [
        "peers", "--data", str(tmp_path / "sets"), "--sets", "Set5", "--imdn", str(checkout), "--only", "IMDN", "--side", "16",
        "--rounds", "1", "--repeats", "1", "--output", str(output),
    ])  # fmt: skip
    peers.main()
    row = json.loads(output.read_text())["rows"]["IMDN"]
    before, after = row["before"]["Set5"], row["after"]["Set5"]
    assert before["lr_psnr"] < 30 and before["reproduced"] < 0.2 and after["lr_psnr"] > 100 and after["reproduced"] == 1
    assert after["psnr"] > before["psnr"] and row["parameters"] == 1
    assert set(row["seconds_per_megapixel"]) == set(peers.WAYS) and min(row["seconds_per_megapixel"].values()) > 0
    assert output.with_suffix(".png").stat().st_size > 5000


def run(folder, seconds, psnrs):
    """A training of 400 steps, validated at 200 and 400, with a pause of an hour."""
    (folder / "version_0").mkdir(parents=True)
    lines = [f"Epoch 0: | {n}/400 [{int(n * seconds) // 60:02}:{int(n * seconds) % 60:02}<00:00" for n in (100, 200)]
    lines += [f"Epoch 0: | {n}/400 [1:{int(n * seconds) // 60:02}:{int(n * seconds) % 60:02}<00:00" for n in (300, 400)]
    (folder / "log").write_text("\r".join(lines))
    rows = "".join(f"{n},{p}\n{n},\n" for n, p in zip((199, 399), psnrs))
    (folder / "version_0" / "metrics.csv").write_text(f"step,val/psnr\n{rows}")
    return folder


def test_curves_join_the_runs_and_say_what_a_doubling_brings(tmp_path):
    first, second = run(tmp_path / "a", 0.9, (28.0, 28.5)), run(tmp_path / "b", 0.9, (28.4, 28.6))
    found = curves.curve([[first], [first, second]])
    each = 0.9 / 3600
    assert len(found["lines"][0]) == 2 and np.allclose(found["ends"], [(400 * each, 28.5), (800 * each, 28.6)])
    assert np.allclose(found["lines"][1], [(200 * each, 28), (400 * each, 28.5), (600 * each, 28.4), (800 * each, 28.6)])
    assert math.isclose(found["per_doubling"], 0.1) and math.isclose(found["at_ten_times"], 28.6 + 0.1 * math.log2(10))
    assert "per_doubling" not in curves.curve([[first]])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "points.json").write_text("[[0.5, 28.2], [1.0, 28.3]]")
    assert np.allclose(curves.line([first, tmp_path / "c"])[2:], [(400 * each + 0.5, 28.2), (400 * each + 1, 28.3)])
    (first / "log").write_text("nothing")
    with pytest.raises(SystemExit, match="no progress"):
        curves.curve([[first]])
