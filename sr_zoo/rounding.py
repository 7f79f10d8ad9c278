"""From float to the integers of a file such that these, downsampled and rounded, are the input again."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo import metrics
from sr_zoo.operators import Downsampler, full_products
from sr_zoo.pocs import Constraints, satisfy

__all__ = ["Wanted", "downsampled", "to_bytes", "to_values"]

# What has no pre-image, as far as we can tell, is given up, so many times; and so many tries are made at the rounding.
SURRENDERS, MENDS = 3, 12


@dataclasses.dataclass
class Wanted:
    """What a picture, or a strip of one, has to give back once it is saved.

    Attributes:
        lr: integers 0…peak, ``(1, colours, h, w)``.
        peak: the largest value of the file, 255 or 65535.
        opacity: alpha as it was saved, ``(1, 1, scale·h, scale·w)`` in [0, 1]; colours are then premultiplied by it.
        visible: ``(1, 1, h, w)``, where the input is not wholly transparent: elsewhere nothing is asked of the colours.
        saved: rows of colours at the top that are written already and stay, ``(1, colours, rows, scale·w)``.
        rows: first and last (exclusive) LR row that counts: what lies beyond is there for its neighbours only.
    """

    lr: Tensor
    peak: int = 255
    opacity: Tensor | None = None
    visible: Tensor | None = None
    saved: Tensor | None = None
    rows: tuple[int, int | None] = (0, None)

    def premultiplied(self, colours: Tensor) -> Tensor:
        """Colours, or the first rows of them, times opacity."""
        return colours if self.opacity is None else colours * self.opacity[..., : colours.shape[-2], :].to(colours.dtype)

    def rendered(self, y: Tensor, scale: int) -> Tensor:
        """The integers nearest to (premultiplied) colours; where nothing is seen, the colour that the input has there."""
        if self.opacity is None:
            return metrics.round_clip(y, self.peak)
        hidden = self.lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
        seen = self.opacity > 0
        return torch.where(seen, metrics.round_clip(y / torch.where(seen, self.opacity, 1), self.peak), hidden)


def to_bytes(sr: Tensor, lr: Tensor, downsampler: Downsampler | None) -> Tensor:
    """8-bit values 0…255 (as float32) of ŷ such that A of them, rounded and clipped, is again ``lr``.

    Args:
        sr: ``(1, colours, H, W)`` in about [0, 1].
        lr: ``(1, colours, h, w)`` in 0…255.
        downsampler: None for a model that promises no consistency: then plain rounding.
    """
    return metrics.quantize(sr) if downsampler is None else to_values(sr.float() * 255, Wanted(lr.float()), downsampler)


@torch.inference_mode()
def to_values(y: Tensor, wanted: Wanted, downsampler: Downsampler) -> Tensor:
    """Round to integers 0…peak (as float32) such that A of them, rounded and clipped, is what is wanted.

    Rounding alone moves A ŷ by far less than half a level, clamping to the range does not: the two constraints are met by
    alternating projections (POCS) onto {A y ≈ x} and [0, peak]. Samples of A y within SLACK of x count as met, and those
    of x at 0 or peak bound A y from one side only, so only what would come out wrong is pulled. Where the rounding itself
    makes a sample wrong (at small scales a sample is the mean of few pixels), half its error shifts the rounding there.

    Samples that no picture in the range gives back, as at edges drawn sharper than A makes them, are given up: pulling at
    them would only strew dots around, so there the picture stays as the network made it.

    With opacity α all of this holds of α·y: its bound is α·peak, and A(α·y) is to be x·A(α), as whoever lays the picture over
    another one will see it.

    Args:
        y: ``(1, colours, H, W)`` in about 0…peak, premultiplied where ``wanted`` has an opacity. It is overwritten.
    """
    with full_products():  # once for all the small ones
        constraints, unit = _constraints(wanted, downsampler)
        y = y.contiguous().clamp_(min=0).clamp_(max=constraints.high)
        if wanted.saved is not None:
            y[..., : wanted.saved.shape[-2], :] = wanted.premultiplied(wanted.saved)
        start = y.clone()
        for _ in range(SURRENDERS):
            y, lacks = satisfy(y, constraints)
            hopeless = _give_up(constraints, lacks, wanted.peak)
            if not hopeless.any():
                break
            y = torch.where(hopeless, start, y)
        return _rounded(y, wanted, constraints.asked, unit, downsampler)


def downsampled(saved: Tensor, lr: Tensor, peak: int, downsampler: Downsampler, unit: Tensor | float = 1.0) -> Tensor:
    """A of saved integers, as precise as it takes to say which samples, rounded, are those of ``lr``: one just at half a level must
    not depend on float32, so those are computed in float64, as whoever checks the file would have them.
    """
    if peak != 255:
        return downsampler.A(saved.double())
    again = downsampler.A(saved.float()).double()
    # Above 2⁻²⁴ of the peak times the length of the sums.
    close = (((again / unit - lr).abs() - 0.5).abs() < 2e-3)[0].any(0)
    rows, columns = close.nonzero(as_tuple=True)
    (height, width), side, scale = close.shape, 2 * downsampler.reach + 1, downsampler.scale
    if len(rows) * side**2 > close.numel() or side > min(height, width):
        return downsampler.A(saved.double())
    if len(rows):  # of what each of them sees; that may lie at a border of the picture, where A mirrors it
        top, left = ((n - downsampler.reach).clamp(0, size - side) for n, size in ((rows, height), (columns, width)))
        seen = torch.arange(scale * side)
        seen = saved[0][:, (scale * top[:, None] + seen)[:, :, None], (scale * left[:, None] + seen)[:, None]]
        exact = downsampler.A(seen.double())
        again[0, :, rows, columns] = exact[:, torch.arange(len(rows)), rows - top, columns - left]
    return again


def _constraints(wanted: Wanted, downsampler: Downsampler) -> tuple[Constraints, Tensor | float]:
    """What is asked, and the unit of its samples in float64."""
    asked = torch.zeros_like(wanted.lr, dtype=torch.bool)
    asked[..., slice(*wanted.rows), :] = True
    if wanted.visible is not None:
        asked &= wanted.visible
    movable, scale = None, downsampler.scale
    if wanted.saved is not None:
        movable = torch.ones(1, 1, wanted.lr.shape[-2] * scale, wanted.lr.shape[-1] * scale)
        movable[..., : wanted.saved.shape[-2], :] = 0
    if wanted.opacity is None:
        return Constraints.around(downsampler, wanted.lr, asked, wanted.peak, movable=movable), 1.0
    unit = downsampler.A(wanted.opacity.double())
    target, high = (wanted.lr * unit).float(), wanted.peak * wanted.opacity
    return Constraints.around(downsampler, target, asked, wanted.peak, unit.float(), high, movable), unit


def _give_up(constraints: Constraints, lacks: Tensor, peak: int) -> Tensor:
    """Ask no longer where more is missing than an eye forgives, half a level of 8 bits; returns where in the large picture.

    What is nearer, as at the last digits of 16 bits, is left as near as it came.
    """
    hopeless = F.max_pool2d((lacks.abs() > 0.5 * peak / 255).float(), 3, 1, 1)
    constraints.forget(hopeless > 0)
    scale = constraints.downsampler.scale
    return hopeless.repeat_interleave(scale, -2).repeat_interleave(scale, -1) > 0


def _rounded(y: Tensor, wanted: Wanted, asked: Tensor, unit: Tensor | float, downsampler: Downsampler) -> Tensor:
    """Round; where that makes a sample of A y wrong, half its error shifts the rounding there. The best of a few tries."""
    best, fewest = None, y.numel()
    for _ in range(MENDS):
        colours = wanted.rendered(y, downsampler.scale)
        if wanted.saved is not None:
            colours[..., : wanted.saved.shape[-2], :] = wanted.saved
        again = downsampled(wanted.premultiplied(colours), wanted.lr, wanted.peak, downsampler, unit)
        wrong = asked & (metrics.round_clip(again / unit, wanted.peak) != wanted.lr)
        count = int(wrong.count_nonzero())
        if count < fewest:
            best, fewest = colours, count
        if count == 0:
            break
        y = downsampler.pinv(0.5 * torch.where(wrong, (wanted.lr * unit - again).float(), 0.0), onto=y)
    return best
