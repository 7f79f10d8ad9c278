"""Networks from elsewhere come out consistent, whatever is wrong with them; files that are no such network are refused."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import sr_zoo
from sr_zoo import metrics
from sr_zoo.engine import upscale_array
from sr_zoo.foreign import load_foreign
from sr_zoo.hub import CheckpointError


class Bicubic(nn.Module):
    """A network that is faithful but for what is planted in it."""

    def __init__(self, scale=4, red=0.0, gamma=1.0):
        super().__init__()
        self.scale, self.red, self.gamma = scale, red, gamma

    def forward(self, lr):
        sr = F.interpolate(lr, scale_factor=self.scale, mode="bicubic").clamp(0, 1) ** self.gamma
        return sr + torch.tensor([self.red, 0, 0]).view(3, 1, 1)


class Picky(Bicubic):
    """Takes sizes of 8 or more, multiples of 4; views its input and its features as lines, as attention does."""

    def __init__(self, **wrong):
        super().__init__(**wrong)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        nn.init.dirac_(self.mix.weight)

    def forward(self, lr):
        assert min(lr.shape[-2:]) >= 8 and not any(n % 4 for n in lr.shape[-2:]), lr.shape
        features = self.mix(lr.view(len(lr), -1).view(lr.shape))
        return super().forward(features.view(len(lr), -1).view(lr.shape))


@pytest.fixture
def natural(picture):
    """Away from black and white, so that every colour has a pre-image also when shifted."""
    return (40 + picture.astype(int) * 170 // 255).astype(np.uint8)


@pytest.mark.parametrize("wrong", [{"red": 12 / 255}, {"gamma": 1.3}, {"red": -0.2, "gamma": 0.7}])
@pytest.mark.parametrize("scale", [2, 4])
def test_what_is_planted_in_a_network_comes_out_consistent(wrong, scale, natural):
    network = Bicubic(scale, **wrong)
    lr = torch.from_numpy(natural).permute(2, 0, 1)[None].float()
    model = sr_zoo.consistent(network, scale)
    before = float(metrics.lr_psnr_8bit(metrics.quantize(network(lr / 255)), lr, model.downsampler))
    done = upscale_array(natural, model)
    assert before < 35, "the plant is seen"
    assert done.lr_psnr_8bit >= 60, done.lr_psnr_8bit
    assert done.reproduced == 1 and done.lr_psnr > 120


def test_the_module_is_shared_and_every_size_fits(picture):
    network = Picky(gamma=1.2).train()
    model = sr_zoo.consistent(network, 4, multiple_of=4, minimum=8)
    assert model.inference_generator.module is network and not network.training and model.exact
    for size in ((1, 1), (3, 7), (9, 40), (12, 8)):
        done = upscale_array(picture[: size[0], : size[1]], model)
        assert done.array.shape == (4 * size[0], 4 * size[1], 3) and done.reproduced == 1
    fitting = torch.rand(1, 3, 12, 8)
    assert torch.equal(model.inference_generator(fitting), network(fitting)), "what fits goes through as it is"


def test_the_radius_of_a_module():
    assert sr_zoo.consistent(Bicubic(), 4).inference_generator.radius == 2


def test_another_size_than_promised_is_named(picture):
    with pytest.raises(ValueError, match=r"the network gives \(1, 3, \d+, \d+\) for .* at scale 2"):
        upscale_array(picture, sr_zoo.consistent(Bicubic(4), 2))


@pytest.fixture
def compact():
    """A small network of an architecture that spandrel knows."""
    compact = pytest.importorskip("spandrel.architectures.Compact")
    torch.manual_seed(0)
    return compact.Compact(num_feat=8, num_conv=2, upscale=4)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "safetensors"])
def test_weights_from_elsewhere(suffix, compact, picture, tmp_path):
    path, state = tmp_path / f"net.{suffix}", compact.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state} if suffix == "pth" else state, path)
    model = sr_zoo.load(path)
    assert model.scale == 4 and model.exact and set(model.precisions) == {"bf16", "float32"}
    lr = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = model.downsampler.project(compact(lr).clamp(0, 1), lr)
        assert torch.allclose(model(lr), expected, atol=1e-6)
    assert upscale_array(picture, model).reproduced == 1
    assert model.inference_generator.radius == 4
    assert sr_zoo.load(str(path), revision=None).scale == 4
    with pytest.raises(CheckpointError, match="no revision"):
        sr_zoo.load(path, revision="main")


def test_windows_of_attention_need_the_whole_picture(picture, tmp_path):
    swin = pytest.importorskip("spandrel.architectures.SwinIR")
    torch.manual_seed(0)
    network = swin.SwinIR(
        img_size=16,
        window_size=8,
        depths=[2],
        num_heads=[2],
        embed_dim=12,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    torch.save(network.state_dict(), tmp_path / "swin.pth")
    model = sr_zoo.load(tmp_path / "swin.pth")
    assert model.scale == 2 and model.inference_generator.radius is None
    assert upscale_array(picture[:3, :7], model).reproduced == 1


class Harm:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_runs_code_is_refused(suffix, legacy, compact, tmp_path):
    mark, path = tmp_path / "harm", tmp_path / f"net.{suffix}"
    torch.save({**compact.state_dict(), "harm": Harm(mark)}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "holds more than weights, which could run code")
    path.write_bytes(pickle.dumps(Harm(mark)))
    refused(path, "holds more than weights|damaged")
    assert not mark.exists()


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_foreign(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text and len(text) < 500


def test_a_program_is_refused(compact, tmp_path):
    torch.jit.script(nn.Conv2d(3, 3, 1)).save(tmp_path / "net.pt")
    refused(tmp_path / "net.pt", "is TorchScript, which is a program")


def test_what_is_no_network_for_pictures_is_refused(compact, tmp_path):
    other = type(compact)
    for name, network, message in (
        ("same.pth", other(num_feat=8, num_conv=2, upscale=1), "restoring pictures at their own size"),
        ("grey.pth", other(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2, upscale=4), "takes 1 and gives 1 channels"),
        ("unknown.pth", nn.Linear(3, 3), "no architecture that spandrel .* knows"),
    ):
        torch.save(network.state_dict(), tmp_path / name)
        refused(tmp_path / name, message)
    compact.body[0].bias.data[0] = torch.nan
    torch.save(compact.state_dict(), tmp_path / "nan.pth")
    refused(tmp_path / "nan.pth", "not finite")
    state = compact.state_dict()
    state["body.2.weight"] = torch.zeros(5, 8, 3, 3)
    torch.save(state, tmp_path / "shape.pth")
    refused(tmp_path / "shape.pth", "do not fit")
    for name, content in (("list.pth", [1, 2]), ("numbers.pth", {1: torch.zeros(3)})):
        torch.save(content, tmp_path / name)
        refused(tmp_path / name, "holds a (list|dict) without names")


def test_damaged_files_are_named(compact, tmp_path):
    torch.save(compact.state_dict(), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for name, damaged in (
        ("cut.pth", content[:-200]),
        ("empty.pth", b""),
        ("text.ckpt", b"hello"),
        ("x.safetensors", b"\xff" * 50),
    ):
        (tmp_path / name).write_bytes(damaged)
        refused(tmp_path / name, "damaged")
    for name, page in (
        ("page.pth", b"\n<!DOCTYPE html>"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
    ):
        (tmp_path / name).write_bytes(page)
        refused(tmp_path / name, "download it again")
    refused(tmp_path / "missing.pth", "no such file")
    for name in (tmp_path / "missing.pth", "some/missing.safetensors"):
        with pytest.raises(CheckpointError, match="missing.*: no such file$"):
            sr_zoo.load(name)
    (tmp_path / "net.bin").write_bytes(content)
    refused(tmp_path / "net.bin", "expected .pth")


def test_without_spandrel_the_extra_is_named(compact, tmp_path, monkeypatch):
    torch.save(compact.state_dict(), tmp_path / "net.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    refused(tmp_path / "net.pth", r"pip install 'sr_zoo\[spandrel\]'")


def test_the_hub_stays_light():
    code = "import sys, sr_zoo.hub; assert not {'torch', 'spandrel', 'sr_zoo.foreign'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
