"""What a training's settings bring: ``python -m benchmarks.settings --train PHOTOS --val HELD_OUT [--seconds 1800]``.

The network of affmse-x4-fast, trained for the same number of seconds each time; a row changes one thing of the first, whose
settings are those of :mod:`benchmarks.generators`. Then Y-PSNR on the held-out pictures. Crops of another size come in batches of as
many pixels, and of the pictures that are at least as large.

A run that was stopped goes on where it was (--again begins anew). Results: benchmarks/results/settings.json.
"""

import argparse

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.common import RESULTS, write_json
from benchmarks.generators import NETWORKS, comparison, make, trained
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
    with comparison(__doc__, "settings", RESULTS / "settings.json") as (options, cache):
        rows = {}
        for name, changed in SETTINGS.items():
            rows[name] = row(name, dict(changed), options, cache)
            print(f"{name}: {rows[name]}", flush=True)
    write_json(options.output, {
        "seconds_each": options.seconds, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "network": NETWORK, "rows": rows,
    })  # fmt: skip


def row(name: str, changed: dict, options: argparse.Namespace, cache: dict) -> dict:
    crop, then = changed.pop("crop_size", CROP), changed.pop("then", None)
    batch = BATCH * CROP**2 // crop**2
    if options.quick:
        crop, batch = 32, 2
    data = SRDataModule(str(options.train), str(options.val), batch_size=batch, crop_size=crop, **cache)
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
