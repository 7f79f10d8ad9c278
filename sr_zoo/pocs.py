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
# Most rounds are spent on few samples: on blocks with any, each with a margin of 2 · reach on which y stays as it is, for all that
# depends on it is not seen there, and some LR pixels to spare on which A⁺ dies away. Small windows do for nearly all of them; what
# is left after the first pass gets roomier ones. Where more than MANY of the blocks have some, all go together first.
BLOCKS, SPARES, MANY = (8, 16), (2, 4), 0.3
AT_ONCE = 128  # windows: more would leave the cache, fewer are slower to command than to compute


@dataclasses.dataclass
class Constraints:
    """What is asked of y ``(n, colours, scale·h, scale·w)``: least ≤ A y ≤ most, and 0 ≤ y ≤ high.

    Attributes:
        target: ``(n, colours, h, w)``, what is pulled at.
        least, most: as target; infinite where nothing is asked.
        high: upper bound of y, a number or ``(n, 1, scale·h, scale·w)``.
        movable: ``(n, 1, scale·h, scale·w)``, 0 where y stays as it is, 1 elsewhere; None where it is free everywhere.
    """

    downsampler: Downsampler
    target: Tensor
    least: Tensor
    most: Tensor
    high: Tensor | float
    movable: Tensor | None = None

    @classmethod
    def around(cls, downsampler: Downsampler, target: Tensor, asked: Tensor, peak: int, unit=1.0, high=None, movable=None):
        """A y within SLACK of the target where ``asked``; samples at 0 or peak bound it from one side only.

        Args:
            peak: the largest value of the file, in levels.
            unit: one level at each LR pixel: 1, or what opacity leaves of it, ``(n, 1, h, w)``.
            high: ``peak`` if None.
        """
        slack = SLACK[peak] * unit
        least = torch.where(asked & (target != 0), target - slack, -torch.inf)
        most = torch.where(asked & (target != peak * unit), target + slack, torch.inf)
        return cls(downsampler, target, least, most, peak if high is None else high, movable)

    @property
    def asked(self) -> Tensor:
        return self.least.isfinite() | self.most.isfinite()

    def forget(self, where: Tensor) -> None:
        """Ask nothing any more of these samples."""
        self.least.masked_fill_(where, -torch.inf)
        self.most.masked_fill_(where, torch.inf)

    def missing(self, y: Tensor) -> Tensor:
        """What A y lacks where it is not good enough."""
        again = self.downsampler.A(y)
        # Masks as numbers: in torch, masks of bools are several times slower.
        outside = torch.lt(again, self.least, out=torch.empty_like(again))
        outside += torch.gt(again, self.most, out=torch.empty_like(again))
        return torch.sub(self.target, again, out=again).mul_(outside)

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
            if going.movable is None:
                y = self.downsampler.pinv(wanted, onto=y)
            else:
                y.addcmul_(self.downsampler.pinv(wanted), going.movable)
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
        shares, free = [], torch.empty_like(y)
        for movable, bound in ((torch.lt, self.high), (torch.gt, 0)):
            movable(y, bound, out=free)
            shares.append(self.downsampler.A(free if self.movable is None else free.mul_(self.movable)))
        return torch.where(lacks > 0, *shares).clamp_(LEAST_FREE, 1)

    def windows(self, places: list[tuple[slice, slice]]) -> "Constraints":
        """Those of parts of one picture, in LR pixels, that are of one size and at the same of its borders. Near an edge that is no
        border y stays as it is: not all that depends on it is seen there."""
        scale, reach = self.downsampler.scale, self.downsampler.reach
        target, least, most = (_cut(x, places) for x in (self.target, self.least, self.most))
        movable = torch.ones(len(places), 1, *(scale * n for n in target.shape[-2:]))
        if self.movable is not None:
            movable *= _cut(self.movable, places, scale)
        for dim, part, size in zip((-2, -1), places[0], self.target.shape[-2:]):
            for inner, at_end in ((part.start > 0, False), (part.stop < size, True)):
                if inner:
                    _edge(least, dim, reach, at_end).fill_(-torch.inf)
                    _edge(most, dim, reach, at_end).fill_(torch.inf)
                    _edge(movable, dim, 2 * reach * scale, at_end).fill_(0)
        high = _cut(self.high, places, scale) if torch.is_tensor(self.high) else self.high
        return Constraints(self.downsampler, target, least, most, high, movable)

    def _some(self, chosen: Tensor) -> "Constraints":
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Constraints(**{name: x[chosen] if torch.is_tensor(x) else x for name, x in parts.items()})


def satisfy(y: Tensor, wanted: Constraints) -> tuple[Tensor, Tensor]:
    """Bring one picture ``(1, colours, scale·h, scale·w)`` to what is wanted, as far as it can be.

    Returns:
        y, which is overwritten, and what A y still lacks.
    """
    lacks, scale, reach = wanted.missing(y), wanted.downsampler.scale, wanted.downsampler.reach
    for number in range(PASSES):
        block, spare = (sizes[min(number, 1)] for sizes in (BLOCKS, SPARES))
        # Every other window may overlap only where y stays as it is in both.
        margin = 2 * reach + spare
        side = max(block, 2 * margin - 2 * reach)
        blocks = _blocks(lacks, side)
        if blocks.float().mean() > MANY:
            y, lacks = wanted.alternate(y, lacks, FIRST_ROUNDS)
            blocks = _blocks(lacks, side)
        before = int(lacks.count_nonzero())
        if not before:
            break
        for group in _groups(blocks, side, margin, *lacks.shape[-2:]):
            places = [place for _, place in group]
            part, views = wanted.windows(places), _cut(y, places, scale)
            here = part.missing(views)
            # What its neighbours lack is theirs to mend: here it may depend on pixels that stay.
            theirs, (rows, columns) = here != 0, group[0][0]
            theirs[..., rows, columns] = False
            part.forget(theirs)
            mended, _ = part.alternate(views, here.masked_fill_(theirs, 0), ROUNDS)
            for (rows, columns), view in zip(places, mended):
                y[0, :, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = view
        lacks = wanted.missing(y)
        # After the first pass windows grow: that it gained nothing says nothing of the next.
        if number and int(lacks.count_nonzero()) >= before:
            break
    return y, lacks


def _counts(lacks: Tensor) -> Tensor:
    return lacks.flatten(1).count_nonzero(1)


def _blocks(lacks: Tensor, side: int) -> Tensor:
    """Which blocks of one picture lack something, bool ``(rows, columns)``."""
    return F.max_pool2d((lacks != 0).float().amax(1), side, ceil_mode=True)[0] > 0


def _groups(
    blocks: Tensor, side: int, margin: int, height: int, width: int
) -> list[list[tuple[tuple[slice, slice], tuple[slice, slice]]]]:
    """The blocks that lack something, with the window around each: its own rows and columns within the window, and those of the
    window in the picture. Windows of a group are alike, and none is the next one's neighbour; at most AT_ONCE."""
    groups = {}
    for i, j in blocks.nonzero().tolist():
        spans, own = [], []
        for number, size in ((i, height), (j, width)):
            first = side * number
            start, stop = max(0, first - margin), min(size, first + side + margin)
            spans.append(slice(start, stop))
            own.append(slice(first - start, first - start + side))
        kinds = [(span.start > 0, span.stop < n, span.stop - span.start) for span, n in zip(spans, (height, width))]
        key = (i % 2, j % 2, *kinds)
        groups.setdefault(key, []).append((tuple(own), tuple(spans)))
    return [group[k : k + AT_ONCE] for group in groups.values() for k in range(0, len(group), AT_ONCE)]


def _edge(planes: Tensor, dim: int, width: int, at_end: bool) -> Tensor:
    return planes.narrow(dim, planes.shape[dim] - width if at_end else 0, width)


def _cut(plane: Tensor, places: list[tuple[slice, slice]], scale: int = 1) -> Tensor:
    """Parts of the only picture of a batch, as a batch."""
    return torch.cat([
        plane[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
        for rows, columns in places
    ])  # fmt: skip
