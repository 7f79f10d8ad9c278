"""The self-ensemble commutes with the eight turns, costs nothing in consistency, and goes through tiles and every backend."""

import numpy as np
import pytest
import torch

import sr_zoo
from sr_zoo.cli import main
from sr_zoo.engine import Settings, super_resolve, upscale_array
from sr_zoo.picture import read_picture, write_picture


def turns(x):
    return [torch.rot90(y, k, (-2, -1)) for y in (x, x.flip(-1)) for k in range(4)]


@pytest.fixture
def lr(picture):
    return torch.from_numpy(picture[:20, :27].copy()).permute(2, 0, 1)[None] / 255


@torch.no_grad()
def test_it_turns_with_the_picture_and_is_the_mean_of_all_turns(model, lr):
    twin = model.self_ensemble()
    raws = twin.generator(lr)
    assert all(torch.allclose(twin.generator(a), b, atol=1e-6) for a, b in zip(turns(lr), turns(raws)))
    assert not torch.allclose(model.generator(lr.flip(-1)), model.generator(lr).flip(-1), atol=1e-4), "else it has no use"
    back = [torch.rot90(model.generator(torch.rot90(lr, k, (-2, -1))), -k, (-2, -1)) for k in range(4)]
    back += [torch.rot90(model.generator(torch.rot90(lr.flip(-1), k, (-2, -1))), -k, (-2, -1)).flip(-1) for k in range(4)]
    assert torch.allclose(raws, torch.stack(back).mean(0), atol=1e-6)


@torch.no_grad()
def test_it_is_as_consistent_and_leaves_the_model_alone(model, lr, picture):
    before = model(lr)
    twin = model.self_ensemble()
    assert twin.exact and (twin.downsampler.A(twin(lr)) - lr).abs().max() < 1e-6
    assert torch.equal(model(lr), before) and not torch.equal(twin(lr), before)
    assert upscale_array(picture, twin).reproduced == 1
    seen = model.self_ensemble().see_through(noise_level=4)
    assert not seen.exact and type(seen.generator.generator) is type(twin.generator)


@pytest.mark.parametrize("settings", [Settings("float32", tile=16), Settings("float32", backend="onnxruntime")])
def test_tiles_and_backends_give_the_same(model, lr, settings):
    twin = model.self_ensemble()
    whole = super_resolve(twin, lr, Settings("float32", tile=0))
    assert (super_resolve(twin, lr, settings) - whole).abs().max() < 1e-5
    assert (whole - twin(lr)).abs().max() < 1e-5


def test_noise_is_turned_with_the_picture(lr):
    torch.manual_seed(0)
    model = sr_zoo.AffMSE(noise_channels=1, generator={"name": "residual", "width": 8, "depth": 1}).eval()
    twin, noise = model.self_ensemble(), torch.randn(1, 1, *lr.shape[-2:])
    with torch.no_grad():
        raws = twin.generator(lr, noise)
        assert torch.allclose(twin.generator(lr.flip(-1), noise.flip(-1)), raws.flip(-1), atol=1e-6)
    assert not torch.equal(twin(lr, seed=1), twin(lr, seed=2))


def test_command_line(checkpoint, picture, tmp_path, capsys):
    write_picture(tmp_path / "a.png", picture)
    assert (
        main(["upscale", str(tmp_path / "a.png"), "--model", str(checkpoint), "--ensemble", "--precision", "float32"]) == 0
    )
    expected = upscale_array(picture, sr_zoo.load(checkpoint).self_ensemble(), "float32").array
    assert np.array_equal(read_picture(tmp_path / "a_x4.png"), expected)
    assert "gives back all 6,720" in capsys.readouterr().out
    (tmp_path / "sets" / "mine").mkdir(parents=True)
    write_picture(tmp_path / "sets" / "mine" / "b.png", picture[:64, :64])
    arguments = ["benchmark", str(checkpoint), "--ensemble", "--sets", "mine", "--data", str(tmp_path / "sets")]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "tiny, ensemble" in capsys.readouterr().out


@torch.inference_mode()
def test_the_network_inside_is_what_a_backend_prepares(model, lr, monkeypatch):
    """What is done around it stays: nested, too."""
    from sr_zoo import backends
    from sr_zoo.tiles import RawRows

    class Halved(torch.nn.Module):
        def __init__(self, network, precision):
            super().__init__()
            self.network = network
            assert network is model.inference_generator and precision == "float32"

        def forward(self, lr):
            return self.network(lr) / 2

    def raw(twin):
        return RawRows(twin, lambda top, bottom: lr[..., top:bottom, :], lr.shape[-2:], "float32").window(0, lr.shape[-2])

    twin = model.self_ensemble().see_through(noise_level=4)
    before = raw(twin)
    monkeypatch.setattr(backends, "prepared", Halved)
    assert torch.allclose(raw(twin), before / 2, atol=1e-6)
