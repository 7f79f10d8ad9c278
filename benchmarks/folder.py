"""A folder of small pictures at once beside the other ways to upscale it: ``python -m benchmarks.folder [--quick]``.

Writes benchmarks/results/folder.json. All in one run, as ratios:

- the command line on the folder beside the command line once for each picture;
- the folder in Python beside a loop over :func:`sr_zoo.upscale`, from files, and where each file takes a while to come and go;
- what batches would save, as a share of the processor time of the folder, and whether they give the same values: this settles
  that pictures go through the network one by one.

Rates and seconds are given for orientation only and mean nothing on another machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fsspec
import numpy as np
import torch
from fsspec.implementations.memory import MemoryFileSystem

import sr_zoo
from benchmarks.common import RESULTS, ROOT, parsed, write_json
from sr_zoo.folder import upscale_folder
from sr_zoo.picture import find_pictures, read_picture, write_picture
from sr_zoo.tiles import run_network

MODEL, SIZE, BATCH, LATENCY = "affmse-x4-fast", (48, 64), 8, 0.05


class Slow(MemoryFileSystem):
    """Files that take LATENCY seconds to come and to go, as from a bucket."""

    protocol = "slow"
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("slow://").strip("/")

    def get_file(self, *arguments, **options):
        time.sleep(LATENCY)
        super().get_file(*arguments, **options)

    def put_file(self, *arguments, **options):
        time.sleep(LATENCY)
        super().put_file(*arguments, **options)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "examples", help="folder to cut the small pictures from")
    parser.add_argument("--quick", action="store_true", help="few pictures, one repetition: only to see that it runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "folder.json")
    options = parsed(parser, arguments)
    count, singles, repeats = (8, 1, 1) if options.quick else (200, 10, 2)
    model = sr_zoo.load(MODEL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        crops = cut(options.photos, folder, count)
        results = {
            "model": MODEL, "pictures": count, "width": SIZE[1], "height": SIZE[0],
            "threads": torch.get_num_threads(), "cores": len(os.sched_getaffinity(0)), "torch": torch.__version__,
            "command_line": command_line(folder, singles),
            "python": python(model, folder, repeats),
            "slow_files": slow_files(model, folder, min(count, 40)),
            "batches": batches(model, folder, crops, repeats),
        }  # fmt: skip
    for name, value in results.items():
        print(f"{name}: {value}")
    write_json(options.output, results)


def cut(photos: Path, folder: Path, count: int) -> np.ndarray:
    """Small pictures at random places of the photos in turn, every second one as JPEG; returns them as saved losslessly."""
    from PIL import Image

    random, large, crops = np.random.default_rng(0), [read_picture(p) for p in find_pictures(photos)], []
    large = [p for p in large if p.shape[0] >= SIZE[0] and p.shape[1] >= SIZE[1]]
    folder.mkdir()
    for i in range(count):
        photo = large[i % len(large)]
        y, x = (random.integers(0, have - want + 1) for have, want in zip(photo.shape, SIZE))
        crops.append(photo[y : y + SIZE[0], x : x + SIZE[1]])
        if i % 2:
            Image.fromarray(crops[-1]).save(folder / f"{i:03}.jpg", quality=90)
        else:
            write_picture(folder / f"{i:03}.png", crops[-1])
    return np.stack(crops)


def command_line(folder: Path, singles: int) -> dict:
    """Each call is a process of its own: what starting it costs is paid once for the folder and once for each picture."""
    command = [sys.executable, "-m", "sr_zoo", "upscale", "--model", MODEL, "-o"]
    out, pictures = str(folder.parent / "command"), find_pictures(folder)
    started = time.perf_counter()
    subprocess.run([*command, out, str(folder)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    whole, times = time.perf_counter() - started, []
    for i in range(singles):
        started = time.perf_counter()
        subprocess.run([*command, f"{out}/{i}.png", str(pictures[i])], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    each = statistics.median(times)
    return {
        "folder_pictures_per_second": len(pictures) / whole, "single_pictures_per_second": 1 / each, "calls_measured": singles,
        "ratio": each * len(pictures) / whole,
    }  # fmt: skip


def python(model, folder: Path, repeats: int) -> dict:
    pictures, out = find_pictures(folder), folder.parent / "python"
    out.mkdir()

    def loop() -> None:
        for path in pictures:
            sr_zoo.upscale(path, model).save(out / f"{path.stem}_x4.png")

    single, whole = timed(repeats, time.perf_counter, loop, lambda: upscale_folder(folder, out, model))
    return {
        "folder_pictures_per_second": len(pictures) / whole, "loop_pictures_per_second": len(pictures) / single,
        "ratio": single / whole,
    }  # fmt: skip


def slow_files(model, folder: Path, count: int) -> dict:
    """The loop waits for every file, the folder for few."""
    fsspec.register_implementation("slow", Slow, clobber=True)
    files, names = fsspec.filesystem("slow"), sorted(p.name for p in folder.iterdir())[:count]
    for name in names:
        files.pipe(f"/in/{name}", (folder / name).read_bytes())
    started = time.perf_counter()
    for name in names:
        local = folder.parent / name
        files.get_file(f"/in/{name}", str(local))
        sr_zoo.upscale(local, model).save(folder.parent / "done.png")
        files.put_file(str(folder.parent / "done.png"), f"/loop/{name}.png")
    middle = time.perf_counter()
    summary = upscale_folder("slow://in", "slow://out", model)
    assert summary.count("done") == count, summary.sentence()
    whole = time.perf_counter() - middle
    return {"seconds_each_way": LATENCY, "pictures": count, "ratio": (middle - started) / whole}


def batches(model, folder: Path, crops: np.ndarray, repeats: int) -> dict:
    """In processor time, which other work on the machine does not change."""
    lr = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255

    def run(size: int) -> torch.Tensor:
        return torch.cat([run_network(model, part) for part in lr.split(size)])

    def whole() -> None:
        upscale_folder(folder, folder.parent / "whole", model)

    single, together, everything = timed(repeats, time.process_time, lambda: run(1), lambda: run(BATCH), whole)
    return {
        "size": BATCH, "network_ratio": single / together, "would_save": (single - together) / everything,
        "same_values": torch.equal(run(1), run(BATCH)),
    }  # fmt: skip


def timed(repeats: int, clock, *functions) -> list[float]:
    """Median seconds of each, run in turn so that a machine that slows down slows all alike."""
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times):
            started = clock()
            function()
            taken.append(clock() - started)
    return [statistics.median(t) for t in times]


if __name__ == "__main__":
    main()
