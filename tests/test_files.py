"""A file appears whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from sr_zoo.files import clear_stale, expanded, whole, whole_folder


def test_the_new_file_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "new" / "x.json"
    for text in ("one", "two"):
        with whole(path) as beside:
            beside.write_text(text)
            assert beside.parent == path.parent and beside != path
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["x.json"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_error_leaves_the_old_file(tmp_path):
    (tmp_path / "x.json").write_text("old")
    with pytest.raises(RuntimeError), whole(tmp_path / "x.json") as beside:
        beside.write_text("half")
        raise RuntimeError
    assert (tmp_path / "x.json").read_text() == "old" and os.listdir(tmp_path) == ["x.json"]


def test_a_long_name_is_written(tmp_path):
    path = tmp_path / ("n" * 250 + ".png")
    with whole(path) as beside:
        beside.write_text("one")
    assert path.read_text() == "one"


def test_an_unknown_user_is_no_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x") and expanded("~nosuchuser/x") == Path("~nosuchuser/x")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    place = tmp_path / "deep" / "folder"
    with pytest.raises(RuntimeError), whole_folder(place) as beside:
        (beside / "half").write_text("x")
        raise RuntimeError
    assert os.listdir(place.parent) == []
    place.mkdir()  # an empty one may be there
    with whole_folder(place) as beside:
        (beside / "all").write_text("x")
        assert os.listdir(place) == []
    assert os.listdir(place) == ["all"] and os.listdir(place.parent) == ["folder"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(place.stat().st_mode) == 0o777 & ~mask
    for taken in (place, place / "all"):
        with pytest.raises(FileExistsError, match="exists already"), whole_folder(taken):
            pass
    assert os.listdir(place) == ["all"]


def test_what_killed_writers_left_goes_after_an_hour(tmp_path):
    target, long = tmp_path / "a_x4.png", tmp_path / f"{'n' * 60}.png"
    for path in (target, long):
        with pytest.raises(KeyboardInterrupt), whole(path) as beside:
            left = beside.with_name(beside.name)
            raise KeyboardInterrupt
        left.write_bytes(b"half")
    (tmp_path / ".a_x4-mine.png").write_bytes(b"of a user")
    (tmp_path / ".b_x4-12345678.png").write_bytes(b"of another target")
    names = set(os.listdir(tmp_path))
    for path in (target, long):
        clear_stale(path, names)
    assert set(os.listdir(tmp_path)) == names, "somebody may still be writing"
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    for path in (target, long):
        clear_stale(path, names)
    assert set(os.listdir(tmp_path)) == {".a_x4-mine.png", ".b_x4-12345678.png"}
