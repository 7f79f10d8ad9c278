"""Alternating projections, whole and in windows: what must stay does, and windows ask only what they can see."""

from pathlib import Path

import pytest
import torch

from sr_zoo import metrics, pocs
from sr_zoo.operators import Downsampler
from sr_zoo.picture import read_picture
from sr_zoo.pocs import Constraints, satisfy
from sr_zoo.rounding import to_bytes

ROOT = Path(__file__).resolve().parent.parent


def dark(scale, size=(40, 44)):
    """A picture that lacks light all over, so that every pixel that may move does; and what is wanted of it."""
    operator, random = Downsampler("bicubic", scale), torch.Generator().manual_seed(0)
    y = 200 * torch.rand(1, 2, scale * size[0], scale * size[1], generator=random)
    target = (operator.A(y) + 8).round()
    return y, Constraints.around(operator, target, torch.ones_like(target, dtype=torch.bool), 255)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(
    "place", [(slice(9, 29), slice(11, 31)), (slice(0, 14), slice(24, 44)), (slice(26, 40), slice(0, 20))]
)
def test_a_window_moves_and_asks_only_what_it_sees_all_of(scale, place):
    y, wanted = dark(scale)
    reach, (rows, columns) = wanted.downsampler.reach, place
    part = wanted.windows([place])
    view = y[..., scale * rows.start : scale * rows.stop, scale * columns.start : scale * columns.stop].clone()
    asked, moved = torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool), None
    moved = asked.clone()
    for dim, part_of, size in ((0, rows, 40), (1, columns, 44)):
        for inner, at_end in ((part_of.start > 0, False), (part_of.stop < size, True)):
            for mask, width in ((asked, reach), (moved, 2 * reach)):
                if inner:
                    mask.narrow(dim, mask.shape[dim] - width if at_end else 0, width).fill_(False)
    assert torch.equal(part.asked, asked.expand_as(part.asked))
    after, _ = part.alternate(view.clone(), part.missing(view), 3)
    changed = (after != view).all(1)[0]
    assert torch.equal(changed, moved.repeat_interleave(scale, 0).repeat_interleave(scale, 1))


@pytest.mark.parametrize("few", [False, True])
def test_rows_that_stay_do_while_the_others_are_mended(few):
    """Where much is missing, and where there is little: then windows do it."""
    y, wanted = dark(4)
    if few:
        away = torch.ones_like(wanted.target, dtype=torch.bool)
        away[..., 8:14, 20:23] = False
        wanted.forget(away)
    wanted.movable = torch.ones(1, 1, 160, 176)
    wanted.movable[..., :48, :] = 0
    before = y.clone()
    after, lacks = satisfy(y, wanted)
    assert torch.equal(after[..., :48, :], before[..., :48, :]) and not torch.equal(after[..., 48:, :], before[..., 48:, :])
    assert not lacks[..., 15:, :].any() and lacks[..., 8:10, 20:23].all(), "what sees fixed rows alone cannot be mended"


def test_every_sample_is_met_in_the_end_and_nothing_leaves_the_range():
    y, wanted = dark(3)
    after, lacks = satisfy(y, wanted)
    assert not lacks.any() and after.min() >= 0 and after.max() <= 255
    assert (wanted.downsampler.A(after) - wanted.target).abs().max() <= 0.4 + 1e-4


def test_roomier_windows_mend_what_small_ones_leave(monkeypatch):
    """A photo of twice the contrast, at ×2, has the hardest samples."""
    photo = torch.from_numpy(read_picture(ROOT / "examples" / "astronaut_truth.webp").copy()).permute(2, 0, 1)[None]
    operator = Downsampler("bicubic", 2)
    lr = metrics.round_clip(operator.A(((photo.float() - 128) * 2 + 128).clamp(0, 255)), 255)

    def missing() -> int:
        saved = to_bytes(operator.pinv(lr) / 255, lr, operator)
        return int((metrics.round_clip(operator.A(saved), 255) != lr).sum())

    with_roomier = missing()
    monkeypatch.setattr(pocs, "BLOCKS", pocs.BLOCKS[:1] * 2)
    monkeypatch.setattr(pocs, "SPARES", pocs.SPARES[:1] * 2)
    assert with_roomier < 0.7 * missing()
