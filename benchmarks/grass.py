"""The paper's grass, ×4, Figure 3: ``python -m benchmarks.grass --data GRASS [--quick]``.

A is the faces' Gaussian. Each photo's left three quarters are for training, squares of its right quarter are held out; a density and a
denoiser of grass are trained first, alone, on the same area. For every method: PSNR and SSIM on Y, consistency (mean of (x − A ŷ)²
per LR sample in [0, 1]), the density's bits per dimension of its output at 8 bits (of the truth: with dequantisation noise), and how
far its radial power spectrum is from the truth's: root mean square of the difference in dB over the rings above the Nyquist frequency
of the LR picture, where everything is invented.

Pictures and weights are kept in runs/grass: a run that was stopped goes on where it was (``--again`` begins anew). Results:
benchmarks/results/grass.json, grass.png (columns of the paper's figure), grass_spectrum.png.

Stated by the paper: six convolutions (32 to 128), D of strided ones 32 … 256, denoiser of four layers of 128, density of four layers
of 64 with 32 components. Here: eight convolutions of 48, D 32 … 128, a denoiser of ten layers of 64, the paper's density. Optimiser,
steps and noise are ours, as the paper is silent.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import experiment
from benchmarks.common import write_json
from sr_zoo import MSE, AffDAE, AffGAN, AffLL, AffMSE, SoftGAN, SRDataModule, metrics
from sr_zoo.objectives.densities import dequantise, to_bits

SCALE, KERNEL, SIDE, RINGS = 4, "gaussian:1.09:9", 192, 32
COMMON = {"scale": SCALE, "kernel": KERNEL, "generator": {"name": "residual", "width": 48, "depth": 3}}
MUON = {"optimizer": "muon", "learning_rate": 1e-3}
GAN = {
    **COMMON, "learning_rate": 5e-5, "prior_learning_rate": 5e-4, "prior_start": 300,
    "objective": {"network": {"name": "strided", "width": 32, "pairs": 3}, "noise": 0.004, "hold_above": 1.28, "r1": 3.0},
}  # fmt: skip
DENOISING = {"noise": 0.2, "noise_end": 0.01, "perturb": True}
FOLLOW = {"prior_steps": 0, "learning_rate": 1e-4, "warmup_steps": 50}  # the prior stays as it was trained
ALONE = 10**9  # the generator never moves


def trainings(share: float) -> dict:
    """Name → (what makes it, steps, batch, crop, whose generator and whose prior it starts from)."""

    def steps(count: int) -> int:
        return max(4, round(count * share))

    return {
        "MSE": (lambda: MSE(**COMMON, **MUON), steps(2000), 32, 64, None, None),
        "AffMSE": (lambda: AffMSE(**COMMON, **MUON), steps(2000), 32, 64, None, None),
        "SoftGAN": (lambda: SoftGAN(**GAN), steps(2500), 16, 64, "MSE", None),
        "AffGAN": (lambda: AffGAN(**GAN), steps(2500), 16, 64, "AffMSE", None),
        "denoiser": (
            lambda: AffDAE(**COMMON, **MUON, objective=DENOISING, prior_start=ALONE), steps(1000), 16, 64, None, None
        ),
        "AffDAE": (lambda: AffDAE(**COMMON, objective=DENOISING, **FOLLOW), steps(500), 16, 64, "AffMSE", "denoiser"),
        "density": (
            lambda: AffLL(**COMMON, prior_start=ALONE, learning_rate=1e-3), steps(400), 8, 48, None, None
        ),
        "AffLL": (lambda: AffLL(**COMMON, **FOLLOW), steps(150), 8, 48, "AffMSE", "density"),
    }  # fmt: skip


COLUMNS = ("AffMSE", "AffGAN", "SoftGAN", "AffDAE", "AffLL")


def main() -> None:
    options = experiment.options("grass", __doc__, "folder of photos of grass")
    known, test = split(noise() if options.quick else read_photos(options.data), 64 if options.quick else SIDE)
    folder = experiment.save_pictures(known, options.runs / "train")
    models = {}
    for name, (make, steps, batch, crop, start, prior) in trainings(0.0 if options.quick else 1.0).items():
        data = SRDataModule(str(folder), batch_size=batch, crop_size=crop, cache_dir=str(options.runs / "cache"))
        models[name] = experiment.train(
            name, make, data, steps, options.runs, start=models.get(start), prior=models.get(prior)
        )
    density = models["density"].objective.density.eval()
    lr = models["AffMSE"].degrade(test / 255)
    with torch.no_grad():
        outputs = {"A⁺x": models["AffMSE"].downsampler.pinv(lr)}
        outputs |= {name: models[name](lr) for name in ("MSE", *COLUMNS)} | {"truth": test / 255}
    rows = {}
    for name, sr in outputs.items():
        rows[name] = measure(sr, lr, test, models["AffMSE"].downsampler, density, noisy=name == "truth")
        print(f"\rmeasured {name:<8}", end="", flush=True)
    write_json(options.output, {"kernel": KERNEL, "squares": len(test), "rows": rows})
    print("\n" + table(rows))
    draw(outputs, lr, options.output.with_suffix(".png"))
    draw_spectra(rows, options.output.with_name(f"{options.output.stem}_spectrum.png"))


def table(rows: dict) -> str:
    lines = ["| | PSNR | SSIM | consistency | bits per dimension | spectrum, dB from the truth's |", "|" + "---|" * 6]
    for name, r in rows.items():
        quality = f"{r['psnr']:.2f} | {r['ssim']:.3f} | {r['consistency']:.1e}" if name != "truth" else " | | "
        distance = f"{r['spectrum_distance']:.1f}" if name != "truth" else ""
        lines.append(f"| {name} | {quality} | {r['bits']:.2f} | {distance} |")
    return "\n".join(lines)


def read_photos(folder: Path | None) -> list[np.ndarray]:
    from sr_zoo.picture import read_picture

    return [read_picture(p) for p in experiment.find_files(folder, ("*.jpg", "*.webp", "*.png"))]


def noise() -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (128, 320, 3), dtype=np.uint8) for i in range(2)]


def split(photos: list[np.ndarray], side: int) -> tuple[list[np.ndarray], Tensor]:
    """The left three quarters of each, and squares that tile its right quarter, ``(squares, 3, side, side)`` of 0…255."""
    known, squares = [], []
    for photo in photos:
        height, width = photo.shape[:2]
        edge = width * 3 // 4
        known.append(np.ascontiguousarray(photo[:, :edge]))
        squares += [
            photo[top : top + side, left : left + side]
            for top in range(0, height - side + 1, side)
            for left in range(edge, width - side + 1, side)
        ]
    return known, torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float()


@torch.no_grad()
def measure(sr: Tensor, lr: Tensor, hr: Tensor, downsampler, density, noisy: bool) -> dict:
    saved = metrics.quantize(sr)
    spectrum, truth = (metrics.power_spectrum(p).mean(0) for p in (saved, hr))
    above = torch.arange(RINGS) >= RINGS // SCALE
    torch.manual_seed(0)
    values = [density.conditionals(dequantise(p) if noisy else p).mean() for p in sr.split(2)]
    return {
        "psnr": float(metrics.psnr_y(saved, hr, SCALE).mean()),
        "ssim": float(metrics.ssim_y(saved, hr, SCALE).mean()),
        "consistency": float((downsampler.A(sr.double()) - lr).square().mean()),
        "bits": float(to_bits(-torch.stack(values).mean())),
        "spectrum": spectrum.tolist(),
        "spectrum_distance": float((10 * torch.log10(spectrum / truth))[above].square().mean().sqrt()),
    }


def draw(outputs: dict, lr: Tensor, path: Path) -> None:
    """Columns of the paper's Figure 3: the input, what each method makes of it, the truth."""
    rows = []
    for i in range(0, len(lr), max(1, len(lr) // 4))[:4]:
        middle = [p[i][:, 32:128, 32:128] for p in (outputs[n] for n in ("A⁺x", *COLUMNS, "truth"))]
        rows.append([experiment.array(p) for p in (lr[i][:, 8:32, 8:32], *middle)])
    experiment.sheet(rows, ["x", "pinv x", *COLUMNS, "truth"], path, 192)


def draw_spectra(rows: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6, 3.6), layout="constrained")
    axis = figure.subplots()
    frequency = (torch.arange(RINGS) + 0.5) / (2 * RINGS)
    for name, r in rows.items():
        axis.semilogy(frequency, r["spectrum"], label=name, color="black" if name == "truth" else None)
    axis.axvline(0.5 / SCALE, color="grey", linestyle=":")
    axis.set(xlabel="cycles per pixel (dotted: Nyquist of the LR picture)", ylabel="power of Y")
    axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    with experiment.whole(path) as beside:
        figure.savefig(beside, dpi=90)


if __name__ == "__main__":
    main()
