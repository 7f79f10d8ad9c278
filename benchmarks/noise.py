"""What believing a noisy input less is worth: ``python -m benchmarks.noise --data PHOTOS [--quick]``.

LR pictures with Gaussian noise (σ in 8-bit levels) or JPEG artefacts (quality) go through a model; Y-PSNR of the saved picture against
HR, means over the middle 256×256 pixels of each photo:

- ``ridge``: the network's ỹ is taken as it is and Π is regularised, y + Aᵀ(AAᵀ + εI)⁻¹(x − A y), from hard (ε = 0) to nearly free.
  ``visible_error`` is τ, the standard deviation of A ỹ against the clean LR picture in levels: what the rule ε = σ² / τ² would need;
- ``noise_level``: input and Π as ``model.see_through(noise_level=…)`` has them; with LR-PSNR of the float output against the noisy
  input, and the share of its samples that the saved picture gives back.

Writes benchmarks/results/noise.json. The rule is chosen here, on validation pictures.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import sr_zoo
from benchmarks.common import RESULTS, parsed, write_json
from sr_zoo import metrics
from sr_zoo.operators import Downsampler
from sr_zoo.picture import find_pictures, read_picture
from sr_zoo.tiles import run_network

SIDE = 256
INPUTS = [("clean", 0), ("noise", 2), ("noise", 5), ("noise", 10), ("noise", 20), ("jpeg", 90), ("jpeg", 70), ("jpeg", 50)]
RIDGES = [0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0]
LEVELS = [0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="PHOTOS", help="folder of photos that no model was trained on")
    parser.add_argument("--model", default="affmse-x4", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS / "noise.json", metavar="FILE.json")
    parser.add_argument("--quick", action="store_true", help="two drawn pictures: only to see that it runs; needs no photos")
    options = parsed(parser)
    if options.data is None and not options.quick:
        raise SystemExit("--data: give a folder of photos (or --quick, which needs none)")
    model = sr_zoo.load(options.model)
    pictures = drawn() if options.quick else [_tensor(read_picture(p)) for p in find_pictures(options.data)]
    pictures = [middle(p, 64 if options.quick else SIDE, model.scale) for p in pictures]
    rows = [measure(model, pictures, kind, amount) for kind, amount in INPUTS]
    write_json(options.output, {"model": options.model, "pictures": len(pictures), "inputs": rows})
    for row in rows:
        print(f"{row['kind']} {row['amount']}: τ {row['visible_error']:.1f}")
        print("  ridge       " + "  ".join(f"{r['ridge']:g}: {r['psnr']:.2f}" for r in row["ridge"]))
        print("  noise level " + "  ".join(f"{r['level']:g}: {r['psnr']:.2f}" for r in row["noise_level"]))


@torch.inference_mode()
def measure(model, pictures: list[Tensor], kind: str, amount: float) -> dict:
    """One row: a kind of damage, its amount, and every ridge and noise level."""
    operator = model.downsampler
    cleans = [metrics.round_clip(operator.A(hr)) for hr in pictures]
    inputs = [damaged(lr, kind, amount, seed) for seed, lr in enumerate(cleans)]
    raws = [model.inference_generator(lr / 255) for lr in inputs]
    squares = [float((255 * operator.A(raw) - lr).square().mean()) for raw, lr in zip(raws, cleans)]

    def figures(pairs) -> dict:
        found = []
        for sr, lr, hr in pairs:
            saved = metrics.quantize(sr)
            found.append(
                [float(metrics.psnr_y(saved, hr, model.scale)), float(metrics.lr_psnr(sr, lr / 255, operator)),
                 float(metrics.reproduced(saved, lr, operator))]
            )  # fmt: skip
        return dict(zip(("psnr", "lr_psnr", "reproduced"), np.mean(found, 0).tolist()))

    ridges, levels = [], []
    for ridge in RIDGES:
        regularised = Downsampler(operator.kernel, model.scale, ridge)
        srs = (regularised.project(raw, lr / 255) for raw, lr in zip(raws, inputs))
        ridges.append({"ridge": ridge, **figures(zip(srs, inputs, pictures))})
    for level in LEVELS:
        seeing = model.see_through(noise_level=level)
        srs = (run_network(seeing, lr / 255, "float32") for lr in inputs)
        levels.append({"level": level, **figures(zip(srs, inputs, pictures))})
    return {"kind": kind, "amount": amount, "visible_error": float(np.sqrt(np.mean(squares))), "ridge": ridges,
            "noise_level": levels}  # fmt: skip


def damaged(lr: Tensor, kind: str, amount: float, seed: int) -> Tensor:
    """The LR picture ``(1, 3, h, w)`` of 8-bit values as a camera or a JPEG file would have it."""
    if kind == "noise":
        random = torch.Generator().manual_seed(seed)
        return metrics.round_clip(lr + amount * torch.randn(lr.shape, generator=random))
    if kind == "jpeg":
        file = io.BytesIO()
        Image.fromarray(lr[0].permute(1, 2, 0).byte().numpy()).save(file, "JPEG", quality=int(amount))
        return _tensor(np.array(Image.open(file)))
    return lr


def drawn() -> list[Tensor]:
    y, x = np.mgrid[:64, :64]
    return [
        _tensor(np.uint8(np.stack([128 + 90 * np.sin((x + k * y) / 9), 3 * x, 255 * (x // 16 % 2)], -1))) for k in (1, 2)
    ]


def middle(picture: Tensor, side: int, multiple: int) -> Tensor:
    """At most ``side`` pixels of it either way, by ``multiple``."""
    height, width = (min(n, side) // multiple * multiple for n in picture.shape[-2:])
    top, left = ((n - cut) // 2 for n, cut in zip(picture.shape[-2:], (height, width)))
    return picture[..., top : top + height, left : left + width]


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()


if __name__ == "__main__":
    main()
