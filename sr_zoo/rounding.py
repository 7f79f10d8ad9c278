"""From float to the integers of a file such that these, downsampled and rounded, are the input again."""

import dataclasses

import torch
from torch import Tensor

from sr_zoo import metrics
from sr_zoo.operators import Downsampler

__all__ = ["Wanted", "to_bytes", "to_values"]

# Alternating projections end after so many rounds, or after PATIENCE rounds without fewer samples that are off: then the
# input has, as far as we can tell, no exact pre-image. MENDS tries are made at the rounding.
ROUNDS, PATIENCE, MENDS = 300, 40, 12
# Samples within SLACK levels count as met. Chosen on contrast-stretched validation pictures: without slack or relaxation it
# takes twice the rounds, with more of either some pictures never end.
SLACK, RELAXATION = 0.25, 1.8


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
        return colours if self.opacity is None else colours * self.opacity.to(colours.dtype)

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

    With opacity α all of this holds of α·y: its bound is α·peak, and A(α·y) is to be x·A(α), as whoever lays the picture over
    another one will see it.

    Args:
        y: ``(1, colours, H, W)`` in about 0…peak, premultiplied where ``wanted`` has an opacity. It is overwritten.
    """
    unit = 1.0 if wanted.opacity is None else downsampler.A(wanted.opacity.double())
    target, exact_unit = (wanted.lr * unit).float(), unit
    unit = unit if wanted.opacity is None else unit.float()
    high = wanted.peak if wanted.opacity is None else wanted.peak * wanted.opacity
    saved = wanted.saved
    if saved is not None and wanted.opacity is not None:
        saved = saved * wanted.opacity[..., : saved.shape[-2], :]
    y = y.contiguous()
    fewest, found = target.numel() + 1, 0
    for number in range(ROUNDS):
        y = y.clamp_(min=0).clamp_(max=high)
        if saved is not None:
            y[..., : saved.shape[-2], :] = saved
        missing = _asked(_missing(downsampler.A(y), target, unit, wanted.peak), wanted)
        count = int(missing[..., slice(*wanted.rows), :].count_nonzero())
        if count < fewest:
            fewest, found = count, number
        if count == 0 or number - found == PATIENCE:
            break
        y = downsampler.pinv(RELAXATION * missing, onto=y)
    return _rounded(y, wanted, exact_unit, downsampler)


def _missing(again: Tensor, target: Tensor, unit=1.0, peak: int = 255) -> Tensor:
    """What A y lacks where it is not good enough."""
    missing, slack = target - again, SLACK * unit
    free = ((target == 0) & (again <= slack)) | ((target == peak * unit) & (again >= peak * unit - slack))
    return torch.where(free | (missing.abs() <= slack), 0.0, missing)


def _asked(missing: Tensor, wanted: Wanted) -> Tensor:
    """Without the samples of which nothing is asked: those that only written rows decide, and those that nobody sees."""
    missing[..., : wanted.rows[0], :] = 0
    return missing if wanted.visible is None else missing * wanted.visible


def _rounded(y: Tensor, wanted: Wanted, unit, downsampler: Downsampler) -> Tensor:
    """Round; where that makes a sample of A y wrong, half its error shifts the rounding there. The best of a few tries."""
    best, fewest, shift = None, wanted.lr.numel() + 1, torch.zeros_like(y)
    for _ in range(MENDS):
        colours = wanted.rendered(y + shift, downsampler.scale)
        if wanted.saved is not None:
            colours[..., : wanted.saved.shape[-2], :] = wanted.saved
        # In float64, as whoever checks the file would: a sample just at half a level must not depend on the precision.
        again = downsampler.A(wanted.premultiplied(colours.double()))
        wrong = metrics.round_clip(again / unit, wanted.peak) != wanted.lr
        wrong = _asked(wrong, wanted)
        count = int(wrong[..., slice(*wanted.rows), :].count_nonzero())
        if count < fewest:
            best, fewest = colours, count
        if count == 0:
            break
        shift = downsampler.pinv(0.5 * torch.where(wrong, (wanted.lr * unit - again).float(), 0.0), onto=shift)
    return best
