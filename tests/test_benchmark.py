"""Bicubic gives the published rows; archives cannot write elsewhere; the table says what the rows say."""

import io
import json
import lzma
import tarfile

import numpy as np
import pytest
from PIL import Image

import sr_zoo
from sr_zoo.benchmark import Bicubic, benchmark, extract_pictures, format_table, open_set, write_results
from sr_zoo.cli import main
from sr_zoo.hub import list_models, model_names
from sr_zoo.picture import PictureError

# PSNR, SSIM, LR-PSNR-8bit, reproduced: measured with an independent NumPy implementation of the protocol.
BICUBIC = {
    ("Set5", 2): (33.649, 0.9295, 40.81, 0.406), ("Set5", 3): (30.386, 0.8679, 38.85, 0.352),
    ("Set5", 4): (28.419, 0.8102, 37.35, 0.307), ("Set14", 2): (30.224, 0.8685, 38.33, 0.343),
    ("Set14", 3): (27.533, 0.7738, 37.35, 0.326), ("Set14", 4): (25.993, 0.7024, 36.72, 0.301),
    ("BSD100", 2): (29.552, 0.8428, 38.44, 0.347), ("BSD100", 3): (27.203, 0.7387, 38.28, 0.332),
    ("BSD100", 4): (25.958, 0.6674, 38.01, 0.316),
}  # fmt: skip


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Set5", "Set14", pytest.param("BSD100", marks=pytest.mark.slow)])
def test_bicubic_is_the_published_row(name, shared):
    for row in benchmark(["bicubic"], [name], shared / "benchmarks", (2, 3, 4)):
        psnr, ssim, lr_psnr_8bit, reproduced = BICUBIC[name, row["scale"]]
        assert row["psnr"] == pytest.approx(psnr, abs=0.002) and row["ssim"] == pytest.approx(ssim, abs=1e-4)
        assert row["lr_psnr_8bit"] == pytest.approx(lr_psnr_8bit, abs=0.02)
        assert row["reproduced"] == pytest.approx(reproduced, abs=1e-3)


@pytest.mark.shared
def test_shipped_results_are_what_the_benchmark_prints(shared):
    for model in list_models():
        today = benchmark([model["name"]], ["Set5"], shared / "benchmarks", (model["scale"],))[0]
        written = next(r for r in model["results"] if r["set"] == "Set5")
        for figure, limit in {
            "psnr": 2e-3,
            "ssim": 1e-4,
            "lr_psnr_8bit": 0.02,
            "reproduced": 1e-4,
            "high_frequency": 1e-3,
        }.items():
            assert today[figure] == pytest.approx(written[figure], abs=limit), (model["name"], figure)


@pytest.fixture
def sets(tmp_path, picture):
    for name in ("Set5", "own"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "b.png")
        Image.fromarray(picture[:-3, :-1, 0]).save(tmp_path / name / "a.png")
    return tmp_path


def test_rows(sets, checkpoint, tmp_path):
    rows = benchmark(["bicubic", "pinv", str(checkpoint)], ["Set5", "own"], sets, (2, 4))
    assert [(r["model"], r["scale"], r["set"]) for r in rows] == [
        (model, scale, name)
        for model, scale in (("bicubic", 2), ("bicubic", 4), ("pinv", 2), ("pinv", 4), ("tiny", 4))
        for name in ("Set5", "own")
    ]
    keys = {"model", "scale", "set", "images", "psnr", "ssim", "lr_psnr", "lr_psnr_8bit", "seconds", "reproduced"}
    assert all(keys <= set(r) and r["images"] == 2 and r["seconds"] > 0 for r in rows)
    assert all((r["lr_psnr"] > 120) == (r["model"] != "bicubic") for r in rows)
    assert all(0 <= r["high_frequency"] < 1.5 for r in rows)
    assert json.loads(write_results(rows, tmp_path / "out").read_text()) == rows
    table = format_table(rows)
    assert len(table.splitlines()) == 12 and f"{rows[-1]['psnr']:.2f}" in table.splitlines()[-1]


def test_models_are_called_by_what_tells_them_apart(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert model_names([".", "a/best", "b/best", "who/net", "affmse-x4"]) == ["mine", "a/best", "b/best", "net", "affmse-x4"]


def test_a_picture_too_small_is_named(tmp_path):
    (tmp_path / "tiny").mkdir()
    Image.new("RGB", (18, 40)).save(tmp_path / "tiny" / "a.png")
    with pytest.raises(PictureError, match="a.png: too small to be measured at ×4, which takes 19"):
        benchmark(["bicubic"], ["tiny"], tmp_path)
    Image.new("RGB", (20, 40)).save(tmp_path / "tiny" / "a.png")
    assert benchmark(["bicubic"], ["tiny"], tmp_path)[0]["images"] == 1


def test_an_output_that_is_a_file_is_said_before_the_work(sets, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["benchmark", "bicubic", "--data", str(sets), "--output", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.endswith("file: is a file; give a folder\n")


def test_parameters_are_those_that_upscale(sets):
    model = sr_zoo.AffGAN(generator={"name": "residual", "width": 16, "depth": 1}).eval()
    row = benchmark([("gan", model)], ["Set5"], sets)[0]
    assert row["parameters"] == sum(p.numel() for p in model.generator.parameters())


def test_bicubic_upwards_keeps_planes():
    """Keys' cubic reproduces linear functions away from the border."""
    import torch

    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    sr = Bicubic(4)((y + 2 * x)[None, None])[0, 0]
    inner = sr[12:-12, 12:-12]
    expected = (torch.arange(48.0)[:, None] - 1.5) / 4 + 2 * (torch.arange(48.0) - 1.5) / 4
    assert (inner - expected[12:-12, 12:-12]).abs().max() < 1e-4


def test_a_model_runs_only_at_its_scale(sets, checkpoint):
    with pytest.raises(ValueError, match="none of these models runs at 3"):
        benchmark([str(checkpoint)], ["Set5"], sets, (3,))


def test_missing_set_is_named(tmp_path):
    with pytest.raises(PictureError, match="Set5: no PNG files"):
        open_set("Set5", tmp_path)
    with pytest.raises(PictureError, match="Manga109: not one of Set5, Set14, BSD100"):
        open_set("Manga109", None)


def archive(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_extraction_stays_inside(tmp_path):
    png = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(png, "png")
    path = archive(
        tmp_path / "set.tar.gz",
        [
            ("Set5_HR/a.png", png.getvalue()),
            ("../../up.png", b"1"),
            ("/abs.png", b"2"),
            ("link.png", None),
            ("run.sh", b"3"),
        ],
    )
    extract_pictures(path, tmp_path / "out" / "Set5")
    assert sorted(p.name for p in (tmp_path / "out" / "Set5").iterdir()) == ["a.png", "abs.png", "up.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set.tar.gz"]


def test_damaged_archives_are_named(tmp_path):
    path = archive(tmp_path / "set.tar.gz", [("a.png", bytes(5000)), ("b/a.png", b"again")])
    with pytest.raises(PictureError, match="two pictures are called a.png"):
        extract_pictures(path, tmp_path / "one")
    noise = np.random.default_rng(0).bytes(5000)
    packed = bytearray(lzma.compress(archive(tmp_path / "noise.tar", [("a.png", noise)], "w").read_bytes()))
    packed[2500] ^= 255
    path.write_bytes(packed)
    with pytest.raises(PictureError, match="damaged archive"):
        extract_pictures(path, tmp_path / "three")
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(PictureError, match="damaged archive"):
        extract_pictures(path, tmp_path / "two")


def test_download_comes_from_the_hub_and_is_kept(tmp_path, monkeypatch):
    png = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(png, "png")
    path = archive(tmp_path / "set.tar.gz", [(f"Set5_HR/{n}.png", png.getvalue()) for n in "abcde"])
    asked = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(path))
    assert [p.name for p in open_set("Set5", None)] == [f"{n}.png" for n in "abcde"]
    assert len(open_set("Set5", None)) == 5
    assert asked == [(("eugenesiow/Set5", "data/Set5_HR.tar.gz"), {"repo_type": "dataset"})]


def test_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host\nmore")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(PictureError, match=r"Set5: cannot be downloaded \(no route to host\); give --data DIR"):
        open_set("Set5", None)
