"""The figures of the protocol, against independent arithmetic."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from sr_zoo import metrics
from sr_zoo.operators import Downsampler


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    hr = random.integers(0, 256, (1, 3, 40, 48))
    sr = (hr + random.integers(-20, 21, hr.shape)).clip(0, 255)
    return torch.from_numpy(sr), torch.from_numpy(hr)


def y_channel(picture: torch.Tensor) -> np.ndarray:
    rgb = picture[0].numpy().astype(float) / 255
    return np.floor(16 + 65.481 * rgb[0] + 128.553 * rgb[1] + 24.966 * rgb[2] + 0.5)


def test_psnr(pair):
    difference = (y_channel(pair[0]) - y_channel(pair[1]))[4:-4, 4:-4]
    assert float(metrics.psnr_y(*pair, border=4)) == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)))


def test_ssim(pair):
    """Wang's formula with scipy's 'valid' convolution."""
    x, y = (y_channel(p)[3:-3, 3:-3] for p in pair)
    line = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    mean = lambda z: convolve2d(z, window, mode="valid")  # noqa: E731
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert float(metrics.ssim_y(*pair, border=3)) == pytest.approx(expected, abs=1e-9)


def test_mean_is_over_pictures_not_over_pixels():
    """40 dB and 20 dB make 30 dB; pooled squared errors would make 23."""
    hr = torch.full((1, 1, 30, 30), 100.0)
    mean = metrics.PictureMean(metrics.psnr_y, border=0)
    mean.update(hr + 255 / 100, hr)
    mean.update(hr + 255 / 10, hr)
    assert float(mean.compute()) == pytest.approx(30)


def test_rounding_is_matlabs():
    values = torch.tensor([-3, -0.5, 0.5, 1.5, 2.5, 2.49, 254.5, 300])
    assert metrics.round_clip(values).tolist() == [0, 0, 1, 2, 3, 2, 255, 255]
    assert metrics.quantize(torch.tensor([0.1, 1.2])).tolist() == [26, 255]


def test_grey_is_compared_in_grey():
    hr = torch.full((1, 1, 20, 20), 100.0)
    assert float(metrics.psnr_y(hr + 10, hr, 0)) == pytest.approx(20 * np.log10(25.5))


def test_consistency_figures():
    operator = Downsampler()
    lr = torch.randint(0, 256, (1, 3, 9, 9)).float()
    sr = operator.pinv(lr.double() / 255)
    assert float(metrics.lr_psnr(sr, lr.double() / 255, operator)) == metrics.CAP
    assert float(metrics.lr_psnr(sr + 1 / 255, lr.double() / 255, operator)) == pytest.approx(20 * np.log10(255))
    flat = torch.full((1, 3, 36, 36), 77.0)
    wrong = torch.full((1, 3, 9, 9), 77.0)
    wrong[0, 0, 0, 0] = 78
    assert float(metrics.reproduced(flat, wrong, operator)) == pytest.approx(1 - 1 / 243)
    assert float(metrics.lr_psnr_8bit(flat, wrong, operator)) == pytest.approx(10 * np.log10(255**2 * 243))


def wave(frequency: float, amplitude: float = 50) -> torch.Tensor:
    """A grey picture of one spatial frequency, cycles a pixel, along its rows."""
    y = 128 + amplitude * torch.cos(2 * torch.pi * frequency * torch.arange(128))
    return y.round().expand(1, 1, 96, 128)


def test_high_frequency_power_is_the_variance_above_half_nyquist():
    assert float(metrics.high_frequency_power(wave(0.35))) == pytest.approx(50**2 / 2, rel=0.05)
    assert float(metrics.high_frequency_power(wave(0.2))) < 1
    assert float(metrics.high_frequency_power(wave(0.35).mT.contiguous())) == pytest.approx(50**2 / 2, rel=0.05)
    ramp = torch.arange(128.0).expand(1, 1, 96, 128)  # its border jumps from 127 to 0: no detail of the picture
    assert float(metrics.high_frequency_power(ramp)) < 0.01


def test_power_spectrum_peaks_in_the_ring_of_a_wave_and_is_flat_for_noise():
    for ring in (4, 12, 28):
        middle = (ring + 0.5) / 32 / 2
        assert int(metrics.power_spectrum(wave(middle), rings=32)[0].argmax()) == ring
    noise = (128 + 20 * torch.randn(4, 1, 96, 128, generator=torch.Generator().manual_seed(0))).round()
    spectrum = metrics.power_spectrum(noise, rings=8).mean(0)
    assert spectrum.shape == (8,) and torch.allclose(spectrum, torch.tensor(400.0).double(), rtol=0.12)
