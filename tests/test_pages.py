"""Pages to learn from are the same every time, no two alike, and those to judge by share neither fonts nor pages with them."""

import sys

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import pages


def test_the_same_every_time_and_no_two_alike():
    drawn = [np.asarray(pages.page(n, held_out)) for held_out in (False, True) for n in (0, 1, 0)]
    assert all(sheet.shape == (*pages.SIZE[::-1], 3) for sheet in drawn)
    assert (drawn[0] == drawn[2]).all() and (drawn[3] == drawn[5]).all()
    for i, j in ((0, 1), (0, 3), (3, 4)):
        assert (drawn[i] != drawn[j]).mean() > 0.05


def test_lines_and_shapes_have_smooth_edges_too(monkeypatch):
    """Text has them anyway. Between flat colours there are mixed ones, and yet steps from one pixel to the next."""
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *_, **__: None)
    sheet = np.asarray(pages.page(2)).astype(int)
    assert np.abs(np.diff(sheet, axis=1)).max() > 200 and (np.diff(sheet, axis=1) == 0).mean() > 0.9
    colours = {"smooth": len(np.unique(sheet.reshape(-1, 3), axis=0))}
    monkeypatch.setattr(pages, "FINER", 1)
    colours["flat"] = len(np.unique(np.asarray(pages.page(2)).reshape(-1, 3), axis=0))
    assert colours["smooth"] > 5 * colours["flat"]


def test_other_fonts_to_judge_by():
    learned, judged = ({path.name for path in pages._fonts(held_out)} for held_out in (False, True))
    assert len(learned) >= 10 and len(judged) >= 4 and not learned & judged


def test_other_pages_to_judge_by(monkeypatch):
    fonts = pages._fonts(False)
    monkeypatch.setattr(pages, "_fonts", lambda held_out: fonts)
    assert (np.asarray(pages.page(0)) != np.asarray(pages.page(0, True))).mean() > 0.05


def test_files_are_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pages", "--held-out", "--pages", "2", str(tmp_path / "new" / "pages")])
    pages.main()
    assert sorted(p.name for p in (tmp_path / "new" / "pages").iterdir()) == ["page000.png", "page001.png"]
    assert (np.asarray(Image.open(tmp_path / "new" / "pages" / "page001.png")) == np.asarray(pages.page(1, True))).all()
