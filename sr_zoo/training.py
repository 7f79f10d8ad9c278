"""``sr-zoo fit | validate | test``: LightningCLI over the methods and the data module, and what a training leaves behind."""

import warnings
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI

from sr_zoo.data import SRDataModule
from sr_zoo.files import whole
from sr_zoo.hub import save
from sr_zoo.methods import SuperResolver

__all__ = ["LastGood", "Resume", "SaveFolder", "run"]


def run(arguments: list[str]) -> None:
    """Run a Lightning subcommand; ``arguments`` as on the command line, the subcommand first."""
    # Lightning warns that arguments are given beside sys.argv; here they are sys.argv, or a test's.
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    LightningCLI(
        SuperResolver,
        SRDataModule,
        subclass_mode_model=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "sr-zoo"},
        args=arguments,
    )


class SaveFolder(Callback):
    """Writes a checkpoint folder (config.json, model.safetensors) whenever validation improves.

    Args:
        folder: made if missing.
        monitor: the validation figure, larger is better. Never a benchmark's.
    """

    def __init__(self, folder: str, monitor: str = "val/psnr"):
        self.folder, self.monitor, self.best = folder, monitor, float("-inf")

    def on_validation_end(self, trainer: Trainer, module: SuperResolver) -> None:
        figure = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or trainer.state.fn != "fit" or figure is None or figure <= self.best:
            return
        self.best = float(figure)
        save(module, Path(self.folder))

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]


class Resume(Callback):
    """Keeps ``last.ckpt``, from which ``--ckpt_path`` goes on exactly; never half-written.

    Args:
        dirpath: made if missing.
        every_n_steps: generator steps between two.
    """

    def __init__(self, dirpath: str, every_n_steps: int = 1000):
        self.path, self.every_n_steps = Path(dirpath) / "last.ckpt", every_n_steps

    def on_train_batch_end(self, trainer: Trainer, *_) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            with whole(self.path) as beside:
                trainer.save_checkpoint(beside)


class LastGood(Callback):
    """Keeps ``last-good.ckpt`` when training stops by an error or Ctrl-C: the weights from before the step that failed.

    Unlike Lightning's OnExceptionCheckpoint, the next training does not start from it unless told so by ``--ckpt_path``.

    Args:
        dirpath: made if missing.
    """

    def __init__(self, dirpath: str):
        self.path = Path(dirpath) / "last-good.ckpt"

    def on_exception(self, trainer: Trainer, *_) -> None:
        with whole(self.path) as beside:
            trainer.save_checkpoint(beside)
