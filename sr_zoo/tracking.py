"""What a training leaves in Weights & Biases: figures, a fixed panel of pictures, the configuration and, if asked, the weights.

Never required, and it never asks: without a key or a network a run is written to disk, and the command that sends it is printed.
"""

import importlib.util
import netrc
import os
import shlex
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from sr_zoo import metrics
from sr_zoo.errors import UserError, one_line
from sr_zoo.methods import SuperResolver

__all__ = ["Tracking", "Wandb", "log_weights"]

# What a training was told, beside the model's own config.
TOLD = ("optimizer_name", "learning_rate", "warmup_steps", "gradient_clip", "ema_decay", "prior_steps", "prior_start",
        "prior_learning_rate")  # fmt: skip


class Wandb(WandbLogger):
    """Lightning's logger for wandb that writes to disk where it cannot send, and never prompts.

    WANDB_MODE ``offline`` and ``disabled`` are kept; otherwise it is online where a key is known and the server answers.

    Args:
        save_dir: its folder ``wandb`` holds the run.
        project: where the run is filed.
        name: of the run; wandb makes one up without.
        id: of a run to go on with, or that a later process shall go on with.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, save_dir: str = ".", project: str = "sr_zoo", name: str | None = None, id: str | None = None):
        if importlib.util.find_spec("wandb") is None:
            raise UserError("logger wandb: the package wandb is not installed; pip install wandb, or leave it out")
        self.why_offline = _why_offline()
        super().__init__(name, save_dir, id=id, project=project, mode=_mode(self.why_offline))

    @property
    def experiment(self):
        """The run, begun when first used."""
        import wandb

        self._wandb_init["settings"] = wandb.Settings(silent=self._wandb_init["mode"] != "online", console="off")
        try:
            return super().experiment
        except wandb.errors.Error as error:  # a key that the server refuses, a server that is gone
            if self._wandb_init["mode"] != "online":
                raise
            self.why_offline = one_line(error)
            self._wandb_init["mode"] = "offline"
            return self.experiment

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if status != "success":
            self.finish()

    def finish(self) -> None:
        """End the run; where it was not sent, print the command that sends it."""
        if self._experiment is None:
            return
        run, self._experiment = self._experiment, None
        run.finish()
        if self._wandb_init["mode"] == "offline":
            folder = shlex.quote(str(Path(run.dir).parent))
            print(f"not sent ({self.why_offline}); to send it: wandb sync {folder}", flush=True)


class Tracking(Callback):
    """Logs to wandb the configuration, a panel of validation pictures at each validation, and the weights at the end if asked.

    The panel shows the same pictures each time, LR (enlarged), SR and HR side by side. Other loggers are left alone.

    Args:
        pictures: how many of the first validation pictures.
        size: side of the middle that is shown of each, in HR pixels.
        weights: checkpoint folder to keep as an artifact when the training ends; comes after SaveFolder in the list then.
    """

    def __init__(self, pictures: int = 4, size: int = 192, weights: str | None = None):
        self.pictures, self.size, self.weights = pictures, size, weights
        self._rows: list[np.ndarray] = []

    def on_fit_start(self, trainer: Trainer, module: SuperResolver) -> None:
        for logger in _listening(trainer):
            told = {name: getattr(module, name) for name in TOLD}
            drawn = {name: getattr(trainer.datamodule, name, None) for name in ("batch_size", "crop_size", "augment")}
            logger.log_hyperparams({**(module.config or {}), **told, **drawn, "max_steps": trainer.max_steps})

    def on_validation_batch_end(self, trainer: Trainer, module: SuperResolver, outputs, batch: dict, batch_index: int, *_):
        if trainer.sanity_checking or batch_index >= self.pictures or not _listening(trainer):
            return
        self._rows.append(side_by_side(module, batch["hr"][:1], self.size))

    def on_validation_end(self, trainer: Trainer, *_) -> None:
        rows, self._rows = self._rows, []
        for logger in _listening(trainer) if rows else []:
            captions = [f"{i + 1}: LR, SR, HR" for i in range(len(rows))]
            logger.log_image("val/panel", list(rows), step=trainer.global_step, caption=captions)

    def on_fit_end(self, trainer: Trainer, *_) -> None:
        if self.weights is not None:
            log_weights(trainer, Path(self.weights))


def log_weights(trainer: Trainer, folder: Path) -> None:
    """Keep the files of a checkpoint folder as an artifact of the run, where wandb is a logger."""
    for logger in _listening(trainer):
        import wandb

        artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model")
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                artifact.add_file(str(path))
        logger.experiment.log_artifact(artifact)


@torch.no_grad()
def side_by_side(module: SuperResolver, hr: Tensor, size: int) -> np.ndarray:
    """The middle of a picture ``(1, 3, height, width)``, 0…255: LR without smoothing, SR, HR, as one uint8 picture."""
    scale = module.scale
    height, width = (min(size, n) // scale * scale for n in hr.shape[-2:])
    top, left = (hr.shape[-2] - height) // 2, (hr.shape[-1] - width) // 2
    hr = hr[..., top : top + height, left : left + width].float() / 255
    lr = module.degrade(hr)
    enlarged = lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    row = metrics.quantize(torch.cat([enlarged, module(lr), hr], -1))
    return row[0].permute(1, 2, 0).byte().cpu().numpy()


def _listening(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _mode(why_offline: str | None) -> str:
    if os.environ.get("WANDB_MODE") == "disabled":
        return "disabled"
    return "online" if why_offline is None else "offline"


def _why_offline() -> str | None:
    """Why nothing can be sent, None where it can. Without a key wandb would ask, without a network it would wait."""
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    server = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
    if not _has_key(urllib.parse.urlsplit(server).netloc):
        return "no key; 'wandb login' keeps one"
    try:
        urllib.request.urlopen(server, timeout=5).close()
    except urllib.error.HTTPError:  # an answer
        return None
    except (OSError, ValueError) as error:  # URLError is an OSError
        return f"{server} does not answer: {one_line(error)}"
    return None


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    places = [os.environ.get("NETRC")] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in map(os.path.expanduser, places):
        try:
            if netrc.netrc(place).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
