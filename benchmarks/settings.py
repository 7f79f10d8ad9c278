"""What a training's settings bring: ``python -m benchmarks.settings --train PHOTOS --val HELD_OUT [--seconds 1800]``.

One network, trained for the same number of seconds each time; a row changes one thing of the first, whose settings are those of
:mod:`benchmarks.generators`. Then Y-PSNR on the held-out pictures. Crops of another size come in batches of as many pixels, and of
the pictures that are at least as large.

--networks fast   that of affmse-x4-fast (the default)
--networks base   one of nearly the size of affmse-x4, for a GPU (--accelerator gpu)

A run that was stopped goes on where it was (--again begins anew). Results: benchmarks/results/settings/NETWORKS.json.
"""

import argparse

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.common import write_json
from benchmarks.generators import CROPS, NETWORKS, chosen, comparison, make, pictures, trained
from sr_zoo import AffMSE
from sr_zoo.objectives import OBJECTIVES

NETWORK = {"fast": "reparameterised 32×5", "base": "residual 64×10"}
# Row → arguments of the method; "crop_size" and "batch_size" are the data's, "then" the loss of the last quarter.
SETTINGS = {
    "fast": {
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
    },
    "base": {
        "L1, Muon at 2e-3, 64 crops of 192": {},
        "Muon at 1.2e-3": {"learning_rate": 1.2e-3},
        "Muon at 3e-3": {"learning_rate": 3e-3},
        "32 crops of 192": {"batch_size": 32},
        "144 crops of 128": {"crop_size": 128},
    },
}


def main() -> None:
    with comparison(__doc__, "settings", tuple(SETTINGS)) as (options, cache):
        network, rows = NETWORK[options.networks], {}
        for name, changed in chosen(SETTINGS, options).items():
            rows[name] = row(name, NETWORKS[options.networks][network], dict(changed), options, cache)
            print(f"{name}: {rows[name]}", flush=True)
        if options.only_train:
            return
    write_json(options.output, {
        "seconds_each": options.seconds, "accelerator": options.accelerator, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "network": network, "rows": rows,
    })  # fmt: skip


def row(name: str, spec: dict, changed: dict, options: argparse.Namespace, cache: dict) -> dict:
    batch, usual = CROPS[options.accelerator]
    crop, then = changed.pop("crop_size", usual), changed.pop("then", None)
    batch = changed.pop("batch_size", batch * usual**2 // crop**2)
    if options.quick:
        crop, batch = 32, 2
    callbacks = (Then(then),) if then else ()
    return trained(name, lambda: make(spec, **changed), pictures(options, cache, batch, crop), options, callbacks)


class Then(Callback):
    """Another loss for the last quarter of the steps."""

    def __init__(self, loss: str):
        self.loss = loss

    def on_train_batch_start(self, trainer: Trainer, model: AffMSE, *_) -> None:
        if model.objective.loss != self.loss and trainer.global_step >= 0.75 * trainer.max_steps:
            model.objective = OBJECTIVES.build({"name": model.parts[1], "loss": self.loss})


if __name__ == "__main__":
    main()
