"""Pages to learn from are the same every time, no two alike, and those to judge by share neither fonts nor pages with them."""

import sys

import numpy as np
from PIL import Image

from benchmarks import pages


def test_the_same_every_time_and_no_two_alike():
    drawn = [np.asarray(pages.page(n, held_out)) for held_out in (False, True) for n in (0, 1, 0)]
    assert all(sheet.shape == (*pages.SIZE[::-1], 3) for sheet in drawn)
    assert (drawn[0] == drawn[2]).all() and (drawn[3] == drawn[5]).all()
    for i, j in ((0, 1), (0, 3), (3, 4)):
        assert (drawn[i] != drawn[j]).mean() > 0.05


def test_edges_are_smooth_and_there_are_many():
    """Text is neither two-valued nor blurred: most pixels are paper or ink, and of those between there are some."""
    sheet = np.asarray(pages.page(2)).astype(int)
    values, counts = np.unique(sheet.reshape(-1, 3), axis=0, return_counts=True)
    assert counts.max() > 0.4 * sheet[..., 0].size and len(values) > 1000


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
