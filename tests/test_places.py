"""Remote places behave as folders do: listed, fetched, stored whole; what they lack is said in one line with the URL."""

import os
import sys

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sr_zoo.picture import PictureError, open_picture, write_picture
from sr_zoo.places import Local, PlaceError, Remote, inside, joined, place, split


@pytest.fixture
def memory():
    """An empty file system in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


class Renaming(MemoryFileSystem):
    """Writes what it is asked to and fails when it moves: a connection that breaks between."""

    protocol = "renaming"
    store, pseudo_dirs = {}, [""]

    def mv(self, *_, **__):
        raise OSError("connection lost")


class Torn(MemoryFileSystem):
    """Does not rename over a file, and then not at all."""

    protocol = "torn"
    store, pseudo_dirs = {}, [""]

    def mv(self, old, new, **options):
        raise FileExistsError(new) if self.exists(new) else OSError("connection lost")


class Stubborn(MemoryFileSystem):
    """Does not rename over a file."""

    protocol = "stubborn"
    store, pseudo_dirs = {}, [""]

    def mv(self, old, new, **options):
        if self.exists(new):
            raise FileExistsError(new)
        super().mv(old, new, **options)


@pytest.mark.parametrize("root", ["memory://bucket/photos", "{tmp}", "file://{tmp}"])
def test_every_place_lists_fetches_and_stores(root, tmp_path, picture, memory):
    root = root.format(tmp=tmp_path)
    there = place(root)
    for name in ("a.png", "b/c.png", "b/.hidden.png", ".b/d.png", "b/notes.txt"):
        with there.stored(joined(root, name)) as local:
            if name.endswith("png"):
                write_picture(local, picture)
            else:
                local.write_text("")
    assert there.files(root, recursive=True).names == ["a.png", "b/c.png", "b/notes.txt"]
    assert there.files(root, recursive=False).names == ["a.png"]
    assert there.names(joined(root, "b")) == {"c.png", ".hidden.png", "notes.txt"}
    assert there.names(joined(root, "nowhere")) == set()
    assert there.is_folder(joined(root, "b")) and not there.is_folder(joined(root, "a.png"))
    with there.fetched(joined(root, "b/c.png")) as local:
        assert np.array_equal(open_picture(local).colours, picture)
    # A second writing takes the place of the first.
    with there.stored(joined(root, "a.png")) as local:
        write_picture(local, picture[:8])
    with there.fetched(joined(root, "a.png")) as local:
        assert open_picture(local).size == (56, 8)
    assert there.names(root) == {"a.png", "b", ".b"}


def test_file_urls_are_files_of_this_machine(tmp_path):
    assert isinstance(place(f"file://{tmp_path}"), Local) and isinstance(place("memory://x"), Remote)
    assert inside(f"file://{tmp_path}/out", str(tmp_path)) == "out"


def test_inside(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "out").mkdir(parents=True)
    here = str(tmp_path)
    assert inside(f"{here}/in/out/", f"{here}/in") == "out" and inside(f"{here}/in", f"{here}/in/") == "."
    assert inside(f"{here}/link/out", f"{here}/in") == "out"
    assert inside(f"{here}/inner", f"{here}/in") is None and inside(here, f"{here}/in") is None
    assert inside("memory://a/b/c", "memory://a/") == "b/c" and inside("memory://ab", "memory://a") is None
    assert inside(here, "memory://a") is None


def test_paths_come_apart_and_together():
    for path in ("memory://a.png", "memory://a/b.png", "a.png", os.path.join("b", "a.png"), "/a.png"):
        folder, name = split(path)
        assert "/" not in name and (joined(folder, name) if folder else name) == path


def test_what_is_missing_is_named(memory, tmp_path):
    with (
        pytest.raises(PlaceError, match=r"^memory://no/a.png: no such file$"),
        place("memory://no").fetched("memory://no/a.png"),
    ):
        pass
    with pytest.raises(PlaceError, match="^nosuch://x: cannot be reached .*nosuch"):
        place("nosuch://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="file/out: cannot be made"):
        place("x").make(f"{tmp_path}/file/out")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    for url, package in (("s3://bucket/a", "s3fs"), ("gs://bucket/a", "gcsfs"), ("hf://datasets/a/b", "huggingface_hub")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(PlaceError) as error:
            place(url)
        assert str(error.value).startswith(f"{url}: ") and f"pip install {package}" in str(error.value)
        assert "\n" not in str(error.value)


def test_errors_of_the_local_copy_name_the_url(memory):
    memory.pipe("/b/text.png", b"no picture")
    told = pytest.raises(PictureError, match="^memory://b/text.png: is not a picture")
    with told, place("memory://b").fetched("memory://b/text.png") as local:
        open_picture(local)


def test_what_is_not_written_whole_does_not_appear(memory, picture):
    with pytest.raises(ZeroDivisionError), place("memory://b").stored("memory://b/a.png") as local:
        write_picture(local, picture)
        raise ZeroDivisionError
    assert memory.find("/") == []
    fsspec.register_implementation("renaming", Renaming, clobber=True)
    told = pytest.raises(PlaceError, match="^renaming://b/a.png: cannot be reached .*connection lost")
    with told, place("renaming://b").stored("renaming://b/a.png") as local:
        write_picture(local, picture)
    assert not Renaming.store


def test_the_new_file_takes_the_place_of_the_old_everywhere(picture):
    fsspec.register_implementation("stubborn", Stubborn, clobber=True)
    there = place("stubborn://b")
    for rows in (16, 8):
        with there.stored("stubborn://b/a.png") as local:
            write_picture(local, picture[:rows])
    with there.fetched("stubborn://b/a.png") as local:
        assert open_picture(local).size == (56, 8)
    assert len(Stubborn.store) == 1


def test_when_the_old_file_is_gone_the_new_one_stays_beside(picture):
    fsspec.register_implementation("torn", Torn, clobber=True)
    there = place("torn://b")
    there.fs.pipe_file("torn://b/a.png", b"old")
    with (
        pytest.raises(
            PlaceError, match=r"^torn://b/a.png: could not be replaced .*; what should be there is torn://b/.a.png-"
        ) as told,
        there.stored("torn://b/a.png") as local,
    ):
        write_picture(local, picture)
    with there.fetched(str(told.value).rsplit(" ", 1)[1]) as local:
        assert open_picture(local).size == (56, 40)


def test_object_stores_are_written_in_one_go(memory, picture, monkeypatch):
    """There a rename would be a copy, and an upload is whole by itself."""
    monkeypatch.setattr("sr_zoo.places.OBJECT_STORES", {"memory"})
    monkeypatch.setattr(MemoryFileSystem, "mv", None)
    with place("memory://b").stored("memory://b/a.png") as local:
        write_picture(local, picture)
    assert memory.find("/") == ["/b/a.png"]


def test_the_hub_is_understood():
    there = place("hf://datasets/owner/name/photos")
    assert isinstance(there, Remote) and there.protocol == "hf"
    assert inside("hf://datasets/owner/name/photos/out", "hf://datasets/owner/name/photos") == "out"
