"""The README's pictures: ``python -m benchmarks.figure``.

astronaut.png: a crop of the example, upscaled by a network without projection and by one with it. methods.png: crops of two examples,
upscaled by every method whose weights ship, beside the truth. samples.json: how much the pictures of several seeds differ.
checkpoints/*/before_after.png: a crop for each model card. With ``--output DIR`` all of them go there.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import sr_zoo
from benchmarks.common import RESULTS, ROOT, write_json
from benchmarks.experiment import sheet
from sr_zoo import metrics
from sr_zoo.benchmark import Bicubic
from sr_zoo.card import BEFORE_AFTER
from sr_zoo.engine import Spread, upscale_array
from sr_zoo.errors import percent
from sr_zoo.picture import read_picture
from sr_zoo.rounding import to_bytes
from sr_zoo.tiles import run_network

EXAMPLES, SCALE = ROOT / "examples", 4
METHODS = ("mse-x4", "affmse-x4", "softgan-x4", "affgan-x4", "affdae-x4", "affll-x4")
# picture, left, top and side of its crops, in LR pixels
CROPS = (("chelsea", 32, 17, 24), ("chelsea", 60, 36, 24), ("astronaut", 46, 2, 24), ("astronaut", 34, 72, 24))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="DIR", help="write everything there, as results/ and checkpoints/")
    options = parser.parse_args()
    results, cards = (
        (options.output / n for n in ("results", "checkpoints")) if options.output else (RESULTS, ROOT / "checkpoints")
    )
    networks = {name: sr_zoo.load(name) for name in METHODS if (ROOT / "checkpoints" / name / "model.safetensors").is_file()}
    networks = {"bicubic": Bicubic(SCALE), **networks}
    lr = {name: read_picture(EXAMPLES / f"{name}.png") for name in ("astronaut", "chelsea")}
    truth = {name: read_picture(EXAMPLES / f"{name}_truth.webp") for name in lr}
    outputs = {(p, n): upscaled(lr[p], network) for p in lr for n, network in networks.items()}

    def row(picture: str, left: int, top: int, side: int, names) -> list[np.ndarray]:
        return crops(lr[picture], [outputs[picture, n][0] for n in names], truth[picture], (left, top, side), SCALE)

    first = ("bicubic", "mse-x4", "affmse-x4")
    titles = [f"{n}: {percent(outputs['astronaut', n][1])} given back" for n in first]
    sheet([row("astronaut", 34, 6, 40, first)], ["input", *titles, "truth"], results / "astronaut.png", 320)
    sheet([row(*crop, networks) for crop in CROPS], ["input", *networks, "truth"], results / "methods.png", 192)
    for model in sr_zoo.list_models():
        draw_card(sr_zoo.load(model["name"]), model["name"], truth["astronaut"], cards / model["name"] / BEFORE_AFTER)
    write_json(results / "samples.json", samples(lr["chelsea"], networks["affgan-x4"], 8))


def draw_card(network, name: str, truth: np.ndarray, path: Path) -> None:
    """A crop of what the network makes of the truth, reduced by its scale, beside bicubic."""
    scale = network.scale
    truth = truth[tuple(slice(n // scale * scale) for n in truth.shape[:2])]
    planes = torch.from_numpy(truth.copy()).permute(2, 0, 1)[None].float()
    lr = metrics.round_clip(network.downsampler.A(planes))[0].permute(1, 2, 0).byte().numpy()
    outputs = [upscaled(lr, n)[0] for n in (Bicubic(scale), network)]
    place = tuple(n * SCALE // scale for n in (34, 6, 40))
    sheet([crops(lr, outputs, truth, place, scale)], ["input", "bicubic", name, "truth"], path, 256)


def crops(lr: np.ndarray, outputs: list[np.ndarray], truth: np.ndarray, place: tuple[int, int, int], scale: int) -> list:
    """One place, left, top and side in LR pixels, of the input, of each output and of the truth."""
    left, top, side = place
    large = [x[scale * top : scale * (top + side), scale * left : scale * (left + side)] for x in (*outputs, truth)]
    return [lr[top : top + side, left : left + side], *large]


def upscaled(lr: np.ndarray, network) -> tuple[np.ndarray, float]:
    """The picture as a file would hold it, and the share of LR samples that it gives back; in one piece, as the benchmark does."""
    planes = torch.from_numpy(lr).permute(2, 0, 1)[None].float()
    saved = to_bytes(run_network(network, planes / 255, "float32"), planes, network.downsampler if network.exact else None)
    share = float(metrics.reproduced(saved, planes, network.downsampler))
    return saved[0].permute(1, 2, 0).byte().numpy(), share


def samples(lr: np.ndarray, model, count: int) -> dict:
    """Diversity of the seeds, in levels of 255, and the least share of LR samples that one of the pictures gives back."""
    spread, given_back = Spread(), 1.0
    for seed in range(count):
        done = upscale_array(lr, model, "float32", seed)
        spread.add(done.array)
        given_back = min(given_back, done.reproduced)
    return {"samples": count, "deviation": spread.deviation, "reproduced": given_back}


if __name__ == "__main__":
    main()
