"""The benchmark's figures, as functions of pictures and as torchmetrics classes that average over a set.

Every figure is per picture and then averaged: pooling squared errors over a set gives another number. Pictures are
``(batch, 3 or 1, height, width)``; comparisons are made on the 8-bit values 0…255 that a file would hold.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from sr_zoo.operators import Downsampler

__all__ = [
    "PROTOCOL", "PictureMean", "high_frequency_power", "lr_psnr", "lr_psnr_8bit", "luma", "power_spectrum", "psnr_y", "quantize",
    "reproduced", "round_clip", "ssim_y",
]  # fmt: skip

# How all of them are measured; printed under every table.
PROTOCOL = (
    "HR cropped to a multiple of the scale; LR = MATLAB imresize bicubic, antialiased, rounded to 8 bits; SR as the 8-bit "
    "file; PSNR and SSIM on Y (BT.601, 8-bit), scale pixels cut from each side, mean over pictures; grey pictures compared "
    "in grey; LR-PSNR: A(SR) against LR, RGB, no cut, float output (capped at 200 dB) and saved file; reproduced: share of "
    "LR samples that the saved file gives back; detail: power of Y above half of Nyquist, as a share of the truth's, of the "
    "set's mean; seconds: network and projection, whole set, median of 3."
)
WINDOW = 11  # pixels of a side of what SSIM looks at
CAP = 200.0  # dB; a perfect float result would be infinite and no mean could follow


def quantize(x: Tensor) -> Tensor:
    """[0, 1] → the 8-bit values 0…255, still a float tensor."""
    return round_clip(x * 255)


def round_clip(x: Tensor, peak: int = 255) -> Tensor:
    """Values around 0…peak, rounded half up and clipped as MATLAB's uint8 (uint16 with a peak of 65535)."""
    return (x + 0.5).floor_().clamp_(0, peak)


def luma(picture: Tensor) -> Tensor:
    """RGB 0…255 → Y of MATLAB's rgb2ycbcr, rounded to 8 bits, in float64; a grey picture is its own luma."""
    picture = picture.double()
    if picture.shape[-3] == 1:
        return picture
    red, green, blue = picture.unbind(-3)
    return torch.floor(16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255 + 0.5).unsqueeze(-3)


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """PSNR in dB on Y, peak 255, ``border`` pixels cut from every side; one figure per picture. 8-bit values in."""
    return _psnr(_cut(luma(sr), border) - _cut(luma(hr), border))


def ssim_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """SSIM (Wang 2004) on Y: 11×11 Gaussian of σ 1.5, valid windows only; one figure per picture. 8-bit values in."""
    x, y = _cut(luma(sr), border), _cut(luma(hr), border)
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs {WINDOW} pixels on either side, the picture has {x.shape[-1]}×{x.shape[-2]} without border"
        )
    window = torch.exp(-0.5 * ((torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2) / 1.5) ** 2)
    window = window / window.sum()

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean((-3, -2, -1))


def lr_psnr(sr: Tensor, lr: Tensor, downsampler: Downsampler) -> Tensor:
    """How far A ŷ of the float output is from the LR picture, in dB on the 8-bit scale; all pixels and colours.

    ``sr`` and ``lr`` in [0, 1]. A is evaluated in float64, so that the figure measures the output and not itself.
    """
    return _psnr(255 * (downsampler.A(sr.double()) - lr.double()))


def lr_psnr_8bit(saved: Tensor, lr: Tensor, downsampler: Downsampler) -> Tensor:
    """The same for the saved picture: A of the 8-bit values, not rounded. ``saved`` and ``lr`` are 0…255."""
    return _psnr(downsampler.A(saved.double()) - lr.double())


def reproduced(saved: Tensor, lr: Tensor, downsampler: Downsampler) -> Tensor:
    """Share of LR samples that the saved picture gives back after A, rounding and clipping. Both are 0…255."""
    return (round_clip(downsampler.A(saved.double())) == lr).double().mean((-3, -2, -1))


def power_spectrum(picture: Tensor, rings: int = 32) -> Tensor:
    """Mean power of Y in rings of spatial frequency, ``(batch, rings)``: equal steps from 0 to Nyquist (0.5 cycles a pixel).

    8-bit values in. A Hann window keeps the jump from one border to the opposite one out of it.
    """
    power, frequency = _power(picture)
    ring = (frequency * 2 * rings).long()
    inside = ring < rings
    total = power.new_zeros(len(power), rings).index_add_(1, ring[inside], power[:, inside])
    return total / torch.bincount(ring[inside], minlength=rings).clamp(min=1)


def high_frequency_power(picture: Tensor) -> Tensor:
    """Mean square of what Y holds above half of Nyquist (0.25 cycles a pixel, any direction); one figure per picture.

    8-bit values in. Its ratio to the truth's says how much fine detail there is, not whether it is the right one.
    """
    power, frequency = _power(picture)
    return power[:, frequency > 0.25].sum(1) / frequency.numel()


class PictureMean(Metric):
    """Mean over pictures of one of the functions above: ``PictureMean(psnr_y, border=4)``."""

    full_state_update = False

    def __init__(self, figure, **arguments):
        super().__init__()
        self.figure, self.arguments = figure, arguments
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, picture: Tensor, target: Tensor) -> None:
        values = self.figure(picture, target, **self.arguments)
        self.total += values.sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        return self.total / self.count


def _psnr(error: Tensor) -> Tensor:
    mse = error.double().square().mean((-3, -2, -1))
    return (10 * torch.log10(255**2 / mse)).clamp(max=CAP)


def _power(picture: Tensor) -> tuple[Tensor, Tensor]:
    """|Fourier transform|² per pixel of windowed Y ``(batch, height, width)``, and the frequency of each place in it."""
    y = luma(picture).squeeze(-3)
    rows, columns = (torch.hann_window(n + 2, periodic=False, dtype=y.dtype, device=y.device)[1:-1] for n in y.shape[-2:])
    window = rows[:, None] * columns
    transform = torch.fft.fft2((y - y.mean((-2, -1), keepdim=True)) * window)
    down, across = (torch.fft.fftfreq(n, dtype=y.dtype, device=y.device) for n in y.shape[-2:])
    return transform.abs().square() / window.square().sum(), torch.hypot(down[:, None], across)


def _cut(x: Tensor, border: int) -> Tensor:
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]
