"""Pictures that downsample to the input *and* lie in the range of a file: alternating projections onto the two sets (POCS)."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo.operators import Downsampler

__all__ = ["Constraints", "satisfy"]

# Samples within SLACK levels count as met: what is left is for the rounding, which moves A y by less.
SLACK = {255: 0.4, 65535: 0.25}
# GAIN times of what will not be clipped away is asked for, and at most 1 / LEAST_FREE times. All of these were chosen on
# validation pictures, as they are and with twice the contrast, by time and by samples that are missing in the end.
GAIN, LEAST_FREE = 1.2, 0.08
# Projections end after so many rounds, or after PATIENCE rounds without fewer samples that are off: then these have, as far as
# we can tell, no exact pre-image.
FIRST_ROUNDS, ROUNDS, PATIENCE, PASSES = 4, 100, 16, 4
# Most rounds are spent on few samples: on blocks with any, each with a margin on which A⁺ has nearly died away. LR pixels.
# Where more than MANY of the blocks have some, all go together first.
BLOCK, MARGIN, MANY = 16, 8, 0.3
AT_ONCE = 64  # windows, so that what is computed at once stays in the cache


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

    def alternate(self, y: Tensor, lacks: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
        """Alternating projections, of each picture until nothing is missing or nothing is gained any more.

        Where much of y is at a bound already, most of a correction is clipped away again; so the share that is not is found out
        first, and as much more is asked for: a third of the rounds, and an end where there was none.

        Returns:
            y, which is overwritten, and what A y still lacks.
        """
        # As pictures are done with, the others go on without them: numbers says which these are.
        going, made, left = self, y, lacks.clone()
        numbers, fewest, found = torch.arange(len(y)), _counts(lacks), torch.zeros(len(y), dtype=torch.long)
        for number in range(1, rounds + 1):
            wanted = lacks * (GAIN / going._free(y, lacks))
            if going.fixed is None:
                y = self.downsampler.pinv(wanted, onto=y)
            else:
                y += self.downsampler.pinv(wanted).masked_fill_(going.fixed, 0)
            y = going._clamped(y)
            lacks = going.missing(y)
            counts = _counts(lacks)
            found = torch.where(counts < fewest, number, found)
            fewest = torch.minimum(fewest, counts)
            on = (counts > 0) & (number - found < PATIENCE)
            if not on.all() or number == rounds:
                if y is not made:
                    made[numbers] = y
                left[numbers] = lacks
                if not on.any():
                    break
                going, y, lacks = going._some(on), y[on], lacks[on]
                numbers, fewest, found = numbers[on], fewest[on], found[on]
        return made, left

    def _clamped(self, y: Tensor) -> Tensor:
        return y.clamp_(min=0).clamp_(max=self.high) if torch.is_tensor(self.high) else y.clamp_(0, self.high)

    def _free(self, y: Tensor, lacks: Tensor) -> Tensor:
        """Share of what each sample sees that can still move the way it has to."""
        up, down = (
            self.downsampler.A((free if self.fixed is None else free & ~self.fixed).to(y.dtype))
            for free in (y < self.high, y > 0)
        )
        return torch.where(lacks > 0, up, down).clamp_(LEAST_FREE, 1)

    def windows(self, places: list[tuple[slice, slice]]) -> "Constraints":
        """Those of parts of one picture that are of one size, in LR pixels. Near an edge that is none of the picture y is fixed:
        not all that depends on it is seen there."""
        scale, reach = self.downsampler.scale, self.downsampler.reach
        asked = _cut(self.asked, places).clone()
        fixed = torch.zeros(len(places), 1, *(scale * n for n in asked.shape[-2:]), dtype=torch.bool)
        for i, place in enumerate(places):
            for dim, part, size in zip((-2, -1), place, self.target.shape[-2:]):
                for inner, first, last in (
                    (part.start > 0, 0, 1), (part.stop < size, part.stop - part.start, -1),
                ):  # fmt: skip
                    if inner:
                        lower = min(first, first + last * reach)
                        asked[i].narrow(dim, lower, reach).fill_(False)
                        lower = min(first, first + last * 2 * reach) * scale
                        fixed[i].narrow(dim, lower, 2 * reach * scale).fill_(True)
        unit, high = (_cut(x, places, f) if torch.is_tensor(x) else x for x, f in ((self.unit, 1), (self.high, scale)))
        if self.fixed is not None:
            fixed |= _cut(self.fixed, places, scale)
        return Constraints(self.downsampler, _cut(self.target, places), unit, self.peak, high, asked, fixed)

    def _some(self, chosen: Tensor) -> "Constraints":
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Constraints(**{name: x[chosen] if torch.is_tensor(x) else x for name, x in parts.items()})


def satisfy(y: Tensor, wanted: Constraints) -> tuple[Tensor, Tensor]:
    """Bring one picture ``(1, colours, scale·h, scale·w)`` to what is wanted, as far as it can be.

    Returns:
        y, which is overwritten, and what A y still lacks.
    """
    lacks, scale = wanted.missing(y), wanted.downsampler.scale
    for _ in range(PASSES):
        blocks = _blocks(lacks)
        if blocks.float().mean() > MANY:
            y, lacks = wanted.alternate(y, lacks, FIRST_ROUNDS)
            blocks = _blocks(lacks)
        before = int(lacks.count_nonzero())
        if not before:
            break
        for group in _groups(blocks, *lacks.shape[-2:]):
            places = [place for _, place in group]
            part, views = wanted.windows(places), _cut(y, places, scale)
            here = part.missing(views)
            for i, (own, _) in enumerate(group):
                # What its neighbours lack is theirs to mend: here it may depend on pixels that are fixed.
                theirs = here[i] != 0
                theirs[:, own[0], own[1]] = False
                part.asked[i] &= ~theirs
            mended, _ = part.alternate(views, here.masked_fill_(~part.asked, 0), ROUNDS)
            for (rows, columns), view in zip(places, mended):
                y[0, :, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = view
        lacks = wanted.missing(y)
        if int(lacks.count_nonzero()) >= before:
            break
    return y, lacks


def missing(again: Tensor, target: Tensor, unit: Tensor | float = 1.0, peak: int = 255) -> Tensor:
    """What A y lacks where it is not good enough. Samples at 0 or peak bound A y from one side only."""
    lacks, slack = target - again, SLACK[peak] * unit
    free = ((target == 0) & (again <= slack)) | ((target == peak * unit) & (again >= peak * unit - slack))
    return lacks.masked_fill_(free | (lacks.abs() <= slack), 0)


def _counts(lacks: Tensor) -> Tensor:
    return lacks.flatten(1).count_nonzero(1)


def _blocks(lacks: Tensor) -> Tensor:
    """Which blocks of one picture lack something, bool ``(rows, columns)``."""
    return F.max_pool2d((lacks != 0).float().amax(1), BLOCK, ceil_mode=True)[0] > 0


def _groups(blocks: Tensor, height: int, width: int) -> list[list[tuple[tuple[slice, slice], tuple[slice, slice]]]]:
    """The blocks that lack something, with the window around each: its own rows and columns within the window, and those of the
    window in the picture. Windows of a group are of one size, and none overlaps another; at most AT_ONCE."""
    groups = {}
    for i, j in blocks.nonzero().tolist():
        spans, own = [], []
        for number, size in ((i, height), (j, width)):
            first = BLOCK * number
            start, stop = max(0, first - MARGIN), min(size, first + BLOCK + MARGIN)
            spans.append(slice(start, stop))
            own.append(slice(first - start, first - start + BLOCK))
        # BLOCK and twice the MARGIN are two blocks: every other one is clear of it.
        key = (i % 2, j % 2, *(span.stop - span.start for span in spans))
        groups.setdefault(key, []).append((tuple(own), tuple(spans)))
    return [group[k : k + AT_ONCE] for group in groups.values() for k in range(0, len(group), AT_ONCE)]


def _cut(plane: Tensor, places: list[tuple[slice, slice]], scale: int = 1) -> Tensor:
    """Parts of the only picture of a batch, as a batch."""
    return torch.cat([
        plane[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
        for rows, columns in places
    ])  # fmt: skip
