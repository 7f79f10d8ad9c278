"""The paper's toy experiment, Table 1 and Figure 1: ``python -m benchmarks.swiss_roll [--quick] [--again]``.

Points y of a Swiss roll in the plane are seen as x = (y₁ + y₂)/2; ŷ(x) is learned by each method, with the objectives and
consistencies of the library. H is the cross-entropy −E log p(ŷ(x)) in nats under a Gaussian kernel density estimate (bandwidth 0.2,
50,000 points of the roll without noise), x drawn as in training; consistency is the mean of ‖x − A ŷ‖². Ten initialisations train
side by side as one batch of networks that share nothing but the data. A method that is done is kept in
benchmarks/results/swiss_roll.json and not trained again: the script goes on where it was stopped.

Stated by the paper: the data, the density, the widths of the networks, the denoiser's noise 0.5 → 0.25. Ours, as the paper is silent:
Adam, its rates, batch and steps, five steps of D for one of the generator, D's noise and the penalties' weights: see METHODS. The
GANs need a D that is ahead (500 steps alone, R1, a generator that is slower), and noise that is small from the start: then the
generator goes to the nearest arm of the roll; from large noise it settles between the arms.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from benchmarks.common import RESULTS, parsed, write_json
from sr_zoo.consistency import CONSISTENCIES
from sr_zoo.files import whole
from sr_zoo.objectives import OBJECTIVES
from sr_zoo.optimizers import scheduled

TRIALS, BATCH, EXTENT = 10, 256, 5.0  # EXTENT: the roll's size, by which networks see it scaled to about 1
BANDWIDTH, DENSITY_POINTS, TEST_POINTS = 0.2, 50_000, 2_000

# The generator's learning rate is 1e-3 unless said otherwise, the prior's 2e-3.
GAN = {
    "objective": {"name": "adversarial", "noise": 0.4, "noise_end": 0.15, "r1": 0.05},
    "steps": 6_000, "prior_steps": 5, "prior_start": 500, "learning_rate": 5e-4,
}  # fmt: skip
DAE = {"objective": {"name": "denoising", "noise": 0.5, "noise_end": 0.25}, "steps": 6_000, "prior_steps": 2}
SOFT = {"name": "soft", "weight": 1.0}
METHODS = {
    "MSE": {"consistency": "free", "objective": {"name": "regression"}, "steps": 4_000},
    "MAE": {"consistency": "free", "objective": {"name": "regression", "loss": "l1"}, "steps": 4_000},
    "AffGAN": {"consistency": "affine", **GAN},
    "SoftGAN": {"consistency": SOFT, **GAN},
    "AffDAE": {"consistency": "affine", **DAE},
    "SoftDAE": {"consistency": SOFT, **DAE},
}
# Table 1 of the paper: H and consistency.
PAPER = {"MAP": (3.15, None), "MSE": (9.10, 1.25e-2), "MAE": (6.30, 4.04e-2), "AffGAN": (4.10, 0.0),
         "SoftGAN": (4.25, 8.87e-2), "AffDAE": (3.81, 0.0), "SoftDAE": (4.19, 1.01e-1)}  # fmt: skip


class Average:
    """A y = (y₁ + y₂)/2 for points ``(…, 2)``, its pseudo-inverse and projection: the operator of this experiment."""

    exact = True

    def A(self, y: Tensor) -> Tensor:
        return y.mean(-1, keepdim=True)

    def pinv(self, x: Tensor) -> Tensor:
        return x.expand(*x.shape[:-1], 2)

    def project(self, y: Tensor, x: Tensor) -> Tensor:
        return y + self.pinv(x - self.A(y))


class Networks(nn.Module):
    """Fully connected networks, one for each trial: points ``(batch, trials, inputs)`` → ``(batch, trials, outputs)``."""

    def __init__(self, trials: int, *widths: int, unit: float = 1.0):
        super().__init__()
        self.unit = unit
        self.weights = nn.ParameterList(
            torch.empty(trials, a, b).uniform_(-1, 1) * math.sqrt(3 / a) * (math.sqrt(2) if a != widths[0] else 1)
            for a, b in itertools.pairwise(widths)
        )
        # Spread biases: the kinks of the first layer lie all over the data.
        self.biases = nn.ParameterList(torch.empty(trials, 1, b).uniform_(-1, 1) for b in widths[1:])

    def forward(self, points: Tensor, level: Tensor | None = None) -> Tensor:
        x = points.transpose(0, 1) / EXTENT
        if level is not None:
            x = torch.cat([x, level.transpose(0, 1).expand(*x.shape[:-1], 1)], -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, torch.relu(x) if i else x, weight)
        return (x * self.unit).transpose(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps and trials: only to see that it runs")
    parser.add_argument("--again", action="store_true", help="train all methods anew")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), help="these methods only")
    parser.add_argument("--output", type=Path, default=RESULTS / "swiss_roll.json")
    options = parsed(parser)
    trials, share = (2, 0.002) if options.quick else (TRIALS, 1.0)
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    rows, curves = kept.get("rows", {}), kept.get("curves", {})
    for name in (options.only or list(rows)) if options.again else ():
        rows.pop(name, None)
    density = Density(500 if options.quick else DENSITY_POINTS)
    torch.manual_seed(1)
    test = Average().A(roll(100 if options.quick else TEST_POINTS))
    line = torch.linspace(-8, 8, 401)[:, None]
    if "MAP" not in rows:
        rows["MAP"] = {"H": float(-density.log_prob(density.most_likely(test)).mean()), "H_std": 0.0, "consistency": 0.0}
        curves["MAP"] = density.most_likely(line).tolist()
    for name in options.only or METHODS:
        if name in rows and not options.only:
            continue
        settings = dict(METHODS[name])
        started = time.perf_counter()
        method = Method(settings.pop("consistency"), settings.pop("objective"), trials)
        steps = max(4, round(settings.pop("steps") * share))
        method.train_all(steps, name, **settings)
        # In float64, so that the projection's own rounding is not what is measured.
        sr = method(test.double()[:, None].expand(-1, trials, -1))
        entropy = -density.log_prob(sr).mean(0)
        error = (Average().A(sr) - test.double()[:, None]).square().mean((0, 2))
        rows[name] = {
            "H": float(entropy.mean()), "H_std": float(entropy.std()), "H_trials": entropy.tolist(),
            "consistency": float(error.mean()), "seconds": time.perf_counter() - started, "steps": steps,
        }  # fmt: skip
        curves[name] = method(line.double()[:, None].expand(-1, trials, -1))[:, 0].tolist()
        print(
            f"\r{name:<8} H {rows[name]['H']:.2f} ± {rows[name]['H_std']:.2f}  consistency {rows[name]['consistency']:.1e}",
            flush=True,
        )
        write_json(options.output, {"trials": trials, "rows": rows, "curves": curves})
    print(table(rows))
    draw(density, curves, options.output.with_suffix(".png"))


def table(rows: dict) -> str:
    lines = ["| | H, paper | H, here (mean ± std of ten) | consistency, paper | here |", "|---|---|---|---|---|"]
    for name, (entropy, error) in PAPER.items():
        if name in rows:
            r = rows[name]
            spread = f" ± {r['H_std']:.2f}" if r["H_std"] else ""
            stated = "" if error is None else f"{error:.2e}"
            lines.append(f"| {name} | {entropy:.2f} | {r['H']:.2f}{spread} | {stated} | {r['consistency']:.1e} |")
    return "\n".join(lines)


def roll(count: int, noise: float = 0.2) -> Tensor:
    """Points of the Swiss roll ``(count, 2)``."""
    angle = 10 + 3 * torch.randn(count)
    radius = 0.4 * angle + noise * torch.randn(count)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


class Method:
    """Generator × consistency × objective on points, all trials at once; called on x ``(batch, trials, 1)``."""

    def __init__(self, consistency, objective: dict, trials: int):
        torch.manual_seed(0)
        self.generator = Networks(trials, 1, 64, 64, 2, unit=EXTENT)
        self.consistency = CONSISTENCIES.build(consistency, Average())
        widths = {"adversarial": (2, 64, 64, 1), "denoising": (3, 256, 256, 2)}.get(objective["name"])
        own = {} if widths is None else {"network": Networks(trials, *widths)}
        self.objective = OBJECTIVES.build({**objective, **own})
        self.average = torch.optim.swa_utils.AveragedModel(
            self.generator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
        )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        return self.consistency(self.average.module(x.float()).to(x), x)

    def train_all(
        self, steps: int, name: str, prior_steps: int = 0, prior_start: int = 0, learning_rate: float = 1e-3
    ) -> None:
        optimizer = torch.optim.Adam(self.generator.parameters(), learning_rate, (0.5, 0.99))
        prior = torch.optim.Adam(self.objective.parameters(), 2e-3, (0.5, 0.99)) if prior_steps else None
        schedules = [torch.optim.lr_scheduler.LambdaLR(o, scheduled("cosine", 0, steps)) for o in (optimizer, prior) if o]
        for step in range(steps):
            self.objective.progress = step / steps
            for _ in range(prior_steps if step else prior_steps + min(prior_start, steps)):
                hr = self._points()
                with torch.no_grad():
                    sr = self._generate(hr)
                descend(prior, self.objective.fit(sr, hr))
            hr = self._points()
            sr, lr = self._generate(hr), self.consistency.downsampler.A(hr)
            descend(optimizer, self.objective(sr, hr, lr) + self.consistency.penalty(sr, lr))
            self.average.update_parameters(self.generator)
            for schedule in schedules:
                schedule.step()
            if step % 100 == 0:
                print(f"\r{name} {step}/{steps}", end="", flush=True)

    def _points(self) -> Tensor:
        trials = len(self.generator.weights[0])
        return roll(BATCH * trials).view(BATCH, trials, 2)

    def _generate(self, hr: Tensor) -> Tensor:
        x = self.consistency.downsampler.A(hr)
        return self.consistency(self.generator(x), x)


def descend(optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Density:
    """Kernel density estimate of the roll without noise."""

    def __init__(self, points: int):
        torch.manual_seed(2)
        self.points = roll(points, noise=0.0).double()

    def log_prob(self, y: Tensor) -> Tensor:
        """Nats at points ``(…, 2)``."""
        rows = []
        for chunk in y.double().reshape(-1, 2).split(500):
            # |a − b|² as |a|² + |b|² − 2 ab: one matrix product, and float64 has digits to spare.
            squares = torch.addmm(self.points.square().sum(-1), chunk, self.points.T, alpha=-2).add_(
                chunk.square().sum(-1, keepdim=True)
            )
            rows.append(torch.logsumexp(squares.div_(-2 * BANDWIDTH**2), -1))
        log = torch.cat(rows) - math.log(len(self.points) * 2 * math.pi * BANDWIDTH**2)
        return log.view(y.shape[:-1])

    def most_likely(self, x: Tensor) -> Tensor:
        """argmax p(y) on the line A y = x, by looking everywhere; ``(n, 1)`` → ``(n, 2)``.

        The density is tabulated over the plane once, at half its bandwidth, and read along each line.
        """
        if not hasattr(self, "_plane"):
            side = torch.linspace(-12, 12, 241, dtype=torch.float64)
            self._plane = self.log_prob(torch.cartesian_prod(side, side)).view(1, 1, 241, 241)
        along = torch.linspace(-12, 12, 961, dtype=torch.float64)
        lines = torch.stack([x.double() + along, x.double() - along], -1)
        at = lines.flip(-1) / 12  # grid_sample wants (column, row) in [-1, 1]
        values = nn.functional.grid_sample(self._plane, at[None], align_corners=True, padding_mode="border")[0, 0]
        return lines[torch.arange(len(x)), values.argmax(1)]


def draw(density: Density, curves: dict, path: Path) -> None:
    """Figure 1: the density in grey, ŷ(x) for x in [−8, 8] of each method over it."""
    size, extent = 260, 9.0
    side = torch.linspace(-extent, extent, size, dtype=torch.float64)
    y2, y1 = torch.meshgrid(side.flip(0), side, indexing="ij")
    p = density.log_prob(torch.stack([y1, y2], -1)).exp().numpy()
    grey = Image.fromarray((255 - 175 * np.sqrt(p / p.max())).astype(np.uint8)).convert("RGB")
    names = [n for n in PAPER if n in curves]
    sheet, font = Image.new("RGB", (len(names) * (size + 6) - 6, size + 24), "white"), ImageFont.load_default(15)
    for i, name in enumerate(names):
        panel = grey.copy()
        pen = ImageDraw.Draw(panel)
        for a, b in curves[name]:
            column, row = (a + extent) / (2 * extent) * (size - 1), (extent - b) / (2 * extent) * (size - 1)
            pen.ellipse((column - 1.5, row - 1.5, column + 1.5, row + 1.5), fill=(200, 30, 30))
        sheet.paste(panel, (i * (size + 6), 24))
        ImageDraw.Draw(sheet).text((i * (size + 6), 3), name, fill="black", font=font)
    with whole(path) as beside:
        sheet.save(beside, optimize=True)


if __name__ == "__main__":
    main()
