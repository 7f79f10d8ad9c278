"""Each kind of picture file is read, saved and read back by others: mode, depth, every sample, profile, EXIF, resolution."""

import numpy as np
import pytest
from PIL import Image

from sr_zoo.picture import losses, open_picture, save_picture, suffix_for
from tests.kinds import DPI, KINDS, profile, read_back, source, write_kind

SIZE = {("photo", 0xA002), ("photo", 0xA003)}
RESOLUTION = {("main", 0x011A), ("main", 0x011B), ("main", 0x0128)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kind_is_kept_whole(kind, picture, tmp_path):
    path = write_kind(tmp_path, kind, picture)
    colours, alpha = source(kind, picture)
    if kind.lossy:
        colours, alpha = read_back(path)[:2]
    opened = open_picture(path)
    if opened.exif is not None:
        assert 0x0112 not in parsed(opened.exif), "the turn was made"
    if kind.suffix == ".gif" and alpha is not None:
        # What colour a transparent place has, GIF does not say.
        colours = np.where(alpha[..., None], colours, opened.colours)
    same(opened.colours, opened.alpha, colours, alpha, tolerance=1 if kind.lossy else 0)
    assert opened.colours.flags.c_contiguous or kind.suffix in (".bmp", ".pgm")
    assert any("frame 1 of" in note for note in opened.notes) == (kind.frames > 1)
    assert any("palette" in note for note in opened.notes) == (kind.mode in ("P", "PA") and kind.suffix != ".gif")
    assert any("1-bit" in note for note in opened.notes) == (kind.bits == 1)

    back = {suffix_for(path), kind.suffix} & {".png", ".tif", ".webp", ".avif", ".bmp"}
    for suffix in back:
        saved = tmp_path / f"saved{suffix}"
        assert losses(suffix, opened) is None
        save_picture(saved, opened)
        again_colours, again_alpha, icc, tags, dpi = read_back(saved)
        same(again_colours, again_alpha, opened.colours, opened.alpha)
        assert dpi == expected_dpi(kind)
        if kind.tagged and suffix != ".bmp":
            assert icc == profile(kind.channels)
            assert said(tags) == said(read_back(path)[3]) and len(said(tags)) >= 3
            assert tags.get(("photo", 0xA002), opened.size[0]) == opened.size[0]
        assert again(saved, opened)


def same(colours, alpha, other_colours, other_alpha, tolerance: int = 0) -> None:
    assert colours.dtype == other_colours.dtype and colours.shape == other_colours.shape
    assert (alpha is None) == (other_alpha is None)
    for one, other in ((colours, other_colours), (alpha, other_alpha)):
        assert one is None or np.abs(one.astype(int) - other).max() <= tolerance


def said(tags: dict) -> dict:
    """What must not change: not the sizes, which others check, and not Pillow's pointers within."""
    return {key: value for key, value in tags.items() if key not in SIZE | RESOLUTION and key[1] != 0xA005}


def parsed(block: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + block)
    return tags


def expected_dpi(kind):
    if kind.suffix in (".gif", ".pgm"):
        return None
    return DPI[::-1] if kind.orientation >= 5 else DPI


def again(path, picture) -> bool:
    """Whether the library reads what it wrote as what it was."""
    read = open_picture(path)
    same(read.colours, read.alpha, picture.colours, picture.alpha)
    assert read.icc == picture.icc and (read.exif is None or read.dpi == picture.dpi)
    return not any("damaged" in note for note in read.notes)
