"""Generators compared at equal training time: ``python -m benchmarks.generators --train PHOTOS --val HELD_OUT [--seconds 1800]``.

AffMSE ×4 with each network of a size, each trained for the same number of seconds on the same crops in the same order: steps are
timed before, so that the learning rate reaches 0 when the time is up. Then Y-PSNR on the held-out pictures, multi-adds for an output
of 1280×720, and seconds per megapixel of that output on the processor in bf16 and float32, network and projection, all networks in
turn in one run.

--networks fast   about a tenth of the multi-adds of the largest here (the default)
--networks base   what a processor computes about as fast as networks of others that are known for their speed, and the largest;
                  made for a GPU (--accelerator gpu)

A run that was stopped goes on where it was (--again begins anew); so figures of a GPU, brought back in --runs, are completed here by
the speed of this machine's processor. Results: benchmarks/results/generators/NETWORKS.json, NETWORKS.png.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import experiment
from benchmarks.common import RESULTS, ROOT, parsed, write_json
from benchmarks.speed import medians
from sr_zoo import AffMSE, SRDataModule
from sr_zoo.descent import TrainingDiverged
from sr_zoo.files import whole
from sr_zoo.tiles import bf16_is_fast, run_network
from sr_zoo.training import Graphed

SCALE = 4
NETWORKS = {
    "fast": {
        "residual 32×5": {"name": "residual", "width": 32, "depth": 5},
        "wider 40×3": {"name": "residual", "width": 40, "depth": 3},
        "deeper 24×10": {"name": "residual", "width": 24, "depth": 10},
        "SiLU 32×5": {"name": "residual", "width": 32, "depth": 5, "activation": "silu"},
        "PReLU 32×5": {"name": "residual", "width": 32, "depth": 5, "activation": "prelu"},
        "reparameterised 32×5": {"name": "reparameterised", "width": 32, "depth": 5},
        "attention 32×5": {"name": "attention", "width": 32, "depth": 5},
        "channel attention 32×5": {"name": "channel_attention", "width": 32, "depth": 5},
        "depthwise 48×7": {"name": "depthwise", "width": 48, "depth": 7},
        "gated 32×7": {"name": "gated", "width": 32, "depth": 7},
    },
    "base": {
        "residual 64×10": {"name": "residual", "width": 64, "depth": 10},
        "residual 64×16": {"name": "residual", "width": 64, "depth": 16},
        "deeper 48×18": {"name": "residual", "width": 48, "depth": 18},
        "wider 80×6": {"name": "residual", "width": 80, "depth": 6},
        "attention 64×10": {"name": "attention", "width": 64, "depth": 10},
        "reparameterised 64×10": {"name": "reparameterised", "width": 64, "depth": 10},
        "channel attention 64×10": {"name": "channel_attention", "width": 64, "depth": 10},
        "PReLU 64×10": {"name": "residual", "width": 64, "depth": 10, "activation": "prelu"},
        "gated 64×13": {"name": "gated", "width": 64, "depth": 13},
    },
}
# Crops in a batch and their side: a GPU is not filled by what a processor is.
CROPS = {"cpu": (16, 128), "gpu": (64, 192)}
TIMED = 40  # steps, of which the first half warms up


def main() -> None:
    with comparison(__doc__, "generators", tuple(NETWORKS)) as (options, cache):
        batch, crop = CROPS[options.accelerator]
        data = pictures(options, cache, batch, 64 if options.quick else crop)
        networks = chosen(NETWORKS, options)
        rows = {}
        for name, spec in networks.items():
            rows[name] = {"generator": spec, **trained(name, lambda s=spec: make(s), data, options)}
            print(f"{name}: {rows[name]}", flush=True)
        if options.only_train:
            return
    models = {name: make(spec).eval() for name, spec in networks.items()}
    speeds = speed(models, *((45, 80, 1) if options.quick else (180, 320, 9)))
    write_json(options.output, {
        "seconds_each": options.seconds, "accelerator": options.accelerator, "threads": torch.get_num_threads(),
        "bf16_instructions": bf16_is_fast(), "torch": torch.__version__,
        "rows": {n: {**rows[n], **size(models[n]), **speeds[n]} for n in models},
    })  # fmt: skip
    draw(options.output)


@contextlib.contextmanager
def comparison(doc: str, name: str, sizes: tuple[str, ...]) -> Iterator[tuple[argparse.Namespace, dict]]:
    """The command line of trainings of equal time, and what a quick one tells its data module: it learns noise, and keeps nothing."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--networks", choices=sizes, default=sizes[0], help="(default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows only")
    parser.add_argument("--accelerator", choices=tuple(CROPS), default="cpu", help="that trains (default: %(default)s)")
    parser.add_argument("--train", type=Path, help="folder of training photographs")
    parser.add_argument("--val", type=Path, help="folder of held-out ones; never a benchmark set")
    parser.add_argument("--seconds", type=float, default=1800, help="of training for each row (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="few steps on noise: only to see that it runs; needs no pictures"
    )
    parser.add_argument("--again", action="store_true", help="train all anew")
    parser.add_argument("--only-train", action="store_true", help="only fill --runs, which are completed elsewhere")
    parser.add_argument("--runs", type=Path, help=f"(default: runs/{name}/NETWORKS)")
    parser.add_argument("--output", type=Path, help=f"(default: benchmarks/results/{name}/NETWORKS.json)")
    networks = parser.parse_known_args()[0].networks
    parser.set_defaults(runs=ROOT / "runs" / name / networks, output=RESULTS / name / f"{networks}.json")
    options = parsed(parser)
    if options.again:
        shutil.rmtree(options.runs, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        if options.quick:
            options.train = options.val = noise(Path(temporary) / "photos")
            options.seconds = 0.1
        if options.train is None or options.val is None:
            raise SystemExit("--train and --val: give folders of pictures (or --quick, which needs none)")
        yield options, {"cache_dir": f"{temporary}/cache"} if options.quick else {}


def chosen(rows: dict, options: argparse.Namespace) -> dict:
    """Those of a size that --only names.

    Raises:
        SystemExit: it names one that there is not.
    """
    rows = rows[options.networks]
    if unknown := set(options.only or ()) - set(rows):
        raise SystemExit(f"--only {unknown.pop()}: no such row; there are {', '.join(rows)}")
    return {name: row for name, row in rows.items() if not options.only or name in options.only}


def make(spec: dict, **changed) -> AffMSE:
    settings = {
        "objective": {"loss": "l1"},
        "optimizer": "muon",
        "learning_rate": 2e-3,
        "warmup_steps": 100,
        "ema_decay": 0.998,
    }
    return AffMSE(generator=spec, **{**settings, **changed})


def pictures(options: argparse.Namespace, cache: dict, batch: int, crop: int) -> SRDataModule:
    on_gpu = {"on_device": True, "num_workers": 8} if options.accelerator == "gpu" else {}
    return SRDataModule(str(options.train), str(options.val), batch_size=batch, crop_size=crop, **on_gpu, **cache)


def trained(
    name: str,
    make: Callable[[], AffMSE],
    data: SRDataModule,
    options: argparse.Namespace,
    callbacks: tuple[Callback, ...] = (),
) -> dict:
    """What ``--seconds`` of training bring; it is kept, and taken from there the next time. PSNR is None where it diverged."""
    runs, seconds, hardware = options.runs, options.seconds, {"accelerator": options.accelerator}
    if options.accelerator == "gpu":
        hardware["benchmark"], callbacks = True, (*callbacks, Graphed())
    figures = runs / name / "figures.json"
    row = json.loads(figures.read_text()) if figures.is_file() else {}
    if row.get("seconds") != seconds:
        shutil.rmtree(runs / name, ignore_errors=True)
        step = step_seconds(make(), data, hardware, callbacks)
        row = {"seconds": seconds, "seconds_per_step": step, "steps": max(2, round(seconds / step))}
        keep(figures, row)
    if "psnr" not in row:
        try:
            model = experiment.train(name, make, data, row["steps"], runs, callbacks=callbacks, **hardware)
            trainer = Trainer(accelerator=options.accelerator, devices=1, precision="32-true", logger=False,
                              enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)  # fmt: skip
            row["psnr"] = trainer.validate(model, datamodule=data, verbose=False)[0]["val/psnr"]
        except TrainingDiverged:
            row["psnr"] = None
        keep(figures, row)
    return row


def keep(path: Path, row: dict) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(row))


def step_seconds(model: AffMSE, data: SRDataModule, hardware: dict, callbacks: tuple[Callback, ...]) -> float:
    """Seconds of a training step with all that Lightning and the data need; a GPU's mean, of others the median."""

    class Clock(Callback):
        times = ()

        def on_train_batch_end(self, trainer: Trainer, *_) -> None:
            if trainer.global_step in (TIMED // 2, TIMED) and torch.cuda.is_available():
                torch.cuda.synchronize()  # between these it is ahead of us
            self.times += (time.perf_counter(),)

    clock = Clock()
    trainer = Trainer(
        **hardware, devices=1, precision="bf16-mixed", max_steps=TIMED, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, callbacks=[*callbacks, clock], limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    gaps = np.diff(clock.times[TIMED // 2 - 1 :])
    return float(gaps.mean() if hardware["accelerator"] == "gpu" else np.median(gaps))


def size(model: AffMSE) -> dict:
    """Parameters, and multi-adds for an output of 1280×720, of the network as it computes: branches folded, without the projection."""
    network = model.inference_generator
    network = network.folded()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 720 // SCALE, 1280 // SCALE))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "multi_adds": counter.get_total_flops() // 2,
        "radius": network.radius,
    }


def speed(models: dict, height: int, width: int, repeats: int) -> dict:
    lr = torch.rand(1, 3, height, width)
    out = {name: {} for name in models}
    for precision in ("bf16", "float32"):
        seconds = medians(repeats, *(lambda m=m, p=precision: run_network(m, lr, p) for m in models.values()))
        for name, value in zip(models, seconds):
            out[name][f"seconds_per_megapixel_{precision}"] = value / (height * width * SCALE**2 / 1e6)
    return out


def draw(results: Path) -> None:
    """PSNR against seconds per megapixel, in both precisions."""
    from matplotlib.figure import Figure

    content = json.loads(results.read_text())
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, precision in zip(figure.subplots(1, 2, sharey=True), ("bf16", "float32")):
        trained = [(row["psnr"], name, row) for name, row in content["rows"].items() if row["psnr"] is not None]
        for place, (psnr, name, row) in enumerate(sorted(trained, reverse=True)):
            x = row[f"seconds_per_megapixel_{precision}"]
            axes.plot(x, psnr, "o", label=f"{place + 1}  {name}")
            axes.annotate(place + 1, (x, psnr), xytext=(0, 5), textcoords="offset points", fontsize=8, ha="center")
        axes.legend(fontsize=8, loc="best")
        axes.set_xlabel(f"seconds per megapixel of output, {precision}, {content['threads']} thread(s)")
        axes.margins(x=0.25)
    figure.axes[0].set_ylabel(f"Y-PSNR on held-out pictures after {content['seconds_each']:.0f} s of training, dB")
    with whole(results.with_suffix(".png")) as beside:
        figure.savefig(beside, dpi=110)


def noise(folder: Path) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(random.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


if __name__ == "__main__":
    main()
