"""Every kind of picture in strips: what is saved gives the input back, checked by independent arithmetic."""

import numpy as np
import pytest
import torch

from sr_zoo import MSE, strips
from sr_zoo.engine import Settings, measure, upscale_pictures
from sr_zoo.operators import Downsampler
from sr_zoo.picture import Picture, PictureError


def down(planes: np.ndarray) -> np.ndarray:
    """A of ``(height, width, channels)`` in float64, not rounded."""
    return Downsampler("bicubic", 4).A(torch.from_numpy(planes.astype(float)).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def rounded(values: np.ndarray, peak: int) -> np.ndarray:
    return np.floor(values + 0.5).clip(0, peak)


@pytest.fixture
def disc(picture) -> np.ndarray:
    """Alpha as antialiased drawing leaves it: a soft-edged disc, wholly clear outside, with a hole of half opacity."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    away = np.hypot(y - 20, x - 28)
    alpha = np.clip((16 - away) / 8, 0, 1)
    return np.uint8(np.where(away < 5, 0.5, alpha) * 255 + 0.5)


def made(picture, disc, channels: int, deep: bool, alpha: bool) -> Picture:
    colours = {1: picture[..., :1], 3: picture, 4: np.dstack([255 - picture, picture[..., 1] // 3])}[channels]
    if not deep:
        return Picture(colours, disc if alpha else None)
    # Values between the 8-bit ones, of pictures that have a pre-image.
    fine, clear = (down(np.kron(p, np.ones((4, 4, 1)))) for p in (colours, disc[..., None]))
    return Picture(np.uint16(fine * 250 + 500), np.uint16(clear[..., 0].clip(0, 255) * 257 + 0.5) if alpha else None)


@pytest.mark.parametrize("strip", [10**9, 16 * 20 * 56])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_gives_its_input_back(channels, deep, alpha, strip, picture, disc, model, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", strip)
    monkeypatch.setattr(strips, "SHORTEST", 4)
    source = made(picture, disc, channels, deep, alpha)
    peak = source.peak
    (done,) = upscale_pictures([source], model, Settings("float32"))
    saved = done.picture
    assert saved.colours.shape == (160, 224, channels) and saved.colours.dtype == source.colours.dtype
    if not alpha:
        assert saved.alpha is None and done.samples == source.colours.size
        right = rounded(down(saved.colours), peak) == source.colours
    else:
        assert saved.alpha.shape == (160, 224) and saved.alpha.dtype == source.colours.dtype
        opacity = down(saved.alpha[..., None])
        seen = source.alpha[..., None] > 0
        colours = down(saved.colours * saved.alpha[..., None].astype(float)) / opacity
        right = np.concatenate(
            [
                (rounded(colours, peak) == source.colours)[seen[..., 0]].ravel(),
                rounded(opacity, peak)[..., 0].ravel() == source.alpha.ravel(),
            ]
        )
        assert done.samples == right.size
    assert done.reproduced == right.mean()
    # At the edges of alpha, projections come to the last of 16 bits ever more slowly.
    assert done.reproduced == 1 if not (deep and alpha) else done.reproduced > 0.985 and done.lr_psnr_8bit > 60


def test_strips_are_the_whole(picture, model, monkeypatch):
    """Not in every pixel that rounding decides, but in every one where nothing is pulled."""
    calm = np.uint8(60 + picture // 2)
    (whole,) = upscale_pictures([Picture(calm)], model, Settings("float32"))
    monkeypatch.setattr(strips, "STRIP", 16 * 10 * 56)
    monkeypatch.setattr(strips, "SHORTEST", 1)
    (parts,) = upscale_pictures([Picture(calm)], model, Settings("float32"))
    assert len(list(strips._rows(40, 56, 4, 3))) == 4
    assert np.abs(parts.array.astype(int) - whole.array).max() <= 1 and (parts.array != whole.array).mean() < 1e-3
    assert parts.reproduced == whole.reproduced == 1 and abs(parts.lr_psnr - whole.lr_psnr) < 3


def test_no_fringe_where_transparent_colours_differ(disc, model):
    """White lies under the clear part of a black drawing: none of it comes through."""
    hidden = np.where(disc[..., None] > 0, np.uint8(0), np.uint8(255)).repeat(3, -1)
    (done,) = upscale_pictures([Picture(hidden, disc)], model, Settings("float32"))
    on_white = done.picture.colours * (done.picture.alpha[..., None] / 255) + 255 * (1 - done.picture.alpha[..., None] / 255)
    truth = 255.0 - done.picture.alpha[..., None]
    assert np.abs(on_white - truth).max() < 40 and np.abs(on_white - truth).mean() < 1


def test_hidden_colours_change_nothing_that_is_seen(picture, disc, model):
    """They are not even shown to the network."""
    other = np.where(disc[..., None] > 0, picture, 255 - picture)
    one, two = (done.picture for done in upscale_pictures([Picture(picture, disc), Picture(other, disc)], model))
    assert np.array_equal(one.alpha, two.alpha) and (one.alpha == 0).any()
    assert np.array_equal(one.colours[one.alpha > 0], two.colours[one.alpha > 0])


def test_a_constant_picture_goes_through_the_network_too(model):
    """Only alpha is spared it: a network may make what it wants of a flat colour, as far as A cannot see it."""
    flat = np.full((12, 12, 3), 100, np.uint8)
    (done,) = upscale_pictures([Picture(flat)], model, Settings("float32"))
    assert done.array.std() > 0 and done.reproduced == 1


def test_an_opaque_alpha_stays_opaque_and_costs_nothing(picture, model, monkeypatch):
    seen = []
    monkeypatch.setattr(strips, "strips", lambda *a, s=strips.strips: seen.append(1) or s(*a))
    (with_alpha,) = upscale_pictures([Picture(picture, np.full(picture.shape[:2], 255, np.uint8))], model)
    (without,) = upscale_pictures([Picture(picture)], model)
    assert (with_alpha.picture.alpha == 255).all() and len(seen) == 2
    assert np.array_equal(with_alpha.array, without.array)


def test_what_else_a_picture_carries_is_carried(picture, model):
    source = Picture(picture, None, b"profile", b"exif", (300.0, 150.0), ("a note",))
    done = upscale_pictures([source], model)[0].picture
    assert (done.icc, done.exif, done.dpi, done.notes) == (b"profile", b"exif", (300.0, 150.0), ("a note",))


def test_a_free_model_saves_every_kind(picture, disc):
    torch.manual_seed(0)
    free = MSE(generator={"name": "residual", "width": 16, "depth": 1}).eval()
    for channels in (1, 3, 4):
        (done,) = upscale_pictures([made(picture, disc, channels, False, True)], free)
        assert 0.02 < done.reproduced < 1


def test_a_canvas_too_large_for_the_memory_lies_in_a_file(picture, model, monkeypatch, tmp_path):
    (within,) = upscale_pictures([Picture(picture)], model, Settings(tile=0))
    monkeypatch.setattr(strips, "free_memory", lambda device: 4 * 100_000)
    (beside,) = upscale_pictures([Picture(picture)], model, Settings(tile=0, scratch=tmp_path))
    assert isinstance(beside.picture.colours, np.memmap) and np.array_equal(beside.array, within.array)
    assert not list(tmp_path.iterdir())


def test_measure_counts_what_is_wrong(picture, model):
    (done,) = upscale_pictures([Picture(picture)], model)
    spoilt = done.picture.colours.copy()
    spoilt[40:44, 40:44, 1] = 255 - spoilt[40:44, 40:44, 1]
    wrong = (rounded(down(spoilt), 255) != picture).sum()
    samples, share, psnr = measure(Picture(spoilt), Picture(picture), model)
    assert wrong > 0 and samples == picture.size and share == 1 - wrong / picture.size and psnr < done.lr_psnr_8bit
    # A file of 16 bits that says the same.
    assert measure(Picture(spoilt.astype(np.uint16) * 257), Picture(picture), model)[1] == share
    with pytest.raises(ValueError, match="cannot be compared"):
        measure(Picture(spoilt[:4]), Picture(picture), model)


def test_a_picture_without_pixels(model):
    with pytest.raises(PictureError, match="no pixels"):
        upscale_pictures([Picture(np.zeros((0, 5, 3), np.uint8))], model)
