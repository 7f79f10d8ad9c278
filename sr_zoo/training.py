"""``sr-zoo fit | validate | test``: LightningCLI over the methods and the data module, and what a training leaves behind."""

import argparse
import warnings
from pathlib import Path

import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI

from sr_zoo.checkpoint import save
from sr_zoo.data import SRDataModule
from sr_zoo.errors import one_line
from sr_zoo.files import whole
from sr_zoo.generators import start_from
from sr_zoo.generators.around import layers
from sr_zoo.hub import load
from sr_zoo.methods import SuperResolver

__all__ = [
    "Compile",
    "Graphed",
    "LastGood",
    "Resume",
    "SaveFolder",
    "check_checkpoint",
    "finish",
    "instantiate",
    "run",
    "start",
]

_CLASSES = {"model_class": SuperResolver, "datamodule_class": SRDataModule, "subclass_mode_model": True,
            "seed_everything_default": 0, "parser_kwargs": {"prog": "sr-zoo"}}  # fmt: skip


def run(arguments: list[str]) -> None:
    """Run a Lightning subcommand; ``arguments`` as on the command line, the subcommand first."""
    # Lightning warns that arguments are given beside sys.argv; here they are sys.argv, or a test's.
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    _check_checkpoints(arguments)
    cli = _CLI(**_CLASSES, save_config_kwargs={"overwrite": True}, args=arguments)
    finish(cli.trainer)


def instantiate(recipe: dict) -> tuple[Trainer, SuperResolver, SRDataModule]:
    """What a recipe describes, as ``fit --config`` would make it, but for the weights to start from."""
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    cli = _CLI(**_CLASSES, save_config_callback=None, run=False, args=recipe)
    return cli.trainer, cli.model, cli.datamodule


def finish(trainer: Trainer) -> None:
    """End the runs of loggers that have an end of their own."""
    for logger in trainer.loggers:
        if hasattr(logger, "finish"):
            logger.finish()


def start(model: SuperResolver, weights: str | None, prior: str | None = None) -> None:
    """Give ``model`` the weights of a trained one, and its objective's network those of the same or of ``prior``.

    Args:
        weights: model name or checkpoint folder; None leaves the generator as it is.
        prior: the same, for the objective's network.

    Raises:
        CheckpointError: no such model, or a damaged one.
        ValueError: another network.
    """
    trained = None if weights is None else load(weights)
    if trained is not None:
        start_from(model.generator, trained.generator)
    source = trained if prior is None else load(prior)
    if source is not None and type(source.objective) is type(model.objective):
        try:
            own = model.objective.state_dict()
            model.objective.load_state_dict(source.objective.state_dict() | {k: own[k] for k in model.objective.begins})
        except RuntimeError as error:
            raise ValueError(f"the prior to start from is another network ({one_line(error)})") from None
    elif prior is not None:
        raise ValueError(f"--prior {prior}: its objective is another than this method's")


def check_checkpoint(path: str | Path) -> None:
    """Nothing where ``path`` is a checkpoint of a training.

    Raises:
        ValueError: it is not, or cannot be read.
    """
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive makes torch raise nearly anything
        raise ValueError(f"{path}: not a training checkpoint that can be read ({one_line(error)})") from None
    if not isinstance(kept, dict) or not {"state_dict", "optimizer_states", "pytorch-lightning_version"} <= set(kept):
        raise ValueError(f"{path}: not a training checkpoint; give the last.ckpt of a training, or a folder as --weights")


def _check_checkpoints(arguments: list[str]) -> None:
    """Lightning reads ``--ckpt_path`` while it still parses, and lets whatever torch raises through."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--ckpt_path")
    parser.add_argument("-c", "--config", action="append", default=[])
    options = parser.parse_known_args(arguments)[0]
    for path in [options.ckpt_path] if options.ckpt_path else map(_written_checkpoint, options.config):
        if path is not None:
            check_checkpoint(path)


def _written_checkpoint(config: str) -> str | None:
    """The ``ckpt_path`` of a configuration file, as the one that a resumed training leaves in its log has; None without."""
    try:
        written = yaml.safe_load(Path(config).read_text())
    except (OSError, ValueError, yaml.YAMLError):  # is said by the parser
        return None
    path = written.get("ckpt_path") if isinstance(written, dict) else None
    return path if isinstance(path, str) else None


class _CLI(LightningCLI):
    """LightningCLI with ``--weights`` and ``--prior``: shipped models or checkpoint folders to start from, or to measure."""

    def add_arguments_to_parser(self, parser) -> None:
        parser.add_argument(
            "--weights", type=str | None, default=None, help="model name, checkpoint folder or Hub repository to start from"
        )
        parser.add_argument(
            "--prior", type=str | None, default=None, help="where the objective's own network starts, if not with --weights"
        )

    def before_fit(self) -> None:
        options = self.config[self.subcommand]
        start(self.model, options.weights, options.prior)

    def before_validate(self) -> None:
        if self.config[self.subcommand].weights is None and self.config[self.subcommand].ckpt_path is None:
            raise ValueError(f"{self.subcommand}: nothing to measure; give --weights FOLDER or --ckpt_path FILE")
        self.before_fit()

    before_test = before_validate


class SaveFolder(Callback):
    """Writes a checkpoint folder (config.json, model.safetensors) whenever validation improves, or at the end without one.

    Comes before :class:`Resume` in the list of callbacks, whose checkpoint then knows of it.

    Args:
        folder: made if missing.
        monitor: the validation figure: ``"val/psnr"``, or ``"val/prior"`` (the loss of the objective's own network, less is
            better) where that is what is trained. None keeps the last weights, whatever validation says: the figures of a
            generator that follows a discriminator say little. Never a benchmark's.
    """

    def __init__(self, folder: str, monitor: str | None = "val/psnr"):
        self.folder, self.monitor, self.best = folder, monitor, float("-inf")

    def on_validation_end(self, trainer: Trainer, module: SuperResolver) -> None:
        figure = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or trainer.state.fn != "fit" or figure is None:
            return
        figure = -float(figure) if self.monitor == "val/prior" else float(figure)
        if not figure > self.best:
            return
        self.best = figure
        save(module, Path(self.folder))

    def on_train_end(self, trainer: Trainer, module: SuperResolver) -> None:
        if self.best == float("-inf"):  # nothing to validate on: the last weights
            save(module, Path(self.folder))

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]


class Resume(Callback):
    """Keeps ``last.ckpt``, from which ``--ckpt_path`` goes on exactly; never half-written.

    Args:
        dirpath: made if missing.
        every_n_steps: batches between two; another is kept after each validation, with what it found.
    """

    def __init__(self, dirpath: str, every_n_steps: int = 1000):
        self.path, self.every_n_steps = Path(dirpath) / "last.ckpt", every_n_steps

    def on_train_batch_end(self, trainer: Trainer, *_) -> None:
        # One step early: a checkpoint made just before a validation would go on behind it, without its outcome.
        if trainer.global_step % self.every_n_steps == self.every_n_steps - 1:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, *_) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        with whole(self.path) as beside:
            trainer.save_checkpoint(beside)


class LastGood(Callback):
    """Keeps ``last-good.ckpt`` when training stops by an error or Ctrl-C: the weights from before the step that failed.

    Of a :class:`Graphed` training, which goes on for some steps without knowing, finite ones from a little later.

    Unlike Lightning's OnExceptionCheckpoint, the next training does not start from it unless told so by ``--ckpt_path``.

    Args:
        dirpath: made if missing.
    """

    def __init__(self, dirpath: str):
        self.path = Path(dirpath) / "last-good.ckpt"

    def on_exception(self, trainer: Trainer, *_) -> None:
        if trainer.state.fn != "fit" or not trainer.global_step:
            return  # nothing was trained, or restored, that would be worth keeping
        with whole(self.path) as beside:
            trainer.save_checkpoint(beside)


class Compile(Callback):
    """Trains with the generator's blocks compiled (``torch.compile``): for GPUs, where what lies between convolutions costs too.

    Weights and checkpoints stay as they are; all blocks of a shape share what is compiled, which takes seconds.
    """

    def on_fit_start(self, trainer: Trainer, module: SuperResolver) -> None:
        for block in layers(module.generator)[-1].body:
            block.compile()


class Graphed(Callback):
    """Trains with each step as one CUDA graph, which for small networks is several times faster: see
    :class:`sr_zoo.graphed.GraphedStep`.

    Raises:
        ValueError: more than one device, or a method with a prior or noise (when the training starts).
    """

    graphs_steps = True

    def on_fit_start(self, trainer: Trainer, module: SuperResolver) -> None:
        if module.objective.has_prior or module.noise_channels or trainer.world_size > 1:
            raise ValueError(
                "trainer.callbacks: Graphed is for one device and for methods whose objective has no network of its own and whose "
                "generator takes no noise"
            )
