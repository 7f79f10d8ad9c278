"""The table of noisy inputs measures what it says."""

import json
import sys

import pytest

from benchmarks import noise


def test_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(noise, "INPUTS", [("clean", 0), ("noise", 10), ("jpeg", 50)])
    monkeypatch.setattr(noise, "RIDGES", [0.0, 1e-2])
    monkeypatch.setattr(noise, "LEVELS", [0.0, 10.0])
    command = ["noise", "--quick", "--model", "affmse-x4-fast", "--output", str(tmp_path / "noise.json")]
    monkeypatch.setattr(sys, "argv", command)
    noise.main()
    table = json.loads((tmp_path / "noise.json").read_text())
    assert table["pictures"] == 2 and [row["kind"] for row in table["inputs"]] == ["clean", "noise", "jpeg"]
    for row in table["inputs"]:
        hard, soft = row["noise_level"]
        assert hard["psnr"] == pytest.approx(row["ridge"][0]["psnr"], abs=0.01), "both begin with the hard projection"
        assert hard["lr_psnr"] > 120 and soft["lr_psnr"] < 50 and soft["reproduced"] < hard["reproduced"]
    clean, noisy, jpeg = ([r["psnr"] for r in row["noise_level"]] for row in table["inputs"])
    assert noisy[1] > noisy[0] + 0.5 and clean[0] > noisy[0] and clean[0] > jpeg[0]
    assert "noise 10" in capsys.readouterr().out


def test_it_asks_for_photos(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["noise"])
    with pytest.raises(SystemExit, match="--data"):
        noise.main()
