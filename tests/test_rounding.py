"""Rounding into a file keeps A of the picture, wherever there is a picture that has it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sr_zoo
from sr_zoo import metrics
from sr_zoo.benchmark import PseudoInverse
from sr_zoo.operators import Downsampler
from sr_zoo.pocs import Constraints
from sr_zoo.rounding import Wanted, downsampled, to_bytes, to_values


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_saturated_pictures(scale):
    """Where much of the input is black or white, rounding and clipping alone would lose samples."""
    random = np.random.default_rng(1)
    soft = torch.from_numpy(random.normal(128, 160, (1, 3, 60 * scale, 60 * scale))).clamp(0, 255)
    operator = Downsampler("bicubic", scale)
    lr = metrics.quantize(((operator.A(soft) - 128) * 4 + 128).clamp(0, 255) / 255).float()
    # An input that surely has a pre-image: downsampled from an 8-bit picture.
    hr = metrics.quantize(operator.pinv(lr) / 255)
    lr = metrics.quantize(operator.A(hr) / 255)
    sr = PseudoInverse(scale)(lr / 255)
    assert float(metrics.reproduced(metrics.quantize(sr), lr, operator)) < 0.999
    assert float(metrics.reproduced(to_bytes(sr, lr, operator), lr, operator)) == 1


@pytest.mark.parametrize("strip", [10**9, 50_000])
def test_a_photo_of_twice_the_contrast(strip, monkeypatch):
    """Where a third of the picture is clipped, also at the edges of strips."""
    from pathlib import Path

    from sr_zoo import strips
    from sr_zoo.engine import upscale_array
    from sr_zoo.picture import read_picture

    monkeypatch.setattr(strips, "STRIP", strip)
    monkeypatch.setattr(strips, "SHORTEST", 4)
    truth = read_picture(Path(__file__).parent.parent / "examples" / "chelsea_truth.webp")[:320, :320]
    hard = torch.from_numpy(truth).permute(2, 0, 1).double().sub(110).mul(3).add(128).clamp(0, 255).round()
    lr = metrics.round_clip(Downsampler("bicubic", 4).A(hard)).permute(1, 2, 0).byte().numpy()
    assert ((lr == 0) | (lr == 255)).mean() > 0.05
    done = upscale_array(lr, sr_zoo.load("affmse-x4-fast"), "float32")
    assert done.reproduced == 1


def test_a_saturated_sample_bounds_from_one_side_only():
    """What MATLAB would clip to 0 or 255 is right as it is; anything else is pulled by what it lacks."""
    target = torch.tensor([0.0, 0.0, 255.0, 255.0, 100.0, 100.0, 100.0])
    again = torch.tensor([-9.0, 2.0, 270.0, 251.0, 100.2, 97.0, 90.0])
    nothing = SimpleNamespace(A=torch.clone)
    wanted = Constraints.around(nothing, target, torch.arange(7) < 6, 255)
    assert wanted.missing(again).tolist() == [0.0, -2.0, 0.0, 4.0, 0.0, 3.0, 0.0]
    wanted.forget(target == 0)
    assert wanted.missing(again).tolist() == [0.0, 0.0, 0.0, 4.0, 0.0, 3.0, 0.0]
    assert wanted.asked.tolist() == [False, False, True, True, True, True, False]


def test_16_bits(model):
    lr = torch.randint(3000, 60000, (1, 3, 20, 24), generator=torch.Generator().manual_seed(0)).float()
    lr[..., 4:9, 4:9], lr[..., 12:18, 5:15] = 65535, 0
    operator = Downsampler("bicubic", 4)
    lr = metrics.round_clip(operator.A(metrics.round_clip(operator.pinv(lr.double()), 65535)), 65535).float()
    sr = (65535 * model(lr / 65535)).detach()
    saved = to_values(sr, Wanted(lr, 65535), operator)
    assert torch.equal(saved, saved.round()) and saved.min() >= 0 and 255 < saved.max() <= 65535
    again = metrics.round_clip(operator.A(saved.double()), 65535)
    assert (again == lr).double().mean() > 0.99 and (again - lr).abs().max() < 128


@pytest.mark.parametrize("radius, noise, most", [(14, 1, 40), (10, 6, 20)])
def test_what_cannot_be_is_given_up_without_dots_around_it(radius, noise, most):
    """Edges sharper than any that A makes: there the rounded picture stays the network's; elsewhere all is given back."""
    y, x = np.mgrid[:60, :60]
    away = np.abs(np.hypot(y - 30, x - 30) - radius)
    disc = torch.from_numpy((256.0 - noise) * (np.hypot(y - 30, x - 30) < radius))[None, None].float()
    disc += torch.randint(0, noise, disc.shape, generator=torch.Generator().manual_seed(0))
    operator = Downsampler("bicubic", 4)
    sr = operator.pinv(disc / 255)
    plain, saved = metrics.quantize(sr), to_bytes(sr, disc, operator)
    shares = [float(metrics.reproduced(p, disc, operator)) for p in (plain, saved)]
    assert shares[0] - 0.003 < shares[1] < 1
    assert (saved - plain).abs().max() < most, "a dot is hundreds of levels away"
    wrong = metrics.round_clip(operator.A(saved.double())) != disc
    # Noise next to black is more than A makes of any picture, too.
    assert noise > 1 or not wrong[torch.from_numpy(away)[None, None] > 5].any()


@pytest.mark.parametrize("size", [(40, 50), (4, 50)])
@pytest.mark.parametrize("kernel", ["bicubic", "gaussian:2.4"])
def test_half_a_level_is_decided_in_float64(size, kernel):
    """Nothing else is worth the time, but at half a level float32 would decide by its own rounding; at the border, too."""
    operator, random = Downsampler(kernel, 4), torch.Generator().manual_seed(0)
    saved = torch.randint(0, 256, (1, 3, 4 * size[0], 4 * size[1]), generator=random).float()
    exact = operator.A(saved.double())
    lr, halfway = exact.round(), torch.zeros(size, dtype=torch.bool)
    for place in ((0, 0), (0, 49), (size[0] - 1, 20), (2, 2)):
        halfway[place] = True
    lr[(lr - exact).abs() > 0.49] += 0.1
    lr[..., halfway] = exact[..., halfway] - 0.5
    error = (downsampled(saved, lr, 255, operator) - exact).abs()
    assert error[..., halfway].max() < 1e-11
    assert error.max() < 1e-3 and (size[0] == 4 or error.max() > 1e-6), "all in float64 would take longer"
    assert torch.equal(downsampled(saved, lr, 65535, operator), exact), "of 16 bits float32 has too few digits"


def test_written_rows_stay_and_what_only_they_decide_is_not_asked(model, picture):
    lr = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    operator = model.downsampler
    written = torch.full((1, 3, 40, 224), 77.0)
    saved = to_values(255 * model(lr / 255).detach(), Wanted(lr, saved=written, rows=(12, None)), operator)
    assert torch.equal(saved[..., :40, :], written)
    wrong = metrics.round_clip(operator.A(saved.double())) != lr
    assert not wrong[..., 14:, :].any() and wrong[..., :8, :].any()
