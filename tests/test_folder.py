"""A folder of pictures: the same bytes in whatever order, number and process; what fails stops nothing; nothing half written."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

import sr_zoo
from sr_zoo import delivery
from sr_zoo import folder as module
from sr_zoo.engine import Settings
from sr_zoo.folder import upscale_folder, upscale_jobs
from sr_zoo.picture import open_picture, save_picture
from sr_zoo.places import PlaceError
from sr_zoo.plan import plan

FLOAT = Settings(precision="float32")


@pytest.fixture
def photos(tmp_path, picture) -> Path:
    """Nine pictures of several sizes and kinds in nested folders."""
    names = ["a.png", "b.png", "c.bmp", "d.jpg", "e.png", "more/f.png", "more/g.png", "more/deep/h.png", "more/deep/i.webp"]
    for i, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.roll(picture, 5 * i, 0)[: 16 + 2 * (i // 3)])
        (image.convert("L") if name == "b.png" else image).save(path)
    return tmp_path / "in"


def contents(folder) -> dict[str, bytes]:
    """Every file that is not hidden, by its name."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file() and p.name[0] != "."
    }  # fmt: skip


def hidden(folder) -> list[Path]:
    return list(Path(folder).rglob(".*"))


def test_a_folder_gives_what_its_pictures_give_one_by_one(photos, model, tmp_path):
    summary = upscale_folder(photos, tmp_path / "out", model, FLOAT, recursive=True)
    assert summary.count("done") == len(summary.results) == 9 and not summary.failed
    files = contents(tmp_path / "out")
    assert sorted(files) == sorted(
        f"{n}_x4.png" for n in ("a", "b", "c", "d", "e", "more/f", "more/g", "more/deep/h", "more/deep/i")
    )
    for result in summary.results:
        alone = np.array(sr_zoo.upscale(result.source, model, "float32"))
        assert np.array_equal(np.array(Image.open(result.target)), alone)
    assert not hidden(tmp_path / "out")
    assert summary.sentence().startswith("9 pictures upscaled in ")


def test_reading_computing_and_writing_overlap(photos, model, tmp_path, monkeypatch):
    """Each picture's writing waits for the next one's computing, which waits for the reading of the one after."""
    computing, reading = threading.Event(), threading.Event()
    seen, upscale = [], module.upscale_pictures

    def read(path, *options):
        if path.name == "c.bmp":
            reading.set()
        return open_picture(path, *options)

    def compute(pictures, *arguments):
        seen.append(pictures)
        if len(seen) == 2:
            computing.set()
            assert reading.wait(20), "the third was not read while the second was computed"
        return upscale(pictures, *arguments)

    def write(path, picture, quality):
        if path.name == "a_x4.png":
            assert computing.wait(20), "the second was not computed while the first was written"
        save_picture(path, picture, quality)

    monkeypatch.setattr(delivery, "open_picture", read)
    monkeypatch.setattr(module, "upscale_pictures", compute)
    monkeypatch.setattr(delivery, "save_picture", write)
    assert upscale_folder(photos, tmp_path / "out", model, FLOAT).count("done") == 5


@pytest.mark.parametrize("bytes_at_once, most", [(1, 1), (10**9, 3)])
def test_what_is_held_is_bounded(bytes_at_once, most, photos, model, tmp_path, monkeypatch):
    """Large pictures are not heaped up before a slow disk, nor read far ahead of a slow network; small ones are."""
    held, upscale = {"read": 0, "computed": 0, "ahead": 0, "behind": 0}, module.upscale_pictures

    def read(path, *options):
        picture = open_picture(path, *options)
        held["read"] += 1
        held["ahead"] = max(held["ahead"], held["read"] - held["computed"])
        return picture

    def compute(pictures, *arguments):
        time.sleep(0.03)
        done = upscale(pictures, *arguments)
        held["computed"] += 1
        return done

    def write(path, picture, quality):
        written = len(list(Path(tmp_path / "out").rglob("*.png")))
        time.sleep(0.2 if held["computed"] < 7 else 0)
        held["behind"] = max(held["behind"], held["computed"] - written)
        save_picture(path, picture, quality)

    monkeypatch.setattr(module, "BYTES_AHEAD", bytes_at_once)
    monkeypatch.setattr(module, "BYTES_BEHIND", bytes_at_once)
    monkeypatch.setattr(delivery, "open_picture", read)
    monkeypatch.setattr(module, "upscale_pictures", compute)
    monkeypatch.setattr(delivery, "save_picture", write)
    assert upscale_folder(photos, tmp_path / "out", model, FLOAT, recursive=True).count("done") == 9
    if most == 1:
        assert held["behind"] == 1 and held["ahead"] <= module.THREADS + 2
    else:
        assert held["behind"] >= most


def test_what_fails_is_told_and_stops_nothing(photos, model, tmp_path, monkeypatch):
    """A damaged file, a place that cannot be written, no memory, and faults of our own in each thread."""
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:200])
    (tmp_path / "out" / "c_x4.png").mkdir(parents=True)
    upscale = module.upscale_pictures

    def read(path, *options):
        return open_picture(path, *options) if path.name != "f.png" else 1 / 0

    def compute(pictures, *arguments):
        if pictures[0].colours.shape[2] == 1:
            raise MemoryError("not enough memory for a picture of 9×9")
        return upscale(pictures, *arguments)

    def write(path, picture, quality):
        return save_picture(path, picture, quality) if path.name != "g_x4.png" else [][0]

    monkeypatch.setattr(delivery, "open_picture", read)
    monkeypatch.setattr(module, "upscale_pictures", compute)
    monkeypatch.setattr(delivery, "save_picture", write)
    told = []
    summary = upscale_folder(photos, tmp_path / "out", model, FLOAT, recursive=True, report=told.append)
    assert tuple(told) == summary.results and summary.failed == 5 and summary.count("done") == 4
    reasons = {os.path.relpath(r.source, photos): r for r in summary.results if r.state == "failed"}
    for name, reason in {"a.png": "truncated", "b.png": "not enough memory for a picture of 9×9; cut", "c.bmp": "written",
                         "more/f.png": "ZeroDivisionError", "more/g.png": "IndexError"}.items():  # fmt: skip
        assert reason in reasons[name].reason and "\n" not in reasons[name].reason
        assert name in reasons[name].reason or "c_x4.png" in reasons[name].reason
    assert "in read" in reasons["more/f.png"].trace and not reasons["a.png"].trace
    assert sorted(contents(tmp_path / "out")) == ["d_x4.png", "e_x4.png", "more/deep/h_x4.png", "more/deep/i_x4.png"]
    assert not hidden(tmp_path / "out")
    assert "5 failed" in summary.sentence()


def test_memory_that_waiting_pictures_take_is_given_back_first(photos, model, tmp_path, monkeypatch):
    upscale, release, refused = module.upscale_pictures, threading.Event(), []

    def compute(pictures, *arguments):
        if not refused and (tmp_path / "out" / "a_x4.png").exists() is False and len(started) == 1:
            refused.append(1)
            release.set()
            raise MemoryError("not enough memory")
        started.append(1)
        return upscale(pictures, *arguments)

    def write(path, picture, quality):
        release.wait(20)
        save_picture(path, picture, quality)

    started = []
    monkeypatch.setattr(module, "upscale_pictures", compute)
    monkeypatch.setattr(delivery, "save_picture", write)
    assert upscale_folder(photos, tmp_path / "out", model, FLOAT).count("done") == 5 and refused


@pytest.mark.parametrize("where", ["compute", "report"])
def test_an_interrupt_leaves_whole_files_only(where, photos, model, tmp_path, monkeypatch):
    """The writing that goes on ends, what waits is dropped, all threads are gone, and the exception comes through."""
    begun, interrupted, upscale = threading.Event(), threading.Event(), module.upscale_pictures
    count = []

    def compute(pictures, *arguments):
        count.append(1)
        if len(count) == 4 and where == "compute":
            assert begun.wait(20)
            threading.Timer(0.3, interrupted.set).start()
            raise KeyboardInterrupt
        return upscale(pictures, *arguments)

    def write(path, picture, quality):
        begun.set()
        if where == "compute":
            interrupted.wait(20)
        save_picture(path, picture, quality)

    def report(result):
        if where == "report":
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "upscale_pictures", compute)
    monkeypatch.setattr(delivery, "save_picture", write)
    with pytest.raises(KeyboardInterrupt):
        upscale_folder(photos, tmp_path / "out", model, FLOAT, recursive=True, report=report)
    assert not [t for t in threading.enumerate() if t.name.startswith("sr_zoo")]
    files = contents(tmp_path / "out")
    assert "a_x4.png" in files and len(files) < 9 and not hidden(tmp_path / "out")
    if where == "compute":
        assert len(files) == 1, "what had not begun to be written was written"
    for name in files:
        Image.open(tmp_path / "out" / name).load()


def test_what_is_there_is_skipped(photos, model, tmp_path, monkeypatch):
    out, count, upscale = tmp_path / "out", [], module.upscale_pictures
    upscale_folder(photos, out, model, FLOAT, recursive=True)
    whole = contents(out)
    (out / "b_x4.png").unlink()
    (out / "more" / "deep" / "i_x4.png").unlink()
    (out / "a_x4.png").write_bytes(b"by a user")
    stale = [out / ".b_x4-abcd1234.png", out / "more" / ".g_x4-abcd1234.png"]
    for path in stale:
        path.write_bytes(b"half")
    os.utime(stale[0], (0, 0))
    monkeypatch.setattr(module, "upscale_pictures", lambda *a: count.append(1) or upscale(*a))
    summary = upscale_folder(photos, out, model, FLOAT, recursive=True, skip_existing=True)
    assert len(count) == 2 == summary.count("done") and summary.count("skipped") == 7 and not summary.failed
    assert contents(out) == {**whole, "a_x4.png": b"by a user"}
    assert hidden(out) == stale[1:], "what is old and in the way goes, what may be another process's stays"
    upscale_folder(photos, out, model, FLOAT, recursive=True)
    assert contents(out) == whole and len(count) == 11


def test_samples_that_are_missing_are_made_again(photos, tmp_path):
    import torch

    from sr_zoo import AffGAN

    torch.manual_seed(0)
    noisy = AffGAN(generator={"name": "residual", "width": 16, "depth": 1}, noise_channels=2).eval()
    summary = upscale_folder(photos, tmp_path / "out", noisy, FLOAT, samples=3)
    assert summary.count("done") == 15
    whole = contents(tmp_path / "out")
    assert whole["a_x4_1.png"] != whole["a_x4_2.png"] != whole["a_x4_3.png"]
    (tmp_path / "out" / "a_x4_2.png").unlink()
    assert upscale_folder(photos, tmp_path / "out", noisy, FLOAT, samples=3, skip_existing=True).count("done") == 1
    assert contents(tmp_path / "out") == whole
    stack = np.stack([np.array(Image.open(tmp_path / "out" / f"a_x4_{i}.png")) for i in (1, 2, 3)]).astype(float)
    spreads = {r.target: r.spread for r in summary.results}
    assert spreads[f"{tmp_path}/out/a_x4_3.png"] == pytest.approx(stack.std(0).mean(), rel=1e-3)
    assert spreads[f"{tmp_path}/out/a_x4_2.png"] is None
    # In levels of 255 also where there are more of them.
    eight, sixteen = tmp_path / "eight.png", tmp_path / "sixteen.png"
    grey = np.random.default_rng(0).integers(40, 200, (12, 16), dtype=np.uint8)
    Image.fromarray(grey).save(eight)
    Image.fromarray(grey.astype(np.uint16) * 257).save(sixteen)
    one, other = (upscale_jobs(plan([str(p)], None, 4, 3).jobs, noisy, FLOAT).results[-1].spread for p in (eight, sixteen))
    assert one == pytest.approx(other, rel=0.1) and one > 0.1


def test_every_sample_of_a_broken_picture_is_told_of(photos, model, tmp_path):
    (photos / "a.png").write_bytes(b"nonsense")
    told = []
    summary = upscale_jobs(
        plan([str(photos / "a.png")], str(tmp_path / "out") + "/", 4, 3).jobs, model, FLOAT, report=told.append
    )
    assert summary.count("failed") == len(told) == 3 and len({r.target for r in told}) == 3


def test_no_folder_is_said_to_be_none(model, tmp_path):
    with pytest.raises(PlaceError, match="nowhere: no such folder"):
        upscale_folder(tmp_path / "nowhere", tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_a_report_goes_where_a_url_says(photos, model, tmp_path, monkeypatch):
    from sr_zoo.summary import write_report

    monkeypatch.chdir(tmp_path)
    summary = upscale_folder(photos, tmp_path / "out", model, FLOAT)
    for path in ("memory://reports/x.csv", str(tmp_path / "x.csv")):
        write_report(path, summary)
    memory = fsspec.filesystem("memory")
    assert memory.cat("/reports/x.csv") == (tmp_path / "x.csv").read_bytes()
    assert not (tmp_path / "memory:").exists()


def test_a_folder_elsewhere_gives_the_same(photos, model, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.put(str(photos), "/photos", recursive=True)
    upscale_folder(photos, tmp_path / "out", model, FLOAT, recursive=True)
    summary = upscale_folder("memory://photos", "memory://photos/out", model, FLOAT, recursive=True)
    assert summary.count("done") == 9 and summary.results[0].target == "memory://photos/out/a_x4.png"
    there = {name.removeprefix("/photos/out/"): memory.cat(name) for name in memory.find("/photos/out")}
    assert there == contents(tmp_path / "out")
    memory.rm("/photos/out/more/f_x4.png")
    memory.pipe("/photos/more/bad.png", b"no picture")
    again = upscale_folder("memory://photos", "memory://photos/out", model, FLOAT, recursive=True, skip_existing=True)
    assert (again.count("done"), again.count("skipped"), again.count("failed")) == (1, 8, 1)
    assert [r.reason for r in again.results if r.reason] == [
        "memory://photos/more/bad.png: is not a picture that can be read"
    ]
    assert upscale_folder("memory://photos/more", tmp_path / "down", model, FLOAT).count("done") == 2
    assert contents(tmp_path / "down")["g_x4.png"] == there["more/g_x4.png"]
    memory.store.clear()


def test_a_folder_without_pictures_is_refused(model, tmp_path):
    with pytest.raises(PlaceError, match="without pictures"):
        upscale_folder(tmp_path, tmp_path / "out", model)
    assert upscale_jobs([], model).results == ()


def test_the_worst_picture_is_named(photos, model, tmp_path):
    """A checkerboard of 0 and 255 has no pre-image."""
    board = np.uint8(255 * (np.indices((12, 12)).sum(0) % 2))
    Image.fromarray(board).save(photos / "board.png")
    whole = upscale_folder(photos / "more", tmp_path / "more", model, FLOAT)
    assert whole.reproduced == 1 and whole.sentence().endswith("give back 100 % of the input's samples")
    summary = upscale_folder(photos, tmp_path / "out", model, FLOAT)
    wrong = [round((1 - r.reproduced) * r.samples) for r in summary.results]
    assert summary.worst.source.endswith("board.png") and sum(wrong) > 0
    assert summary.reproduced == pytest.approx(1 - sum(wrong) / sum(r.samples for r in summary.results))
    assert f"(worst: {photos}/board.png, " in summary.sentence() and "give back 100 %" not in summary.sentence()


def start(arguments: list[str]) -> None:
    """In a process of its own: the command line."""
    import torch

    from sr_zoo.cli import main

    torch.set_num_threads(1)
    os._exit(main(arguments))


def test_killed_and_interrupted_runs_go_on_to_the_same_folder(photos, checkpoint, model, tmp_path):
    """Real processes, real signals, random moments."""
    for i in range(12):
        Image.fromarray(np.array(Image.open(photos / "e.png"))[i:]).save(photos / f"z{i}.png")
    seconds = upscale_folder(photos, tmp_path / "whole", model, FLOAT, recursive=True).seconds
    whole, out = contents(tmp_path / "whole"), tmp_path / "out"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sr_zoo.cli", "sr_zoo.folder", "sr_zoo.hub", "sr_zoo.methods", "tests.test_folder"])
    command = ["upscale", str(photos), "-o", str(out), "-r", "--skip-existing", "--precision", "float32", "-q"]
    command += ["--model", str(checkpoint)]
    cut, left = [], []
    for number in range(40):
        process = context.Process(target=start, args=(command,))
        process.start()
        before, deadline = len(contents(out)), time.monotonic() + 30
        # The first of its own is there: from then on, at any moment.
        while process.is_alive() and len(contents(out)) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random.uniform(0, seconds / 4))
        kind = signal.SIGKILL if number % 2 else signal.SIGINT
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, kind)
        process.join(30)
        files = contents(out)
        assert files == {name: whole[name] for name in files}, "a file is not whole"
        if process.exitcode == 0:
            break
        assert process.exitcode == (130 if kind == signal.SIGINT else -signal.SIGKILL)
        cut.append(kind)
        left.append(len(hidden(out)))
        assert kind == signal.SIGKILL or left[-1] == max([0, *left[:-1]]), "an interrupt left a temporary"
    assert files == whole and {signal.SIGINT, signal.SIGKILL} <= set(cut)
    assert upscale_folder(photos, out, model, FLOAT, recursive=True, skip_existing=True).count("skipped") == 21


def test_jobs_may_be_planned_apart(photos, model, tmp_path):
    """Files and folders together, as the command line takes them."""
    planned = plan([str(photos / "more"), str(photos / "a.png")], str(tmp_path / "out"), 4)
    assert upscale_jobs(planned.jobs, model, FLOAT).count("done") == 3
    assert sorted(contents(tmp_path / "out")) == ["a_x4.png", "f_x4.png", "g_x4.png"]
