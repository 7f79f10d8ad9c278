"""What a training's settings bring: ``python -m benchmarks.settings --train PHOTOS --val HELD_OUT [--seconds 1800]``.

The network of affmse-x4-fast, trained for the same number of seconds each time; a row changes one thing of the first, whose
settings are those of :mod:`benchmarks.generators`. Then Y-PSNR on the held-out pictures. Crops of another size come in batches of as
many pixels, and of the pictures that are at least as large.

A run that was stopped goes on where it was (--again begins anew). Results: benchmarks/results/settings.json.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.common import RESULTS, ROOT, parsed, write_json
from benchmarks.generators import NETWORKS, make, noise, trained
from sr_zoo import AffMSE, SRDataModule
from sr_zoo.objectives import OBJECTIVES

NETWORK = "reparameterised 32×5"
CROP, BATCH = 128, 16
# Row → arguments of the method; "crop_size" is the data's, "then" the loss of the last quarter.
SETTINGS = {
    "L1, Muon at 2e-3, 16 crops of 128": {},
    "MSE": {"objective": {"loss": "mse"}},
    "L1, then MSE": {"then": "mse"},
    "64 crops of 64": {"crop_size": 64},
    "4 crops of 256": {"crop_size": 256},
    "Muon at 1e-3": {"learning_rate": 1e-3},
    "Muon at 4e-3": {"learning_rate": 4e-3},
    "Adam at 1e-3": {"optimizer": "adam", "learning_rate": 1e-3},
    "no averaged weights": {"ema_decay": 0.0},
    "gradient clipped at 0.1": {"gradient_clip": 0.1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, help="folder of training photographs")
    parser.add_argument("--val", type=Path, help="folder of held-out ones; never a benchmark set")
    parser.add_argument("--seconds", type=float, default=1800, help="of training for each row (default 1800)")
    parser.add_argument(
        "--quick", action="store_true", help="few steps on noise: only to see that it runs; needs no pictures"
    )
    parser.add_argument("--again", action="store_true", help="train all anew")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "settings")
    parser.add_argument("--output", type=Path, default=RESULTS / "settings.json")
    options = parsed(parser)
    if options.again:
        shutil.rmtree(options.runs, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        if options.quick:
            options.train = options.val = noise(Path(temporary) / "photos")
            options.seconds = 0.1
        if options.train is None or options.val is None:
            raise SystemExit("--train and --val: give folders of pictures (or --quick, which needs none)")
        rows = {}
        for name, changed in SETTINGS.items():
            rows[name] = row(name, dict(changed), options, f"{temporary}/cache" if options.quick else None)
            print(f"{name}: {rows[name]}", flush=True)
    write_json(options.output, {
        "seconds_each": options.seconds, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "network": NETWORK, "rows": rows,
    })  # fmt: skip


def row(name: str, changed: dict, options: argparse.Namespace, cache: str | None) -> dict:
    crop, then = changed.pop("crop_size", CROP), changed.pop("then", None)
    batch = BATCH * CROP**2 // crop**2
    if options.quick:
        crop, batch = 32, 2
    data = SRDataModule(str(options.train), str(options.val), batch_size=batch, crop_size=crop)
    if cache is not None:
        data.cache_dir = cache
    callbacks = (Then(then),) if then else ()
    return trained(name, lambda: make(NETWORKS[NETWORK], **changed), data, options.seconds, options.runs, callbacks)[1]


class Then(Callback):
    """Another loss for the last quarter of the steps."""

    def __init__(self, loss: str):
        self.loss = loss

    def on_train_batch_start(self, trainer: Trainer, model: AffMSE, *_) -> None:
        if model.objective.loss != self.loss and trainer.global_step >= 0.75 * trainer.max_steps:
            model.objective = OBJECTIVES.build({"name": model.parts[1], "loss": self.loss})


if __name__ == "__main__":
    main()
