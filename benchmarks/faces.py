"""The paper's faces, 16×16 → 64×64, Table 2 and Figures 2 and 4: ``python -m benchmarks.faces --data FACES [--quick]``.

A is a Gaussian of σ = 1.09 (see learned_pinv.py), the last 1,000 faces are held out. Table 2: SSIM and PSNR in RGB (the paper does not
say in which colours) and on Y, and consistency, the mean of (x − A ŷ)² per LR sample in [0, 1]. Figure 2 asks whether the projection
hurts: none; A⁺ fixed; A⁺ learned along with the network, from the closed form cut to 5×5, and from random kernels.

FACES holds JPEG sheets of 16×16 faces of 64×64 pixels, in order. Pictures, weights and curves are kept in runs/faces: a run that
was stopped goes on where it was (``--again`` begins anew). Results: benchmarks/results/faces.json, faces.png, faces_curves.png.

The generator has as many convolutions as the paper's, 12, at a width of 64 instead of 128 to 512, the discriminator 32 to 256
instead of 128 to 1024, both without batch normalisation: what two cores can train. Optimiser, steps and noise are ours, as the
paper is silent.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import experiment
from benchmarks.common import write_json
from benchmarks.learned_pinv import SCALE, Learned, cut
from sr_zoo import MSE, AffGAN, AffMSE, Downsampler, SoftGAN, SRDataModule, metrics
from sr_zoo.consistency import CONSISTENCIES, Consistency
from sr_zoo.generators import Residual

KERNEL, HELD_OUT = "gaussian:1.09:9", 1000
NETWORK = {"name": "residual", "width": 64, "depth": 5}
REGRESSION = {"learning_rate": 1e-3, "optimizer": "muon"}
GAN = {
    "objective": {"network": {"name": "strided", "width": 32, "pairs": 4}, "noise": 0.004, "hold_above": 1.28, "r1": 3.0},
    "learning_rate": 5e-5, "prior_learning_rate": 5e-4, "prior_start": 300,
}  # fmt: skip
# Table 2: SSIM, PSNR, consistency. The paper's MSE is the network alone; ours starts from A⁺x.
PAPER = {
    "f alone": (0.90, 26.30, 8.0e-5), "MSE": (0.90, 26.30, 8.0e-5), "AffMSE": (0.91, 26.53, 1.6e-10),
    "SoftGAN": (0.76, 21.11, 2.3e-3), "AffGAN": (0.81, 23.02, 9.1e-10),
}  # fmt: skip


@CONSISTENCIES.register("raw")
class Raw(Consistency):
    """ŷ = ỹ: the generator has done it all."""

    def forward(self, raw: Tensor, lr: Tensor) -> Tensor:
        return raw.float()


class Along(nn.Module):
    """f(x) behind a projection whose A⁺, 16 kernels of 5×5 and a pixel shuffle, is learned along with f."""

    def __init__(self, closed_form: bool):
        super().__init__()
        self.downsampler = Downsampler(KERNEL, SCALE)
        self.network = Residual(SCALE, NETWORK["width"], NETWORK["depth"])
        self.inverse = (cut(self.downsampler) if closed_form else Learned("random", 0)).float()

    def forward(self, lr: Tensor) -> Tensor:
        raw = self.network(lr).float()
        missing = lr - self.downsampler.A(raw)
        with torch.autocast(lr.device.type, enabled=False):
            return raw + self.inverse(missing.flatten(0, 1)[:, None]).view(raw.shape)


def methods() -> dict:
    """Name → (what makes it, steps, batch, whose generator it starts from)."""
    common = {"scale": SCALE, "kernel": KERNEL}
    return {
        "MSE": (lambda: MSE(generator=NETWORK, **common, **REGRESSION), 4_000, 32, None),
        "f alone": (lambda: MSE(generator=NETWORK, consistency={"name": "raw"}, **common, **REGRESSION), 4_000, 32, None),
        "AffMSE": (lambda: AffMSE(generator=NETWORK, **common, **REGRESSION), 4_000, 32, None),
        "A⁺ along": (
            lambda: MSE(generator=Along(True), consistency={"name": "raw"}, **common, **REGRESSION),
            4_000,
            32,
            None,
        ),
        "A⁺ random": (
            lambda: MSE(generator=Along(False), consistency={"name": "raw"}, **common, **REGRESSION),
            4_000,
            32,
            None,
        ),
        "SoftGAN": (lambda: SoftGAN(generator=NETWORK, **common, **GAN), 4_000, 16, "MSE"),
        "AffGAN": (lambda: AffGAN(generator=NETWORK, **common, **GAN), 4_000, 16, "AffMSE"),
    }


def main() -> None:
    options = experiment.options("faces", __doc__, "folder of the sheets of faces")
    faces = drawn(40) if options.quick else read_faces(experiment.find_files(options.data, ("*.jpg",)))
    held = 8 if options.quick else HELD_OUT
    test = torch.from_numpy(faces[-held:]).permute(0, 3, 1, 2).float()
    folder = experiment.save_pictures(faces[:-held], options.runs / "train")
    models, rows = {}, {}
    for name, (make, steps, batch, start) in methods().items():
        data = SRDataModule(
            str(folder), batch_size=batch, crop_size=64, augment="mirror", cache_dir=str(options.runs / "cache")
        )
        steps = 4 if options.quick else steps
        curve = experiment.Curve(options.runs / name / "curve.json", lambda model: measure(model, test[:200]))
        # What the GANs do along the way is not Figure 2's question.
        models[name] = experiment.train(
            name, make, data, steps, options.runs, start=models.get(start), callbacks=() if start else (curve,)
        )
        rows[name] = {**measure(models[name], test), "steps": steps, "start": start,
                      "curve": None if start else curve.read()}  # fmt: skip
        write_json(options.output, {"kernel": KERNEL, "held_out": held, "rows": rows})
    print(table(rows), "\n", along(rows), sep="\n")
    draw_faces(models, test, options.output.with_suffix(".png"))
    draw_curves(rows, options.output.with_name(f"{options.output.stem}_curves.png"))


def table(rows: dict) -> str:
    """Table 2 as Markdown."""
    lines = ["| | SSIM, paper | here | PSNR, paper | here | SSIM, PSNR on Y | consistency, paper | here |", "|" + "---|" * 8]
    for name, (ssim, psnr, consistency) in PAPER.items():
        r = rows[name]
        title = TITLES.get(name, name)
        lines.append(
            f"| {title} | {ssim:.2f} | {r['ssim']:.3f} | {psnr:.2f} | {r['psnr']:.2f} | {r['ssim_y']:.3f}, {r['psnr_y']:.2f} "
            f"| {consistency:.1e} | {r['consistency']:.1e} |"
        )
    return "\n".join(lines)


def along(rows: dict) -> str:
    """Figure 2's question as Markdown: the figures at the end, and after 200 steps."""
    lines = ["| projection | SSIM | PSNR | PSNR after 200 steps | consistency |", "|" + "---|" * 5]
    for name, title in ARMS.items():
        if name not in rows:
            continue
        r = rows[name]
        early = {step: figures["psnr"] for step, figures in r["curve"]}.get(200)
        early = "" if early is None else f"{early:.2f}"
        lines.append(f"| {title} | {r['ssim']:.3f} | {r['psnr']:.2f} | {early} | {r['consistency']:.1e} |")
    return "\n".join(lines)


TITLES = {"f alone": "MSE, f(x)", "MSE": "MSE, A⁺x + f(x)"}
ARMS = {
    "f alone": "none, f(x) alone",
    "MSE": "none, A⁺x + f(x)",
    "AffMSE": "A⁺ fixed (closed form)",
    "A⁺ along": "A⁺ learned along, from the closed form",
    "A⁺ random": "A⁺ learned along, from random",
}


def read_faces(sheets: list[Path]) -> np.ndarray:
    """``(faces, 64, 64, 3)`` uint8, in order."""
    from sr_zoo.picture import read_picture

    rows = [read_picture(p).reshape(16, 64, 16, 64, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 64, 64, 3) for p in sheets]
    return np.concatenate(rows)


def drawn(count: int) -> np.ndarray:
    """Smooth random pictures."""
    small = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return small.repeat(8, 1).repeat(8, 2)


@torch.no_grad()
def measure(model, faces: Tensor) -> dict:
    """Means over faces ``(count, 3, 64, 64)`` of 0…255: as 8-bit files for PSNR and SSIM, the float output for consistency."""
    totals = {"ssim": 0.0, "psnr": 0.0, "ssim_y": 0.0, "psnr_y": 0.0, "consistency": 0.0}
    for hr in faces.split(100):
        lr = model.degrade(hr / 255)
        sr = model(lr)
        saved = metrics.quantize(sr)
        error = (saved - hr).double().square().mean((1, 2, 3))
        colours = (saved.flatten(0, 1)[:, None], hr.flatten(0, 1)[:, None])  # each on its own, as a grey picture
        totals["psnr"] += float((10 * torch.log10(255**2 / error)).sum())
        totals["ssim"] += float(metrics.ssim_y(*colours, border=0).sum()) / 3
        totals["psnr_y"] += float(metrics.psnr_y(saved, hr, 0).sum())
        totals["ssim_y"] += float(metrics.ssim_y(saved, hr, 0).sum())
        totals["consistency"] += float((model.downsampler.A(sr.double()) - lr).square().mean((1, 2, 3)).sum())
    return {name: total / len(faces) for name, total in totals.items()}


@torch.no_grad()
def draw_faces(models: dict, test: Tensor, path: Path) -> None:
    """A handful of held-out faces, as the paper's Figure 4."""
    rows = []
    for hr in test[:: max(1, len(test) // 5)][:5] / 255:
        lr = models["AffMSE"].degrade(hr[None])
        outputs = [models[name](lr)[0] for name in PAPER]
        rows.append([experiment.array(p) for p in (lr[0], models["AffMSE"].downsampler.pinv(lr)[0], *outputs, hr)])
    experiment.sheet(rows, ["x", "pinv x", *PAPER, "truth"], path, 128)


def draw_curves(rows: dict, path: Path) -> None:
    """Figure 2: SSIM and PSNR of held-out faces along the training, by kind of projection."""
    from matplotlib.figure import Figure

    figure = Figure((9, 3.2), layout="constrained")
    for axis, figure_name in zip(figure.subplots(1, 2), ("psnr", "ssim")):
        for name, title in ARMS.items():
            steps, figures = zip(*rows[name]["curve"])
            axis.plot([s + 1 for s in steps], [f[figure_name] for f in figures], label=title)
        axis.set(xlabel="step + 1", ylabel=figure_name.upper(), xscale="log")
    axis.legend(fontsize=7)
    with experiment.whole(path) as beside:
        figure.savefig(beside, dpi=90)


if __name__ == "__main__":
    main()
