"""A large picture at bounded memory: ``python -m benchmarks.large [--side 4096]``; writes benchmarks/results/large.json.

A picture of side × side pixels, made of a photo of the examples, goes through ``sr-zoo upscale`` in a process of its own, whose peak
of resident memory is read when it has ended; the file is then read back row by row by libvips and downsampled in strips.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, ROOT, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="of the picture that is upscaled (default: %(default)s)")
    parser.add_argument("--model", default="affmse-x4", help="(default: %(default)s)")
    parser.add_argument("--format", default="png", help="png or tif (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "large.json")
    options = parser.parse_args()
    row = run(options.side, options.model, options.format)
    print(row)
    write_json(options.output, row)


def run(side: int, model: str, suffix: str) -> dict:
    import torch

    from sr_zoo.engine import measure
    from sr_zoo.hub import load
    from sr_zoo.picture import open_picture

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "large.png", Path(folder) / f"larger.{suffix}"
        make(source, side)
        command = [sys.executable, "-m", "sr_zoo", "upscale", str(source), "-o", str(target), "--model", model]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            printed = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)  # what this process took, whatever others did
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        seconds, peak = time.perf_counter() - started, used.ru_maxrss * 1024
        print(printed.strip().replace(folder, ""))
        network = load(model)
        saved = open_picture(target, max_pixels=2**62)
        samples, share, psnr = measure(saved, open_picture(source), network)
    return {
        "model": model, "size": [side, side], "saved_size": list(saved.size), "format": suffix, "peak_bytes": peak,
        "saved_samples_bytes": saved.colours.nbytes, "seconds": seconds, "threads": torch.get_num_threads(),
        "samples": samples, "reproduced": share, "lr_psnr_8bit": psnr,
    }  # fmt: skip


def make(path: Path, side: int) -> None:
    """A photo and its mirror images side by side, so that no edge is sharper than in a photo, shaded from corner to corner."""
    from sr_zoo.picture import read_picture, write_picture

    photo = read_picture(ROOT / "examples" / "astronaut_truth.webp")
    four = np.hstack([photo, photo[:, ::-1]])
    four = np.vstack([four, four[::-1]])
    tiles = -(-side // len(four))
    rows = np.tile(four, (tiles, tiles, 1))[:side, :side]
    for top in range(0, side, 256):
        shade = 1 - np.add.outer(np.arange(top, min(side, top + 256)), np.arange(side)) / (4 * side)
        rows[top : top + 256] = rows[top : top + 256] * shade[..., None]
    write_picture(path, rows)


if __name__ == "__main__":
    main()
