"""Fine-tuning: a pretrained model goes on learning from a user's own photos.

It starts from the generator's weights and, where the checkpoint has one, from the prior; the model's own operator makes the LR
pictures. The training is the one that ``sr-zoo fit`` runs with the recipe that is written beside the weights.
"""

import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import yaml
from lightning.pytorch import Callback, Trainer

from sr_zoo.checkpoint import PRIOR, save
from sr_zoo.descent import TrainingDiverged
from sr_zoo.errors import UserError
from sr_zoo.files import expanded, whole
from sr_zoo.hints import without_hints
from sr_zoo.hub import checkpoint_folder, load
from sr_zoo.methods import SuperResolver
from sr_zoo.picture import find_pictures
from sr_zoo.recipe import tuning_recipe, with_callbacks
from sr_zoo.training import SaveFolder, check_checkpoint, finish, instantiate, start

__all__ = ["finetune"]

# In the order of writing: what says that all is there comes last.
WRITTEN = ("recipe.yaml", "model.safetensors", PRIOR, "config.json", "finetune.json")


def finetune(
    model: str | Path,
    photos: str | Path,
    output: str | Path,
    steps: int = 1000,
    val: str | Path | None = None,
    *,
    kernel: str | None = None,
    ridge: float | None = None,
    scale: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    crop_size: int | None = None,
    augment: str = "turns",
    seed: int = 0,
    logger: str = "csv",
    artifact: bool = False,
    again: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """Go on training a pretrained model on a folder of photos, and write a checkpoint folder.

    Called again with the same arguments, a fine-tuning that was stopped goes on where it was, and one that is done is only told;
    with other arguments it is refused unless ``again``. ``output/work`` holds the log and what going on takes.

    Args:
        model: name or checkpoint folder.
        photos: folder of pictures, searched recursively.
        output: checkpoint folder to write: config.json, model.safetensors, prior.safetensors where the objective has a network,
            recipe.yaml for ``sr-zoo fit``, and finetune.json with what is returned here.
        steps: batches to learn from.
        val: folder of held-out pictures; without it a tenth of ``photos``, 1 to 20 pictures, is held out. Of each, the middle
            512×512 pixels are measured.
        kernel: another downsampling kernel than the model's, as :class:`~sr_zoo.operators.Downsampler` names them, or a
            picture file of a measured one.
        ridge: another one than the model's; for kernels that cannot be inverted without.
        scale: the model's own; another one is refused.
        learning_rate: peak; by default that of the training that made the weights, at most 5e-4.
        batch_size: crops in a batch; by default as many as have 131,072 pixels, at most 64.
        crop_size: side of a crop in HR pixels; by default 128, or what nine of ten pictures allow if that is less.
        augment: ``"turns"``, ``"mirror"`` (left and right only, for faces or text) or ``"none"``.
        seed: of the crops and of noise.
        logger: ``"csv"`` or ``"wandb"`` (see :class:`~sr_zoo.tracking.Wandb`); may be another one when going on.
        artifact: give the weights to wandb, too.
        again: start anew; what an earlier fine-tuning left in ``output`` is removed.
        report: takes lines that say how it goes.

    Returns:
        A record: ``"before"`` and ``"after"``, figures on the held-out pictures (``"psnr"`` in dB, on Y of 8-bit pictures),
        their names as ``"held_out"``, and which weights were ``"kept"``: of a method without a prior the ``"best"`` on these
        pictures, or those of the ``"start"`` where none were better; of one that follows a prior, whose PSNR says little, the
        ``"last"``.

    Raises:
        UserError: an argument makes no sense, there are too few pictures, ``output`` holds something else, training diverged.
        ValueError, OSError: as the data module and the methods raise.
    """
    if logger not in ("csv", "wandb") or (artifact and logger == "csv"):
        raise UserError(f"logger: {logger!r}, expected 'csv' or 'wandb', and 'wandb' to keep an artifact")
    output, source, trained = expanded(output), checkpoint_folder(model), load(model)
    recipe = tuning_recipe(
        model, trained, photos, steps, val, kernel=kernel, ridge=ridge, scale=scale, learning_rate=learning_rate,
        batch_size=batch_size, crop_size=crop_size, augment=augment, seed=seed, report=report,
    )  # fmt: skip
    identity = {**recipe, "pictures": _digest(photos, val), "start": _digest_of_weights(source)}
    begun = _begun(output, source, identity, again)
    if (output / "finetune.json").is_file():
        report(f"{output}: was done before; --again starts anew")
        return json.loads((output / "finetune.json").read_text())
    begun = begun or {"identity": identity, "run": uuid.uuid4().hex[:8]}
    if trained.objective.has_prior and not (source / PRIOR).is_file():
        report(f"{model}: has no {PRIOR}; the objective's own network starts untrained")
    recipe = with_callbacks(recipe, output / "work", output.name, logger, begun["run"], not trained.objective.has_prior)
    with without_hints():
        try:
            return _train(recipe, begun, output, artifact, report)
        except TrainingDiverged as error:
            raise UserError(f"{error}; then --again") from None
        except SystemExit:  # what Lightning makes of Ctrl-C
            report(f"{output}: stopped; the same call goes on from the last validation")
            raise KeyboardInterrupt from None


def _train(recipe: dict, begun: dict, output: Path, artifact: bool, report: Callable[[str], None]) -> dict:
    """From the start, or from where ``begun`` says it was stopped, to the written folder."""
    work = output / "work"
    best, last = work / "best", work / "last.ckpt"
    shown = {"enable_progress_bar": sys.stdout.isatty() and sys.stderr.isatty(), "enable_model_summary": False}
    trainer, model, data = instantiate({**recipe, "trainer": {**recipe["trainer"], **shown}})
    start(model, recipe["weights"])
    if "before" not in begun:
        save(model, best)  # stays where nothing better is found
        begun["before"] = _measure(trainer, model, data)
        begun["held_out"] = data.val_pictures.names
        with whole(work / "start.json") as beside:
            beside.write_text(json.dumps(begun, indent=1))
    names, before = begun["held_out"], begun["before"]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    report(f"held out: {len(names)} ({shown}); before: {before['psnr']:.2f} dB")
    (saver,) = (c for c in trainer.callbacks if isinstance(c, SaveFolder))
    if not model.objective.has_prior:
        saver.best = before["psnr"]
    if last.is_file():
        check_checkpoint(last)
        report(f"going on from {last}")
    trainer.callbacks.append(_Report(report))
    trainer.fit(model, datamodule=data, ckpt_path=last if last.is_file() else None)
    if not model.objective.has_prior:
        kept = "best" if saver.best > before["psnr"] else "start"
    else:
        kept = "last"
        save(model, best)
    tuned = load(best)
    after = _measure(trainer, tuned, data)
    record = {"model": recipe["weights"], "photos": len(data.train_pictures), "held_out": names, "steps": trainer.max_steps,
              "kept": kept, "before": before, "after": after}  # fmt: skip
    with whole(output / "recipe.yaml") as beside:
        beside.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None))
    save(tuned, output)
    with whole(output / "finetune.json") as beside:
        beside.write_text(json.dumps(record, indent=1) + "\n")
    if artifact:
        from sr_zoo.tracking import log_weights

        log_weights(trainer, output)
    finish(trainer)
    for folder in (best, work / "pictures"):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (last, work / "last-good.ckpt"):
        path.unlink(missing_ok=True)
    return record


class _Report(Callback):
    """Tells each validation."""

    def __init__(self, report: Callable[[str], None]):
        self.report = report

    def on_validation_end(self, trainer: Trainer, model: SuperResolver) -> None:
        if trainer.state.fn == "fit":
            figure = float(trainer.callback_metrics["val/psnr"])
            self.report(f"step {trainer.global_step} of {trainer.max_steps}: {figure:.2f} dB")


def _measure(trainer: Trainer, model: SuperResolver, data) -> dict:
    """Figures on the held-out pictures, by name."""
    figures = trainer.validate(model, datamodule=data, verbose=False)[0]
    return {name.removeprefix("val/"): value for name, value in figures.items()}


def _begun(output: Path, source: Path, identity: dict, again: bool) -> dict | None:
    """What an earlier call with the same arguments noted in ``output``; None where it shall start."""
    note = output / "work" / "start.json"
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, expected a folder to write")
    if output.is_dir() and output.samefile(source):
        raise UserError(f"{output}: holds the model to start from; give another folder")
    if not note.is_file():
        strangers = [p.name for p in output.iterdir() if p.name != "work"] if output.is_dir() else []
        if strangers:
            raise UserError(f"{output}: holds {sorted(strangers)[0]} and no fine-tuning; give a new folder")
        return None
    if again:
        # What was measured of the earlier weights is not true of the next ones.
        for name in ("README.md", "results.json", *reversed(WRITTEN)):
            (output / name).unlink(missing_ok=True)
        shutil.rmtree(output / "work")
        return None
    try:
        begun = json.loads(note.read_text())
        changed = _changed(begun["identity"], identity)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{note}: damaged; --again starts anew") from None
    if changed:
        raise UserError(
            f"{output}: holds a fine-tuning that differs ({', '.join(changed)}); call it as before to go on, or with --again to "
            "start anew"
        )
    return begun


def _changed(before: dict, now: dict) -> list[str]:
    """Names of the settings that differ, however nested."""
    names = []
    for key in sorted({*before, *now}):
        one, two = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            names += _changed(one, two)
        elif one != two:
            names.append(key)
    return names


def _digest(*folders: str | Path | None) -> str:
    """Of the names, sizes and times of change of all pictures."""
    files = [p for folder in folders if folder is not None for p in find_pictures(expanded(folder))]
    stamps = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def _digest_of_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
