"""Speed beside others: the script runs, skips who is not there, and its floor is as much work as it says."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sr_zoo
from benchmarks import speed_peers
from benchmarks.contenders import contenders, floor
from benchmarks.speed_peers import child, summary


def test_quick_runs_and_skips_who_is_missing(tmp_path, monkeypatch, capsys):
    output, names = tmp_path / "speed.json", ["engine", "PIL bicubic", "spandrel CRAFT"]
    arguments = ["--quick", "--spandrel", f"CRAFT={tmp_path}/nothere.pth", "--output", str(output), "--only", *names]
    monkeypatch.setattr(sys, "argv", ["speed_peers", *arguments])
    speed_peers.main()
    results = json.loads(output.read_text())
    rows, ratios = results["rows"], results["over_engine"]
    assert list(rows) == names and set(ratios) == {"engine", "PIL bicubic"}
    assert "no such file" in rows["spandrel CRAFT"]["missing"] and 32.3 < rows["spandrel CRAFT"]["psnr"] < 32.5
    assert ratios["engine"] == 1 and 0 < ratios["PIL bicubic"] < 1, "bicubic is faster than any network"
    assert rows["engine"]["peak_mib"] > 100 and 31 < rows["engine"]["psnr"] < 33 and rows["PIL bicubic"]["psnr"] is None
    assert "skipped: " in capsys.readouterr().out


@pytest.mark.parametrize("size", [(48, 48), (256, 300), (520, 384)])
def test_the_floor_is_as_many_convolutions_as_the_generator(size, monkeypatch):
    convolve = floor("affmse-x4-fast")
    wanted = 0
    for layer in sr_zoo.load("affmse-x4-fast").inference_generator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            wanted += layer.weight.numel() * size[0] * size[1]
    done = []

    def counted(layer, x):
        done.append(layer.weight.numel() * x.shape[2] * x.shape[3])
        return x

    monkeypatch.setattr(torch.nn.Conv2d, "forward", counted)
    convolve(np.zeros((*size, 3), np.uint8))
    assert sum(done) == pytest.approx(wanted, rel=0.02)


def test_every_contender_without_a_compiler_gives_a_picture(tmp_path):
    picture = tmp_path / "picture.npy"
    np.save(picture, np.zeros((9, 7, 3), np.uint8))
    options = SimpleNamespace(picture=picture, repeats=1, clock="wall", super_image=None, spandrel=[])
    for name in contenders(options):
        if "compile" in name or "onnx" in name or name.startswith("affmse-x4:"):
            continue
        options.child = name
        found = child(options)
        assert ("missing" in found) == ("super-image" in name) and (found.get("seconds") or [1])[0] > 0


def test_the_median_is_over_all_rounds():
    samples = [{"seconds": [1.0, 9.0], "peak_mib": 5.0}, {"seconds": [2.0], "peak_mib": 7.0}]
    assert summary(samples, 4.0) == {"seconds_per_megapixel": 0.5, "peak_mib": 7.0}
