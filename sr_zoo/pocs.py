"""Pictures that downsample to the input *and* lie in the range of a file: alternating projections onto the two sets (POCS)."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo.operators import Downsampler

__all__ = ["Constraints", "satisfy"]

# Samples within SLACK levels count as met: what is left is for the rounding, which moves A y by less.
SLACK = 0.25
# A correction is asked for RELAXATION times, as part of it is clipped away; with the share that is not measured, GAIN times of
# what is left, and at most 1 / LEAST_FREE times. Chosen on contrast-stretched validation pictures.
RELAXATION, GAIN, LEAST_FREE = 1.8, 1.2, 0.12
# Projections end after so many rounds, or after PATIENCE rounds without fewer samples that are off: then these have, as far as
# we can tell, no exact pre-image.
FIRST_ROUNDS, ROUNDS, PATIENCE, PASSES = 6, 100, 16, 4
# Most rounds are spent on few samples: on blocks with any, each with a margin on which A⁺ has nearly died away; together they
# are what one dense matrix handles. LR pixels. Where more than MANY of the blocks have some, all go together first.
BLOCK, MARGIN, MANY = 32, 16, 0.3


@dataclasses.dataclass
class Constraints:
    """What is asked of y ``(n, colours, scale·h, scale·w)``: A y near a target where ``asked``, and 0 ≤ y ≤ high.

    Attributes:
        target: ``(n, colours, h, w)``.
        unit: one level at each LR pixel: 1, or what opacity leaves of it, ``(n, 1, h, w)``.
        peak: the largest value of the file, in levels.
        high: upper bound of y, a number or ``(n, 1, scale·h, scale·w)``.
        asked: bool, as target.
        fixed: ``(n, 1, scale·h, scale·w)``, True where y stays as it is; None where it is free everywhere.
    """

    downsampler: Downsampler
    target: Tensor
    unit: Tensor | float
    peak: int
    high: Tensor | float
    asked: Tensor
    fixed: Tensor | None = None

    def missing(self, y: Tensor) -> Tensor:
        """What A y lacks where it is not good enough."""
        lacks = missing(self.downsampler.A(y), self.target, self.unit, self.peak)
        return lacks.masked_fill_(~self.asked, 0)

    def alternate(self, y: Tensor, lacks: Tensor, rounds: int, measured: bool) -> tuple[Tensor, Tensor]:
        """Alternating projections until nothing is missing or nothing is gained any more; y is overwritten.

        Where much of y is at a bound already, most of a correction is clipped away again. ``measured`` finds out how much, at
        twice the cost, and asks for as much more: a third of the rounds, and an end where there was none.
        """
        fewest, found = int(lacks.count_nonzero()), 0
        for number in range(1, rounds + 1):
            before = None if self.fixed is None else y.clone()
            wanted = lacks * (GAIN / self._free(y, lacks)) if measured else RELAXATION * lacks
            y = self._clamped(self.downsampler.pinv(wanted, onto=y))
            if before is not None:
                y = torch.where(self.fixed, before, y)
            lacks = self.missing(y)
            count = int(lacks.count_nonzero())
            if count < fewest:
                fewest, found = count, number
            if count == 0 or number - found == PATIENCE:
                break
        return y, lacks

    def _clamped(self, y: Tensor) -> Tensor:
        return y.clamp_(min=0).clamp_(max=self.high) if torch.is_tensor(self.high) else y.clamp_(0, self.high)

    def _free(self, y: Tensor, lacks: Tensor) -> Tensor:
        """Share of what each sample sees that can still move the way it has to."""
        up, down = y < self.high, y > 0
        if self.fixed is not None:
            up, down = up & ~self.fixed, down & ~self.fixed
        A = self.downsampler.A
        return torch.where(lacks > 0, A(up.to(y.dtype)), A(down.to(y.dtype))).clamp(LEAST_FREE, 1)

    def window(self, top: int, bottom: int, left: int, right: int) -> "Constraints":
        """Those of a part of a picture, in LR pixels. Near an edge that is none of the picture y is fixed: not all that depends on
        it is seen there."""
        (height, width), scale, reach = self.target.shape[-2:], self.downsampler.scale, self.downsampler.reach
        lr = (..., slice(top, bottom), slice(left, right))
        hr = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
        asked = self.asked[lr].clone()
        free = torch.zeros(1, 1, (bottom - top) * scale, (right - left) * scale, dtype=torch.bool)
        inner = []
        for dim, first, last, size in ((-2, top, bottom, height), (-1, left, right, width)):
            before, after = reach * (first > 0), reach * (last < size)
            inner.append(slice(2 * before * scale, (last - first - 2 * after) * scale))
            asked.narrow(dim, 0, before).fill_(False)
            asked.narrow(dim, last - first - after, after).fill_(False)
        free[..., inner[0], inner[1]] = True
        return Constraints(
            self.downsampler, self.target[lr], self.unit[lr] if torch.is_tensor(self.unit) else self.unit, self.peak,
            self.high[hr] if torch.is_tensor(self.high) else self.high, asked,
            ~free if self.fixed is None else ~free | self.fixed[hr],
        )  # fmt: skip


def satisfy(y: Tensor, wanted: Constraints) -> tuple[Tensor, Tensor]:
    """Bring one picture ``(1, colours, scale·h, scale·w)`` to what is wanted, as far as it can be.

    Returns:
        y, which is overwritten, and what A y still lacks.
    """
    lacks, scale = wanted.missing(y), wanted.downsampler.scale
    for _ in range(PASSES):
        places = _places(lacks)
        if len(places) > MANY * _blocks(lacks):
            y, lacks = wanted.alternate(y, lacks, FIRST_ROUNDS, measured=False)
            places = _places(lacks)
        before = int(lacks.count_nonzero())
        if not before:
            break
        for block, (top, bottom, left, right) in places:
            part = wanted.window(top, bottom, left, right)
            view = y[..., top * scale : bottom * scale, left * scale : right * scale]
            # What its neighbours lack is theirs to mend: here it may depend on pixels that are fixed.
            here = part.missing(view)
            theirs = here != 0
            theirs[..., block[0] - top : block[0] - top + BLOCK, block[1] - left : block[1] - left + BLOCK] = False
            part.asked &= ~theirs
            view.copy_(part.alternate(view.clone(), here.masked_fill_(theirs, 0), ROUNDS, measured=True)[0])
        lacks = wanted.missing(y)
        if int(lacks.count_nonzero()) >= before:
            break
    return y, lacks


def missing(again: Tensor, target: Tensor, unit: Tensor | float = 1.0, peak: int = 255) -> Tensor:
    """What A y lacks where it is not good enough. Samples at 0 or peak bound A y from one side only."""
    lacks, slack = target - again, SLACK * unit
    free = ((target == 0) & (again <= slack)) | ((target == peak * unit) & (again >= peak * unit - slack))
    return lacks.masked_fill_(free | (lacks.abs() <= slack), 0)


def _blocks(lacks: Tensor) -> int:
    return -(-lacks.shape[-2] // BLOCK) * -(-lacks.shape[-1] // BLOCK)


def _places(lacks: Tensor) -> list[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """The corner of each block in which something is missing, and the window around it: top, bottom, left, right in LR pixels."""
    height, width = lacks.shape[-2:]
    off = F.max_pool2d((lacks != 0).float().amax(1), BLOCK, ceil_mode=True)[0]
    corners = [(BLOCK * i, BLOCK * j) for i, j in off.nonzero().tolist()]
    return [
        ((i, j), (max(0, i - MARGIN), min(height, i + BLOCK + MARGIN), max(0, j - MARGIN), min(width, j + BLOCK + MARGIN)))
        for i, j in corners
    ]
