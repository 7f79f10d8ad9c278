"""Another kernel or noise at use: the output agrees with what was really there, and says how far it does."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import sr_zoo
from benchmarks.common import ROOT
from sr_zoo import AffMSE, metrics
from sr_zoo.degradation import denoised, for_kernel, read_kernel
from sr_zoo.engine import upscale_array
from sr_zoo.errors import UserError
from sr_zoo.export import export
from sr_zoo.graph import ExportError
from sr_zoo.hub import CheckpointError, save
from sr_zoo.operators import Downsampler
from sr_zoo.picture import read_picture

SPOT = [[0.0, 0.1, 0.0, 0.0], [0.1, 0.4, 0.1, 0.0], [0.0, 0.1, 0.1, 0.1]]


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("kernel", ["gaussian:1.2", "box", SPOT, np.array(SPOT), "file"])
def test_another_kernel(kernel, model, picture, tmp_path):
    picture = (60 + picture.astype(int) // 2).astype(np.uint8)  # so that there is a pre-image
    if isinstance(kernel, str) and kernel == "file":
        kernel = tmp_path / "kernel.png"
        Image.fromarray(np.uint8(np.array(SPOT) * 250)).save(kernel)
    before, state = model(tensor(picture)), model.downsampler
    twin = model.see_through(kernel)
    operator = Downsampler(SPOT if not isinstance(kernel, str) else kernel, 4)
    assert twin.exact and "exactly" in twin.promise
    done = upscale_array(picture, twin)
    saved = torch.from_numpy(done.array).permute(2, 0, 1)[None].float()
    assert done.reproduced == 1 and metrics.reproduced(saved, 255 * tensor(picture), operator) == 1
    assert metrics.reproduced(saved, 255 * tensor(picture), state) < 0.9, "the model's own kernel would say otherwise"
    assert model.downsampler is state and torch.equal(model(tensor(picture)), before), "the old model is untouched"
    assert twin.inference_generator.generator is model.inference_generator, "the weights are shared"


def test_what_was_made_of_a_model_is_saved_and_exported_as_what_it_is_or_not_at_all(model, picture, tmp_path):
    """For another kernel it is; what a config cannot say is refused."""
    twin, lr = model.see_through("gaussian:1.2"), tensor(picture)
    again = sr_zoo.load(save(twin, tmp_path / "twin"))
    assert torch.equal(again(lr), twin(lr)) and again.config["generator"]["generator"] == model.config["generator"]
    assert not torch.allclose(again(lr), model(lr), atol=1e-3)
    session = pytest.importorskip("onnxruntime").InferenceSession(str(export(again, tmp_path / "twin.onnx")))
    assert np.abs(session.run(None, {"lr": lr.numpy()})[0] - twin(lr).detach().numpy()).max() < 1e-4

    noisy, ensemble = model.see_through(noise_level=3), model.see_through(SPOT).self_ensemble()
    free = sr_zoo.MSE(generator={"name": "residual", "width": 16, "depth": 1}).see_through(SPOT)
    for refused in (noisy, ensemble, free):
        with pytest.raises(CheckpointError, match="save the one that it was made of"):
            save(refused, tmp_path / "x")
    for refused, why in ((noisy, "made for noise"), (ensemble, "ensemble around")):
        with pytest.raises(ExportError, match=why):
            export(refused, tmp_path / "x.onnx")
    with pytest.raises(UserError, match="made for another kernel already"):
        ensemble.see_through("box")
    assert sr_zoo.load(save(model.see_through("bicubic"), tmp_path / "y")).config == model.config


def test_one_that_learned_for_another_kernel_is_itself_what_is_seen_through(model, picture, tmp_path):
    """Of what was only made of a model the old projection comes first; of what was trained, its own picture does."""
    lr = tensor(picture)
    made = model.see_through("box")
    twice, once = made.see_through("gaussian:1.2"), model.see_through("gaussian:1.2")
    assert torch.equal(twice(lr), once(lr)) and twice.config == once.config
    trained = sr_zoo.load(save(made, tmp_path / "trained"))
    seen = trained.see_through("gaussian:1.2")
    assert torch.allclose(seen(lr), Downsampler("gaussian:1.2", 4).project(trained(lr), lr), atol=1e-6)
    assert torch.equal(sr_zoo.load(save(seen, tmp_path / "seen"))(lr), seen(lr))


def test_of_an_ensemble_no_config_tells(model, tmp_path):
    """Also where the model that the ensemble is of was made of another first."""
    seen = model.see_through("bicubic").self_ensemble().see_through("box")
    assert seen.config is None
    with pytest.raises(CheckpointError, match="no config can say"):
        save(seen, tmp_path / "x")
    back = model.see_through("box").see_through("bicubic")
    assert back.config == model.config and back.inference_generator is model.inference_generator
    noisy = model.see_through("box").self_ensemble().see_through(noise_level=4)
    assert not noisy.exact


def test_kernels_may_be_tensors(picture):
    spot, lr = torch.tensor(SPOT), tensor(picture)
    model = sr_zoo.AffMSE(kernel=spot, generator={"name": "residual", "width": 16, "depth": 1}).eval()
    assert torch.allclose(model.see_through(spot)(lr), model(lr), atol=1e-6)
    assert not torch.allclose(model.see_through(spot.T)(lr), model(lr), atol=1e-3)


def test_what_a_free_one_adds_to_stays_what_it_was():
    spec = {"name": "residual", "width": 16, "depth": 1}
    model = sr_zoo.MSE(kernel="gaussian:1.2", ridge=0.01, generator=spec)
    first = for_kernel(model, "box", 0.0)
    assert first["consistency"] == {"name": "free", "base": "gaussian:1.2", "base_ridge": 0.01} and first["kernel"] == "box"
    told = sr_zoo.MSE(kernel="bicubic", ridge=0.01, generator=spec, consistency={"base": "box"})
    assert for_kernel(told, "gaussian:1.2", 0.0)["consistency"] == {"name": "free", "base": "box"}


def test_kernels_of_configs_take_a_line_a_row_and_are_loaded_again(model, tmp_path):
    twin = model.see_through(SPOT)
    again = sr_zoo.load(save(twin, tmp_path / "x"))
    assert again.config == twin.config
    text = (tmp_path / "x" / "config.json").read_text()
    assert all(f"    {row}" in text.replace(",\n", "\n").splitlines() for row in twin.config["kernel"])
    # As wide as kernels are drawn, with digits that no rounding shortens, again and again.
    line = np.exp(-0.5 * ((np.arange(128) - 63.5) / 2) ** 2)
    for step in range(4):
        wide = (np.outer(line, line) * (1 + step / 1000)).tolist()
        twin = sr_zoo.load(save(twin.see_through(wide, ridge=0.01 + step / 1000), tmp_path / f"{step}"))
    assert (tmp_path / "3" / "config.json").stat().st_size > 1 << 20


def test_a_network_that_folds_is_saved_folded_within(tmp_path, picture):
    torch.manual_seed(0)
    model = sr_zoo.AffMSE(generator={"name": "reparameterised", "width": 16, "depth": 1}).eval()
    again = sr_zoo.load(save(model.see_through("box"), tmp_path / "x"))
    assert again.config["generator"]["generator"]["name"] == "residual"
    assert torch.allclose(again(tensor(picture)), model.see_through("box")(tensor(picture)), atol=1e-5)


@pytest.mark.parametrize("name", ["affmse-x4-fast", "mse-x4"])
@pytest.mark.parametrize("kernel", ["gaussian:1.2", "box"])
def test_the_true_kernel_makes_a_better_picture_than_none(name, kernel):
    """The network's ỹ alone, which nothing holds where its own projection takes over, would leave a grid of dots."""
    hr = tensor(read_picture(ROOT / "examples" / "astronaut.png"))
    hr = hr[..., : hr.shape[-2] // 4 * 4, : hr.shape[-1] // 4 * 4]
    lr = metrics.quantize(Downsampler(kernel, 4).A(hr)) / 255
    model = sr_zoo.load(name)
    with torch.no_grad():
        told, untold = (
            float(metrics.psnr_y(metrics.quantize(m(lr)), 255 * hr, 4)) for m in (model.see_through(kernel), model)
        )
        blind = float(metrics.psnr_y(metrics.quantize(F.interpolate(lr, scale_factor=4, mode="bicubic")), 255 * hr, 4))
        again = model.see_through("box").see_through(kernel)(lr)
    assert told > untold > blind
    assert torch.equal(again, model.see_through(kernel)(lr)), "the model's own kernel comes first, not the one before"


@pytest.mark.parametrize("method", ["AffMSE", "MSE", "SoftGAN"])
def test_every_consistency_and_averaged_weights(method, picture):
    torch.manual_seed(0)
    model = getattr(sr_zoo, method)(generator={"name": "residual", "width": 16, "depth": 1}).eval()
    model.setup("fit")
    model.ema.module.tail.weight.data.mul_(2)
    twin = model.see_through(noise_level=4)
    assert type(twin.consistency.consistency) is type(model.consistency)
    lr = tensor(picture)
    assert torch.equal(twin(lr), model(denoised(lr, 4))) and not torch.equal(twin(lr), model(lr))
    assert model.ema is not None and model.see_through().inference_generator is model.inference_generator


def test_noise_is_taken_out_and_edges_stay():
    """Flat places lose most of it, and a strong edge is kept."""
    clean = torch.full((1, 3, 60, 60), 0.3)
    clean[..., 30:] = 0.8
    noise = 10 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = (denoised(clean + noise, 10) - clean).square().mean((0, 1, 2)).sqrt() * 255
    assert error[3:25].mean() < 4.5 and error[35:57].mean() < 4.5, "a third of 10 is what a mean of nine leaves"
    assert error[28:32].max() < 12, "blurred, the edge would be wrong by 40"
    assert torch.allclose(denoised(clean, 0), clean, atol=1e-6)
    assert denoised(clean[..., :1, :1], 5).shape == (1, 3, 1, 1)


def test_noisy_inputs(shared_model):
    """PSNR against the truth rises, exactness is given up and said so; the clean input is not what is lost most."""
    operator = shared_model.downsampler
    y, x = np.mgrid[:160, :160]
    waves = np.stack([128 + 100 * np.sin(x / 20 + y / 36), 60 + 120.0 * ((x // 40 + y // 40) % 2), 30.0 + x], -1)
    hr = 255 * tensor(waves.astype(np.uint8))
    lr = metrics.round_clip(operator.A(hr))
    noisy = metrics.round_clip(lr + 12 * torch.randn(lr.shape, generator=torch.Generator().manual_seed(1)))
    array = noisy[0].permute(1, 2, 0).byte().numpy()
    twin = shared_model.see_through(noise_level=12)
    hard, soft = (upscale_array(array, m) for m in (shared_model, twin))
    psnr = [float(metrics.psnr_y(255 * tensor(done.array), hr, 4)) for done in (hard, soft)]
    assert psnr[1] > psnr[0] + 0.5
    assert hard.reproduced == 1 and soft.reproduced < 0.3 and 20 < soft.lr_psnr < 40
    assert shared_model.exact and not twin.exact and "12 levels" in twin.promise and "approximate" in twin.promise


@pytest.fixture
def shared_model():
    return sr_zoo.load("affmse-x4-fast")


def test_tiles_know_how_far_it_looks(model, picture):
    twin = model.see_through(noise_level=8)
    radius, lr = twin.inference_generator.radius, tensor(picture)
    assert radius == model.inference_generator.radius + 2
    with torch.no_grad():
        whole, crop = twin.inference_generator(lr), twin.inference_generator(lr[..., 2:, :])
    difference = (crop - whole[..., 8:, :]).abs().amax((0, 1, 3))
    assert difference[4 * radius :].max() < 1e-6 < difference[: 4 * radius - 4].max()


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_strips_that_overlap_by_the_radius_are_as_the_whole(kernel, model, picture):
    twin, lr = model.see_through(kernel, noise_level=8), tensor(np.tile(picture, (2, 1, 1)))
    raw, radius = torch.rand(1, 3, 320, 224), twin.consistency.radius
    strip = twin.consistency(raw[..., 20:, :], lr[..., 5:, :])[..., 4 * radius :, :]
    assert torch.allclose(strip, twin.consistency(raw, lr)[..., 20 + 4 * radius :, :], atol=1e-6)


def test_a_ridge_is_said_to_be_approximate(model):
    twin = model.see_through("gaussian:6", ridge=1e-2)
    assert not twin.exact and "approximate" in twin.promise and "0.01" in twin.promise
    assert AffMSE(ridge=1e-3, generator={"name": "residual", "width": 16, "depth": 0}).promise != model.promise


def test_what_makes_no_sense_is_one_line(model, tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "dark.png")
    for arguments, message in (
        ({"kernel": "cubic"}, "'cubic' is not 'bicubic'.*nor a picture file"),
        ({"kernel": tmp_path / "none.png"}, "none.png' is not"),
        ({"kernel": tmp_path / "dark.png"}, "dark.png is none; expected"),
        ({"kernel": [[0.0]]}, "kernel: a measured kernel"),
        ({"kernel": "gaussian:6"}, "ridge=1e-3"),
        ({"noise_level": -1}, "noise_level: -1"),
        ({"noise_level": 101}, "between 0 and 100"),
        ({"noise_level": float("nan")}, "noise_level: nan"),
        ({"ridge": -1.0}, "ridge"),
    ):
        with pytest.raises(UserError, match=message) as error:
            model.see_through(**arguments)
        assert "\n" not in str(error.value)


def test_what_was_made_for_noise_is_not_made_for_more(model):
    noisy = model.see_through("box").see_through(noise_level=5)
    with pytest.raises(UserError, match="made for noise already"):
        noisy.see_through("box")


def test_a_kernel_by_name_stays_a_name():
    assert read_kernel("gaussian:1.2", 4) == "gaussian:1.2"
    assert np.sum(read_kernel(SPOT, 4)) == pytest.approx(1)
