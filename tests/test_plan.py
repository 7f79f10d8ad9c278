"""Every picture of a folder gets one target of its own, the same each time; what cannot be is said before work begins."""

import os

import pytest

from sr_zoo.places import PlaceError
from sr_zoo.plan import Job, TargetError, plan


@pytest.fixture
def tree(tmp_path):
    """Pictures by name only: planning decodes none."""
    names = "a.png b.JPG notes.txt no_suffix .hidden.png more/c.webp more/deep/d.tif more/.e/f.png"
    for name in names.split():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def names(planned, root) -> list[tuple[str, str]]:
    return [(os.path.relpath(j.source, root), os.path.relpath(j.targets[0], root)) for j in planned.jobs]


def test_the_structure_is_mirrored(tree, tmp_path):
    out = str(tmp_path / "out")
    flat = plan([str(tree)], out, 4)
    assert names(flat, tmp_path) == [("in/a.png", "out/a_x4.png"), ("in/b.JPG", "out/b_x4.png")]
    assert flat.others == 2 and flat.folders == 1 and not flat.failures
    deep = plan([str(tree)], out, 3, recursive=True)
    assert names(deep, tmp_path) == [
        ("in/a.png", "out/a_x3.png"), ("in/b.JPG", "out/b_x3.png"), ("in/more/c.webp", "out/more/c_x3.png"),
        ("in/more/deep/d.tif", "out/more/deep/d_x3.png"),
    ]  # fmt: skip


def test_an_output_in_the_input_is_no_input(tree):
    out = tree / "out"
    before = plan([str(tree)], str(out), 4, recursive=True).jobs
    for job in before:
        (target := tree / job.targets[0]).parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")
    (out / "notes.txt").write_text("")
    again = plan([f"{tree}/"], f"{out}/", 4, recursive=True)
    assert [j.targets for j in again.jobs] == [j.targets for j in before] and again.others == 2


def test_pictures_that_differ_in_their_suffix_keep_it(tree, tmp_path):
    (tree / "a.jpg").write_bytes(b"")
    (tree / "more" / "a.png").write_bytes(b"")
    planned = names(plan([str(tree)], str(tmp_path / "out"), 4, recursive=True), tmp_path)
    assert [t for _, t in planned] == [
        "out/a.jpg_x4.png", "out/a.png_x4.png", "out/b_x4.png", "out/more/a_x4.png", "out/more/c_x4.png",
        "out/more/deep/d_x4.png",
    ]  # fmt: skip
    # A name that is in the way of the longer one cannot be had.
    (tree / "a.jpg.bmp").write_bytes(b"")
    with pytest.raises(TargetError, match=r"a.jpg_x4.png: both .*a.jpg and .*a.jpg.bmp would go there"):
        plan([str(tree)], str(tmp_path / "out"), 4)


def test_outputs_that_would_be_inputs_are_refused(tree, tmp_path):
    (tmp_path / "same").symlink_to(tree)
    for out in (str(tree), f"{tree}/", str(tmp_path / "same"), f"file://{tree}"):
        with pytest.raises(TargetError, match="is the input folder"):
            plan([str(tree)], out, 4)
    # Around the input: harmless, but where the mirror meets the input again.
    assert names(plan([str(tree)], str(tmp_path), 4), tmp_path)[0] == ("in/a.png", "a_x4.png")
    (tree / "in").mkdir()
    (tree / "in" / "a.png").write_bytes(b"")
    with pytest.raises(TargetError, match="in/a_x4.png: would be an input next time"):
        plan([str(tree)], str(tmp_path), 4, recursive=True)


def test_no_target_is_an_input_under_another_name(tree, tmp_path):
    (tmp_path / "out").mkdir()
    os.link(tree / "b.JPG", tmp_path / "out" / "a_x4.png")
    with pytest.raises(TargetError, match="out/a_x4.png: is an input and would be overwritten"):
        plan([str(tree)], str(tmp_path / "out"), 4)


def test_two_spellings_of_a_place_are_one(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "a.jpg").write_bytes(b"")
    for one, other in (("a.png", "./a.jpg"), ("a.png", str(tree / "a.jpg"))):
        with pytest.raises(TargetError, match="a_x4.png: both a.png and .*a.jpg would go there"):
            plan([one, other], None, 4)


def test_an_output_has_the_suffix_that_is_asked_for(tree, tmp_path):
    one, out = str(tree / "a.png"), str(tmp_path / "b")
    with pytest.raises(TargetError, match=r"b.png: is no .webp file, as --format says"):
        plan([one], f"{out}.png", 4, suffix=".webp")
    for name, suffix in (("b.png", ".png"), ("b.JPEG", ".jpg"), ("b.tiff", ".tif"), ("b/", ".webp")):
        assert plan([one], str(tmp_path) + f"/{name}", 4, suffix=suffix).jobs


def test_samples_are_numbered(tree, tmp_path):
    jobs = plan([str(tree / "a.png")], None, 4, samples=10).jobs
    assert jobs == [Job(f"{tree}/a.png", tuple(f"{tree}/a_x4_{i:02}.png" for i in range(1, 11)))]
    assert plan(["a.png"], None, 4).jobs == [Job("a.png", ("a_x4.png",))]
    assert plan(["memory://a.png"], None, 4).jobs == [Job("memory://a.png", ("memory://a_x4.png",))]
    assert plan([str(tree / "a.png")], f"{tmp_path}/new/", 4).jobs[0].targets == (f"{tmp_path}/new/a_x4.png",)


def test_links_that_lead_in_circles_end(tree, tmp_path):
    (tree / "more" / "up").symlink_to(tree)
    (tree / "self.png").symlink_to("self.png")
    planned = plan([str(tree)], str(tmp_path / "out"), 4, recursive=True)
    assert len(planned.jobs) == 5 and len(planned.notes) == 1 and "more/up: is a link to a folder" in planned.notes[0]
    # The link to itself is tried, so that it is told of; the loop of folders is not.
    assert [s for s, _ in names(planned, tree)][-1] == "self.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tree, tmp_path):
    os.mkfifo(tree / "pipe.png")
    assert "pipe.png" not in str(plan([str(tree)], str(tmp_path / "out"), 4).jobs)


def test_what_cannot_be_listed_is_told(tree, tmp_path, monkeypatch):
    """Root may list everything, so that the system's answer is played."""
    scan = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    planned = plan([str(tree)], str(tmp_path / "out"), 4, recursive=True)
    assert len(planned.jobs) == 3 and planned.failures == [f"{tree}/more/deep: cannot be listed (Permission denied)"]


def test_folders_without_use_are_told(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    planned = plan([str(tmp_path / "empty"), str(tree)], str(tmp_path / "out"), 4)
    assert len(planned.jobs) == 2 and len(planned.failures) == 1 and "--recursive" in planned.failures[0]
    with pytest.raises(TargetError, match="in: is a folder; give --output"):
        plan([str(tree)], None, 4)
    with pytest.raises(TargetError, match="is a file; several pictures need a folder"):
        plan([str(tree)], str(tree / "a.png"), 4)
    with pytest.raises(PlaceError, match="cannot be made"):
        plan([str(tree)], str(tree / "a.png" / "out"), 4)
