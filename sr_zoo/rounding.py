"""From float to the integers of a file such that these, downsampled and rounded, are the input again."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo import metrics
from sr_zoo.operators import Downsampler

__all__ = ["Wanted", "to_bytes", "to_values"]

# Alternating projections end after so many rounds, or after PATIENCE rounds without fewer samples that are off: then these
# have, as far as we can tell, no exact pre-image, and are given up, SURRENDERS times. MENDS tries are made at the rounding.
ROUNDS, PATIENCE, SURRENDERS, MENDS = 300, 40, 3, 12
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
    task = _Task(wanted, downsampler)
    y, start = task.clamped(y.contiguous()), None
    for _ in range(SURRENDERS):
        missing = task.missing(y)
        if not task.count(missing):
            break
        start = y.clone() if start is None else start
        y, missing = task.alternate(y, missing)
        hopeless = task.give_up(missing)
        if not hopeless.any():
            break
        y = torch.where(hopeless, start, y)
    return task.rounded(y)


class _Task:
    """One picture or strip: what is asked of it, and how far it is met."""

    def __init__(self, wanted: Wanted, downsampler: Downsampler):
        self.wanted, self.downsampler = wanted, downsampler
        if wanted.opacity is None:
            self.unit, self.high = 1.0, wanted.peak
        else:
            self.unit, self.high = downsampler.A(wanted.opacity.double()), wanted.peak * wanted.opacity
        self.saved = None if wanted.saved is None else wanted.premultiplied(wanted.saved)
        self.target = (wanted.lr * self.unit).float()
        self.asked = torch.ones_like(wanted.lr, dtype=torch.bool)
        self.asked[..., : wanted.rows[0], :] = False  # only rows that are written already decide these
        if wanted.visible is not None:
            self.asked &= wanted.visible

    def clamped(self, y: Tensor) -> Tensor:
        y = y.clamp_(min=0).clamp_(max=self.high)
        if self.saved is not None:
            y[..., : self.saved.shape[-2], :] = self.saved
        return y

    def missing(self, y: Tensor) -> Tensor:
        unit = self.unit if self.wanted.opacity is None else self.unit.float()
        return torch.where(self.asked, _missing(self.downsampler.A(y), self.target, unit, self.wanted.peak), 0.0)

    def count(self, wrong: Tensor) -> int:
        return int(wrong[..., slice(*self.wanted.rows), :].count_nonzero())

    def alternate(self, y: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Alternating projections until nothing is missing or nothing is gained any more."""
        fewest, found = self.count(missing), 0
        for number in range(1, ROUNDS):
            y = self.clamped(self.downsampler.pinv(RELAXATION * missing, onto=y))
            missing = self.missing(y)
            count = self.count(missing)
            if count < fewest:
                fewest, found = count, number
            if count == 0 or number - found == PATIENCE:
                break
        return y, missing

    def give_up(self, missing: Tensor) -> Tensor:
        """Ask no longer where more is missing than an eye forgives, half a level of 8 bits; returns where in the large picture.

        What is nearer, as at the last digits of 16 bits, is left as near as it came.
        """
        far = missing.abs() > 0.5 * self.wanted.peak / 255
        hopeless = F.max_pool2d(far.float(), 3, 1, 1)
        self.asked &= hopeless == 0
        scale = self.downsampler.scale
        return hopeless.repeat_interleave(scale, -2).repeat_interleave(scale, -1) > 0

    def rounded(self, y: Tensor) -> Tensor:
        """Round; where that makes a sample of A y wrong, half its error shifts the rounding there. The best of a few tries."""
        wanted, best, fewest, shift = self.wanted, None, y.numel(), torch.zeros_like(y)
        for _ in range(MENDS):
            colours = wanted.rendered(y + shift, self.downsampler.scale)
            if wanted.saved is not None:
                colours[..., : wanted.saved.shape[-2], :] = wanted.saved
            # In float64, as whoever checks the file would: a sample just at half a level must not depend on the precision.
            again = self.downsampler.A(wanted.premultiplied(colours.double()))
            wrong = self.asked & (metrics.round_clip(again / self.unit, wanted.peak) != wanted.lr)
            count = self.count(wrong)
            if count < fewest:
                best, fewest = colours, count
            if count == 0:
                break
            error = (wanted.lr * self.unit - again).float()
            shift = self.downsampler.pinv(0.5 * torch.where(wrong, error, 0.0), onto=shift)
        return best


def _missing(again: Tensor, target: Tensor, unit=1.0, peak: int = 255) -> Tensor:
    """What A y lacks where it is not good enough."""
    missing, slack = target - again, SLACK * unit
    free = ((target == 0) & (again <= slack)) | ((target == peak * unit) & (again >= peak * unit - slack))
    return torch.where(free | (missing.abs() <= slack), 0.0, missing)
