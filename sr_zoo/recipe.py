"""The recipe of a fine-tuning: what LightningCLI reads, with everything filled in that a user does not say."""

from collections.abc import Callable
from pathlib import Path

import yaml

from sr_zoo.degradation import for_kernel, read_kernel
from sr_zoo.errors import UserError, one_line
from sr_zoo.files import expanded, lies_in, same_place
from sr_zoo.hub import checkpoint_folder
from sr_zoo.operators import Downsampler
from sr_zoo.picture import find_pictures, picture_size
from sr_zoo.tiles import bf16_is_fast

__all__ = ["tuning_recipe", "with_callbacks"]

MAX_LEARNING_RATE = 5e-4
CROP, PIXELS = 128, 8 * 128 * 128  # side of a crop and pixels of a batch, HR
MAX_HELD_OUT, VAL_SIZE = 20, 512
# What goes on as in the training that made the weights, where its recipe says so.
KEPT = {"optimizer": (str,), "learning_rate": (int, float), "gradient_clip": (int, float), "ema_decay": (int, float),
        "prior_steps": (int,), "prior_start": (int,), "prior_learning_rate": (int, float)}  # fmt: skip


def tuning_recipe(
    source: str | Path,
    trained,
    photos: str | Path,
    steps: int,
    val: str | Path | None,
    *,
    kernel: str | None,
    ridge: float | None,
    scale: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    crop_size: int | None,
    augment: str,
    seed: int,
    report: Callable[[str], None],
) -> dict:
    """Everything about a fine-tuning but where it writes; arguments as those of :func:`~sr_zoo.finetune.finetune`.

    Args:
        trained: the model that ``source`` names.

    Raises:
        UserError: an argument makes no sense, or there are too few pictures.
    """
    if scale not in (None, trained.scale):
        raise UserError(
            f"scale {scale}: {source} was trained for ×{trained.scale}, which fine-tuning cannot change (the kernel can); "
            f"leave it out, or start from a model for ×{scale}"
        )
    for name, value in (("steps", steps), ("batch_size", batch_size), ("learning_rate", learning_rate)):
        if value is not None and not value > 0:
            raise UserError(f"{name}: {value} is not above 0")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed: {seed} is not between 0 and {2**32 - 1}")
    config = {**trained.config, **({} if ridge is None else {"ridge": float(ridge)})}
    if kernel is not None:
        config["kernel"] = read_kernel(kernel, trained.scale)
    if any(config[key] != trained.config[key] for key in ("kernel", "ridge")):
        config = for_kernel(trained, config["kernel"], config["ridge"])
    try:
        Downsampler(config["kernel"], trained.scale, config["ridge"])
    except ValueError as error:
        raise UserError(str(error)) from None
    crop_size, count = _crop_size(photos, val, crop_size, trained.scale, report)
    settings = _settings(source)
    rate = min(settings.pop("learning_rate", MAX_LEARNING_RATE), MAX_LEARNING_RATE)
    settings |= {
        "learning_rate": rate if learning_rate is None else learning_rate,
        "warmup_steps": min(100, steps // 10),
        # A prior that was there before knows much already.
        "prior_start": min(settings.get("prior_start", 0), steps // 5),
    }
    return {
        "seed_everything": seed,
        "weights": str(source),
        "model": {"class_path": f"sr_zoo.methods.{config.pop('method')}", "init_args": {**config, **settings}},
        "data": {
            "train": str(photos), "val": None if val is None else str(val),
            "hold_out": min(MAX_HELD_OUT, max(1, count // 10)) if val is None else 0, "val_size": VAL_SIZE,
            "batch_size": max(1, min(64, PIXELS // crop_size**2)) if batch_size is None else batch_size,
            "crop_size": crop_size, "augment": augment, "seed": seed,
        },
        "trainer": {
            "accelerator": "cpu", "devices": 1, "precision": "bf16-mixed" if bf16_is_fast() else "32-true",
            "max_steps": steps, "val_check_interval": max(1, steps // 5), "num_sanity_val_steps": 0,
            "enable_checkpointing": False, "log_every_n_steps": min(10, steps),
        },
    }  # fmt: skip


def with_callbacks(recipe: dict, work: Path, name: str, logger: str, run: str, by_psnr: bool) -> dict:
    """The recipe with what it writes below ``work``: weights, log, a checkpoint to go on from, the decoded pictures."""

    def part(path: str, **arguments) -> dict:
        return {"class_path": path, "init_args": arguments}

    # What a generator that follows another network reaches in PSNR says little: its last weights are kept.
    monitor = "val/psnr" if by_psnr else None
    callbacks = [
        part("sr_zoo.training.SaveFolder", folder=str(work / "best"), monitor=monitor),
        part("sr_zoo.training.Resume", dirpath=str(work), every_n_steps=50),
        part("sr_zoo.training.LastGood", dirpath=str(work)),
    ]
    if logger == "wandb":
        callbacks.append(part("sr_zoo.tracking.Tracking"))
        log = part("sr_zoo.tracking.Wandb", save_dir=str(work), name=name, id=run)
    else:
        log = part("lightning.pytorch.loggers.CSVLogger", save_dir=str(work), name=None)
    return {
        **recipe,
        "data": {**recipe["data"], "cache_dir": str(work / "pictures")},
        "trainer": {**recipe["trainer"], "callbacks": callbacks, "logger": log},
    }


def _crop_size(photos, val, wanted: int | None, scale: int, report) -> tuple[int, int]:
    """Side of a crop that nine of ten pictures are large enough for, at most what is usual; and how many pictures are."""
    least = -(-max(32, 4 * scale) // scale) * scale
    if val is not None and same_place(val, photos):
        raise UserError(f"val: {val} is what it shall learn from; give other pictures, or leave it out to hold some out")
    if val is not None and lies_in(val, photos):
        raise UserError(f"val: {val} lies in {photos}, all of which it shall learn from; move it elsewhere")
    sides = sorted(min(size) for p in find_pictures(expanded(photos)) if (size := picture_size(p)) is not None)
    large = [side for side in sides if side >= (wanted or least)]
    if wanted is not None and (wanted % scale or wanted < least):
        raise UserError(f"crop_size: {wanted} is not a multiple of the scale {scale}, {least} or more")
    needed = 2 if val is None else 1
    if len(large) < needed:
        raise UserError(
            f"{photos}: {len(large)} of {len(sides)} pictures with {wanted or least} pixels or more on either side, at least "
            f"{needed} needed{' (one is held out)' if val is None else ''}; give more{', or a smaller crop_size' if wanted else ''}"
        )
    if wanted is not None:
        return wanted, len(large)
    usual = CROP // scale * scale
    crop = min(usual, large[(len(large) - 1) // 10] // scale * scale)
    if crop < usual:
        report(f"crops of {crop}×{crop} pixels: the pictures are small")
    return crop, sum(side >= crop for side in large)


def _settings(source: str | Path) -> dict:
    """How the weights were trained, as far as it matters for going on; Muon, the quicker optimiser, where nobody says."""
    path = checkpoint_folder(source) / "recipe.yaml"
    try:
        told = yaml.safe_load(path.read_text())["model"]["init_args"] if path.is_file() else {}
        told = {k: _number(told.get(k)) if float in kinds else told.get(k) for k, kinds in KEPT.items()}
        told = {k: value for k, value in told.items() if isinstance(value, KEPT[k])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a recipe ({one_line(error)}); mend it or take it away") from None
    return {"optimizer": "muon", **told}


def _number(value):
    """YAML 1.1 takes 2e-5, without a point, for a string; what reads recipes for a training does not."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
