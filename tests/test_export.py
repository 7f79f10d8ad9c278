"""The exported file computes what the model does, for any size, and its output downsamples to the input."""

import sys

import numpy as np
import pytest
import torch

from sr_zoo import MSE, AffMSE, SoftGAN, list_models, load, metrics
from sr_zoo.cli import main
from sr_zoo.export import ExportError, export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = [(1, 1, 1), (1, 3, 7), (1, 40, 56), (1, 1, 200), (1, 129, 67), (2, 40, 56)]
TINY = {"name": "residual", "width": 8, "depth": 1}
FAST = "affmse-x4-fast"


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def differences(model, path):
    """(size, largest difference to torch, worst LR-PSNR) for each size."""
    run, random = session(path), np.random.default_rng(0)
    for batch, height, width in SIZES:
        lr = random.random((batch, 3, height, width), dtype=np.float32)
        inputs = {"lr": lr}
        sr = model(torch.from_numpy(lr), seed=3)
        if model.noise_channels:
            dice = torch.Generator().manual_seed(3)
            inputs["noise"] = torch.randn(batch, model.noise_channels, height, width, generator=dice).numpy()
        (out,) = run.run(["sr"], inputs)
        assert out.dtype == np.float32 and out.shape == tuple(sr.shape)
        back = metrics.lr_psnr(torch.from_numpy(out), torch.from_numpy(lr), model.downsampler)
        yield (batch, height, width), float(np.abs(out - sr.numpy()).max()), float(back.min())


@pytest.mark.parametrize(
    "make",
    [
        lambda: AffMSE(4, generator=TINY),
        lambda: AffMSE(3, "box", generator={**TINY, "name": "reparameterised"}),
        lambda: MSE(2, "gaussian:0.3:1", generator={**TINY, "name": "gated"}),
        lambda: SoftGAN(2, "gaussian:0.9", generator=TINY, noise_channels=2),
    ],
    ids=["affine", "odd", "free", "soft"],
)
def test_the_file_computes_what_the_model_does(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    torch.nn.init.normal_(model.inference_generator.tail.weight)
    for size, difference, lr_psnr in differences(model, export(model, tmp_path / "m.onnx")):
        assert difference < 1e-4, size
        assert (lr_psnr > 100) == model.exact, size


@pytest.mark.parametrize(
    "name", [pytest.param(m["name"], marks=[] if m["name"] == FAST else pytest.mark.slow) for m in list_models()]
)
def test_shipped_models(name, tmp_path):
    model, path = load(name), export(name, tmp_path / "m.onnx")
    for size, difference, lr_psnr in differences(model, path):
        assert difference < 1e-4 and (lr_psnr > 100 or not model.exact), size
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts == {
        "name": name, "method": type(model).__name__, "scale": str(model.scale), "kernel": "bicubic",
        "consistency": model.config["consistency"]["name"], "licence": "cc-by-nc-4.0",
    }  # fmt: skip


def test_one_command_writes_one_file(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["export", str(checkpoint), "--format", "onnx"]) == 0
    out, err = capsys.readouterr()
    assert "→ tiny.onnx" in out and not err
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["tiny.onnx"]
    graph = onnx.load("tiny.onnx").graph
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 3, "4*height", "4*width"]]


def test_exporting_leaves_the_model_as_it_was(model, tmp_path):
    model.train()
    before = {k: (v.data_ptr(), v.clone()) for k, v in model.state_dict().items()}
    export(model, tmp_path / "m.onnx")
    assert model.training and model.generator.training
    assert all(v.data_ptr() == before[k][0] and torch.equal(v, before[k][1]) for k, v in model.state_dict().items())


def lopsided():
    return AffMSE(2, [[0.0, 1.0], [2.0, 3.0]], generator=TINY)


@pytest.mark.parametrize(
    "make, name, options, message",
    [
        (lambda: AffMSE(ridge=0.01, generator=TINY), "m.onnx", {}, r"a ridge \(0.01\)"),
        (lopsided, "m.onnx", {}, "not symmetric and separable"),
        (lambda: AffMSE(generator=TINY).see_through(noise_level=5), "m.onnx", {}, "made for noise"),
        (lambda: AffMSE(generator=TINY), "m.pt", {}, "m.pt: .* end in .onnx"),
        (lambda: AffMSE(generator=TINY), "m.onnx", {"opset": 12}, "opset: 12"),
        (lambda: AffMSE(generator=TINY), "m.onnx", {"opset": 99}, "opset: 99 is not between 18 and"),
        (lambda: AffMSE(generator=TINY), "file/m.onnx", {}, "m.onnx: cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_one_line(make, name, options, message, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "m.onnx").write_text("precious")
    with pytest.raises(ExportError, match=message) as error:
        export(make(), tmp_path / name, **options)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "precious"


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(package, model, tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "m.onnx")]) == 1
    err = capsys.readouterr().err
    assert f"needs the package {package}; pip install 'sr_zoo[onnx]'" in err and len(err.splitlines()) == 1
    assert main(["export", str(checkpoint), "--opset", "9"]) == 2


def test_a_full_disk_leaves_the_old_file(model, tmp_path, monkeypatch):
    def full(path, content):
        with open(path, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    (tmp_path / "m.onnx").write_text("precious")
    monkeypatch.setattr("sr_zoo.export.onnx_graph", lambda *_: bytes(1000))
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ExportError, match="m.onnx: cannot be written .No space left"):
        export(model, tmp_path / "m.onnx")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]
