"""Every kind of picture file through ``sr-zoo upscale``: read back by others, it is the same kind and gives the input back."""

import numpy as np
import pytest
import torch
from PIL import Image

import sr_zoo
from sr_zoo.cli import main
from sr_zoo.operators import Downsampler
from sr_zoo.picture import suffix_for
from tests.kinds import DPI, KINDS, read_back, source, write_kind
from tests.test_kinds import said

# A palette or one bit makes edges that no bicubic downsampling has made, so these have no exact pre-image.
DRAWN = [kind for kind in KINDS if kind.mode[0] in "1P"]


def down(planes: np.ndarray) -> np.ndarray:
    return Downsampler("bicubic", 4).A(torch.from_numpy(planes.astype(float)).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def given_back(large, small) -> float:
    """Share of samples, by the rules of :class:`sr_zoo.engine.Upscaled`, computed from arrays that others have read."""
    (colours, alpha), (want, want_alpha) = large, small
    peak = np.iinfo(want.dtype).max
    if alpha is None:
        return (np.floor(down(colours) + 0.5).clip(0, peak) == want).mean()
    opacity, seen = down(alpha[..., None]), want_alpha > 0
    over = np.divide(down(colours * alpha[..., None].astype(float)), opacity, where=opacity != 0, out=np.zeros(want.shape))
    right = [np.floor(opacity[..., 0] + 0.5).clip(0, peak) == want_alpha, (np.floor(over + 0.5).clip(0, peak) == want)[seen]]
    return np.concatenate([r.ravel() for r in right]).mean()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_upscaled_in_kind(kind, capsys, checkpoint, tmp_path, picture):
    (tmp_path / "in").mkdir()
    path = write_kind(tmp_path / "in", kind, picture)
    assert main(["upscale", str(path), "-o", f"{tmp_path}/out/", "--model", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    (made,) = (tmp_path / "out").iterdir()
    assert made.suffix == suffix_for(path)
    # Not what was written but what is in the file: that of a lossy one differs, and a palette's file has colours.
    colours, alpha, icc, exif, dpi = read_back(made)
    small = sr_zoo.picture.open_picture(path)
    assert colours.shape == (4 * small.size[1], 4 * small.size[0], small.colours.shape[2])
    assert colours.dtype == small.colours.dtype == (np.uint16 if kind.bits == 16 else np.uint8)
    assert (alpha is not None) == kind.transparent
    if not kind.lossy:
        want, want_alpha = source(kind, picture)
        same = want.shape == small.colours.shape
        seen = np.ones(want.shape[:2], bool) if want_alpha is None else want_alpha > 0
        assert np.array_equal(small.colours[seen], (want if same else want[..., :1])[seen])
        assert want_alpha is None or np.array_equal(small.alpha, want_alpha)
    assert icc == small.icc and (icc is not None) == kind.tagged
    if kind.tagged:
        assert said(exif) == said(read_back(path)[3]) and len(said(exif)) >= 3
        assert exif.get(("photo", 0xA002), colours.shape[1]) == colours.shape[1]
    assert dpi is None if small.dpi is None else np.allclose(dpi, small.dpi, rtol=0.01)
    share = given_back((colours, alpha), (small.colours, small.alpha))
    if kind in DRAWN:
        assert share > 0.1
    elif kind.bits == 8:
        assert share == 1 and "gives back all" in out
    else:
        assert share > 0.995
    assert ("gives back all" in out) == (share == 1)


def test_pictures_of_pillow_keep_what_they_carry(checkpoint, picture):
    from tests.kinds import profile

    alpha = np.roll(picture[..., 1], 7, 0) // 2 + 128
    image = Image.fromarray(np.dstack([picture, alpha]))
    image.info.update(dpi=DPI, icc_profile=profile(3))
    large = sr_zoo.upscale(image, checkpoint)
    assert large.mode == "RGBA" and large.info["dpi"] == DPI and large.info["icc_profile"] == profile(3)
    assert sr_zoo.upscale(image.convert("CMYK"), checkpoint).mode == "CMYK"
    assert sr_zoo.upscale(Image.fromarray(picture[..., 0].astype(np.uint16) * 257), checkpoint).mode == "I;16"
