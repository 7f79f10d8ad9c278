"""A folder of damaged and hostile files through ``sr-zoo upscale``: a line for each, whole pictures from the rest, an end."""

import os
import stat
import subprocess
import sys

from tests.hostile import HOSTILE


def test_a_folder_of_them(checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    bad, fine = set(), set()
    for name, (make, reason, _) in HOSTILE.items():
        path = tmp_path / "in" / name
        make(path)
        # Drawings are no pictures; what becomes of pipes and links in a folder is not what this is about.
        other = path.suffix in ("", ".svg", ".eps")
        if other or not os.path.isfile(path) or not stat.S_ISREG(os.stat(path).st_mode):
            continue
        (fine if reason is None or (name == "unreadable.png" and os.getuid() == 0) else bad).add(name)
    assert len(bad) >= 40
    command = [sys.executable, "-m", "sr_zoo", "upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", checkpoint]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    reported = [line.split("/in/")[1].split(":")[0] for line in lines if line.startswith("sr-zoo: ") and "/in/" in line]
    assert not bad - set(reported), bad - set(reported)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(made) == len(fine) and not [name for name in made if name.startswith(".")]
    assert f"{len(fine)} pictures upscaled" in done.stdout and f"{len(set(reported) - fine)} failed" in done.stdout
