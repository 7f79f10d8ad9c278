"""What the paper's experiments on pictures share: trainings that resume, curves of what they reach, sheets of pictures."""

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.common import RESULTS, ROOT, parsed
from sr_zoo.data import SRDataModule
from sr_zoo.files import whole
from sr_zoo.generators import start_from
from sr_zoo.methods import SuperResolver
from sr_zoo.training import Resume

__all__ = ["Curve", "array", "find_files", "options", "save_pictures", "sheet", "train"]


def options(name: str, doc: str, data: str) -> argparse.Namespace:
    """The command line of an experiment; with ``--again`` what was kept of it is gone."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, help=data)
    parser.add_argument("--quick", action="store_true", help="few steps on noise: only to see that it runs; needs no data")
    parser.add_argument("--again", action="store_true", help="train all methods anew")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / name)
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    given = parsed(parser)
    if given.again:
        shutil.rmtree(given.runs, ignore_errors=True)
    return given


def train(
    name: str,
    make: Callable[[], SuperResolver],
    data: SRDataModule,
    steps: int,
    folder: Path,
    start: SuperResolver | None = None,
    prior: SuperResolver | None = None,
    callbacks: tuple[Callback, ...] = (),
    **hardware,
) -> SuperResolver:
    """The model that ``make`` makes, after ``steps`` of training; at once where ``folder/name`` holds it already.

    A training that was stopped goes on where it was.

    Args:
        start: whose generator it starts from.
        prior: whose objective's network it starts from.
        hardware: for the Trainer, where it is not the processor that trains.
    """
    seed_everything(0, verbose=False)
    model, done, last = make(), folder / name / "done.ckpt", folder / name / "last.ckpt"
    if not done.is_file():
        if start is not None:
            start_from(model.generator, start.inference_generator)
        if prior is not None:
            model.objective.load_state_dict(prior.objective.state_dict())
        print(f"{name}: {steps} steps", flush=True)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = Trainer(
            **{"accelerator": "cpu", **hardware}, devices=1, precision="bf16-mixed", max_steps=steps, logger=False,
            enable_checkpointing=False, enable_model_summary=False, limit_val_batches=0,
            callbacks=[*callbacks, Resume(str(last.parent), 500)],
        )  # fmt: skip
        trainer.fit(model, datamodule=data, ckpt_path=last if last.is_file() else None)
        with whole(done) as beside:
            trainer.save_checkpoint(beside)
        last.unlink(missing_ok=True)
    model.setup("fit")
    model.load_state_dict(torch.load(done, "cpu", weights_only=True)["state_dict"])
    return model.eval()


class Curve(Callback):
    """Notes figures of the averaged generator now and then, often at first; ``path`` holds ``[[step, figures], …]`` as JSON."""

    def __init__(self, path: Path, measure: Callable[[SuperResolver], dict]):
        self.path, self.measure, self.points = path, measure, []

    def on_train_start(self, trainer: Trainer, model: SuperResolver) -> None:
        if not self.points:
            self._note(0, model)

    def on_train_batch_end(self, trainer: Trainer, model: SuperResolver, *_) -> None:
        step = trainer.global_step
        if step % 500 == 0 or step in (25, 50, 100, 200, 350):
            self._note(step, model)

    def read(self) -> list:
        """The points, also of a training that was done before."""
        return self.points or json.loads(self.path.read_text())

    def _note(self, step: int, model: SuperResolver) -> None:
        model.eval()
        self.points.append([step, self.measure(model)])
        model.train()
        with whole(self.path) as beside:
            beside.write_text(json.dumps(self.points))

    def state_dict(self) -> dict:
        return {"points": self.points}

    def load_state_dict(self, state: dict) -> None:
        self.points = state["points"]


def save_pictures(pictures, folder: Path) -> Path:
    """PNG files of uint8 arrays, once: what the data module reads."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            (Path(beside) / folder.name).mkdir()
            for i, picture in enumerate(pictures):
                Image.fromarray(picture).save(Path(beside) / folder.name / f"{i:05}.png", compress_level=1)
            (Path(beside) / folder.name).rename(folder)
    return folder


def find_files(folder: Path | None, patterns: tuple[str, ...]) -> list[Path]:
    """The files of ``--data``.

    Raises:
        SystemExit: no folder given, or none of these files in it; the message is one line.
    """
    if folder is None:
        raise SystemExit(f"--data: give the folder that holds {', '.join(patterns)} (or --quick, which needs none)")
    files = sorted(p for pattern in patterns for p in folder.glob(pattern))
    if not files:
        raise SystemExit(f"--data {folder}: holds no {', '.join(patterns)}")
    return files


def array(picture: Tensor) -> np.ndarray:
    """``(3, height, width)`` in [0, 1] → uint8 ``(height, width, 3)``."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def sheet(rows: list[list[np.ndarray]], titles: list[str], path: Path, side: int) -> None:
    """Rows of pictures, each enlarged to ``side`` pixels without smoothing, under their titles."""
    canvas = Image.new("RGB", (len(titles) * (side + 4) - 4, len(rows) * (side + 4) + 20), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        pen.text((column * (side + 4), 2), title, fill="black", font=font)
        for row, pictures in enumerate(rows):
            panel = Image.fromarray(pictures[column]).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(panel, (column * (side + 4), 22 + row * (side + 4)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as beside:
        canvas.save(beside, optimize=True)
