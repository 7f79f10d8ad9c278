"""Files that mean harm: one line or the right picture, quickly, at little memory; a failed saving leaves nothing behind."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from sr_zoo.picture import Picture, PictureError, open_picture, save_picture
from tests.hostile import HOSTILE, pixels

SUFFIXES = (".png", ".tif", ".webp", ".avif", ".jpg", ".bmp")
# Opens every file of a folder; prints name → seconds, memory in MiB that it took at most so far, and the error, if any.
OPEN_ALL = """
import json, os, re, sys, time
from sr_zoo.picture import PictureError, open_picture
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
open_picture(sys.argv[2])
before, told = peak(), {}
for name in sorted(os.listdir(sys.argv[1])):
    started, error = time.perf_counter(), None
    try:
        open_picture(os.path.join(sys.argv[1], name))
    except PictureError as caught:
        error = str(caught)
    told[name] = time.perf_counter() - started, peak() - before, error
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name, (make, *_) in HOSTILE.items():
        make(folder / name)
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_or_the_right_picture(name, files):
    _, reason, note = HOSTILE[name]
    if name == "unreadable.png" and os.getuid() == 0:
        pytest.skip("nothing is unreadable to root")
    path = files / name
    if reason is None:
        picture = open_picture(path)
        assert np.abs(picture.colours.astype(int) - pixels()).max() <= 5 * (path.suffix == ".jpg") and picture.alpha is None
        assert note is None or sum(note in told for told in picture.notes) == len(picture.notes) == 1
    else:
        with pytest.raises(PictureError) as error:
            open_picture(path)
        text = str(error.value)
        assert (
            text.startswith(f"{path}: ")
            and re.search(reason, text)
            and "\n" not in text
            and len(text) < len(str(path)) + 160
        )


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from Linux' /proc")
def test_none_hangs_swells_or_prints(files):
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL, str(files), str(files / "no-end.png")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]
    told = json.loads(done.stdout)
    assert len(told) >= 60
    for name, (seconds, mebibytes, _) in told.items():
        # The largest is a damaged JPEG of 9000×9000, which takes 232 MiB as far as it is decoded.
        assert seconds < 5 and mebibytes < 300, (name, seconds, mebibytes)


def test_the_limit_can_be_lifted_and_lowered(tmp_path):
    save_picture(tmp_path / "p.png", Picture(pixels()))
    with pytest.raises(PictureError, match=r"64×48 are more than 0.003 megapixels .* raise max_pixels"):
        open_picture(tmp_path / "p.png", max_pixels=3000)
    assert open_picture(tmp_path / "p.png", max_pixels=64 * 48).size == (64, 48)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing_but_the_old_file(suffix, tmp_path):
    """A limit on the size of files stands for a full disk: writing fails midway, and says so."""
    target = tmp_path / f"p{suffix}"
    target.write_bytes(b"old")
    script = (
        "import resource, signal, sys, numpy as np; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from sr_zoo.picture import Picture, PictureError, save_picture\n"
        "noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: save_picture(sys.argv[1], Picture(noise))\n"
        "except PictureError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True)
    assert done.stdout == f"{target}: cannot be written (File too large)\n" and not done.stderr, done.stderr[-500:]
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_memory_for_the_encoder_is_one_line(suffix, tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("sr_zoo.encoding._as_image", full)
    with pytest.raises(PictureError, match="not enough memory"):
        save_picture(tmp_path / f"p{suffix}", Picture(pixels()))
    assert not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    places = ["/proc/p.png", "/dev/null/p.png"] + [str(closed / "p.png")] * (os.getuid() != 0)
    for place in places:
        with pytest.raises(PictureError, match=rf"^{place}: cannot be written \([^\n]+\)$"):
            save_picture(place, Picture(pixels()))
    assert not os.listdir(closed)


# Saves and reads a mapped picture of 6000×6000 under a limit on what memory the process may get: sys.argv[2] MiB to save, and
# as much beside the 103 MiB of the decoded picture to read.
SAVE_AND_READ = """
import re, resource, sys
import numpy as np
from sr_zoo.picture import Picture, open_picture, save_picture
path, spare = sys.argv[1], int(sys.argv[2])
def limit(mebibytes):
    used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + mebibytes * 2**20, -1))
save_picture(path, Picture(np.zeros((900, 900, 3), np.uint8)))
open_picture(path)
array = np.memmap(path + ".raw", np.uint8, "w+", shape=(6000, 6000, 3))
array[::97] = 7
limit(spare)
save_picture(path, Picture(array))
limit(spare + 104)
read = open_picture(path)
assert read.colours.shape == (6000, 6000, 3) and (read.colours[97] == 7).all() and not read.colours[98].any()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is limited by means of Linux")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_large_picture_is_never_there_twice(suffix, tmp_path):
    command = [sys.executable, "-c", SAVE_AND_READ, str(tmp_path / f"p{suffix}"), "90"]
    # Each thread of libvips has buffers of its own.
    one = {**os.environ, "VIPS_CONCURRENCY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one)
    assert done.returncode == 0, done.stderr[-500:]
