"""The training queue: ``python -m benchmarks.zoo --train PHOTOS --val HELD_OUT [--data BENCHMARKS] [NAME …]`` (or ``make zoo``).

One training after another, by the commands that the recipes in checkpoints/*/recipe*.yaml carry in their first lines. Due is
what was begun and not finished, what has no weights yet, whose recipe changed since it was begun here, and what is named. The
last stage is due, too, when an earlier one of the same name is: what it had made no longer starts from that. A
training that was killed goes on from its last.ckpt, exactly: start the queue again. One whose recipe changed, or that is named though
it was finished, begins anew, and what it had made stays in runs/ under another name. One that fails stops none but those that
start from it. The queue's own lines go to runs/zoo.log, those of a training to the log beside its last.ckpt.

When a training is over and its weights are better than those in checkpoints/NAME on the *held-out* pictures, the folder is
replaced as a whole, weights, config, results and card in one step. What follows a discriminator is not judged by PSNR: its weights
stay in runs/.

Run it in the checkout's root; a second one beside it refuses to start.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml
from lightning.pytorch import Trainer

from benchmarks.readme import DATASETS, LICENCE, PICTURES, STORIES
from sr_zoo import SRDataModule, hub, load, training
from sr_zoo.benchmark import SETS, benchmark, write_results
from sr_zoo.card import model_card
from sr_zoo.errors import one_line
from sr_zoo.files import exchange, whole

CHECKPOINTS, RUNS = Path("checkpoints"), Path("runs")
WEIGHTS = "model.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="train these, due or not (default: what is due)")
    parser.add_argument("--train", required=True, help="folder of training photographs")
    parser.add_argument("--val", required=True, help="folder of held-out ones, which decide; never a benchmark set")
    parser.add_argument("--data", help="folder of the benchmark sets, for results.json; downloaded otherwise")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--list", action="store_true", help="say what is due, and train nothing")
    options = parser.parse_args()
    with alone():
        for left in CHECKPOINTS.glob(".zoo-*"):  # of a queue that was killed
            shutil.rmtree(left, ignore_errors=True)
        stages = in_order([s for f in sorted(CHECKPOINTS.iterdir()) if (f / "recipe.yaml").is_file() for s in stages_of(f)])
        if unknown := set(options.names) - {s.name for s in stages}:
            raise SystemExit(f"{', '.join(sorted(unknown))}: no checkpoints/NAME/recipe.yaml")
        due = []
        for stage in stages:
            if stage.name in options.names or stage.due or stage.outdated_by(due):
                due.append(stage)
        say(f"due: {', '.join(map(str, due)) or 'nothing'}")
        if options.list:
            return 0
        for stage in due:
            changed = stage.state.get("recipe", stage.recipe_hash) != stage.recipe_hash
            if stage.state.get("over") or changed or (stage.begun and stage.outdated_by(due)):
                stage.set_aside()
            if not stage.state:
                stage.note()  # it stays due if the queue is killed
        return work_off_all(due, options)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One recipe: of the last stage come the weights in checkpoints/``name``."""

    name: str
    path: Path
    command: tuple[str, ...]
    recipe: dict
    last: bool

    def callback(self, name: str) -> dict:
        found = [c["init_args"] for c in self.recipe["trainer"]["callbacks"] if c["class_path"].endswith(f".{name}")]
        if not found:
            raise SystemExit(f"{self.path}: trainer.callbacks has no {name}, so the queue cannot go on with it")
        return found[0]

    @property
    def run(self) -> Path:
        return Path(self.callback("Resume")["dirpath"])

    @property
    def product(self) -> Path:
        return Path(self.callback("SaveFolder")["folder"])

    @property
    def needs(self) -> set[str]:
        """Folders and names that it starts from."""
        return {self.recipe.get(k) for k in ("weights", "prior")} | {
            after for word, after in zip(self.command, self.command[1:]) if word in ("--weights", "--prior")
        }

    @property
    def state(self) -> dict:
        path = self.run / "zoo.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    @property
    def recipe_hash(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def due(self) -> bool:
        state = self.state
        if state:
            return not state.get("over") or state["recipe"] != self.recipe_hash
        return not (CHECKPOINTS / self.name / WEIGHTS).is_file()

    @property
    def begun(self) -> bool:
        return (self.run / "last.ckpt").is_file()

    def outdated_by(self, due: list["Stage"]) -> bool:
        """Whether a stage of the same name that it starts from is yet to be trained."""
        return any(self.name == other.name and self.starts_from(other) for other in due)

    def set_aside(self) -> None:
        """What it has made stays, where nothing goes on from it."""
        names = (self.run.with_name(f"{self.run.name}.old-{i}") for i in itertools.count(1))
        self.run.rename(next(name for name in names if not name.exists()))

    def starts_from(self, other: "Stage") -> bool:
        earlier = other.name == self.name and not other.last and self.last
        made = str(other.product) in self.needs or (other.last and other.name in self.needs)
        return other is not self and (earlier or made)

    def note(self, **state) -> None:
        """What the queue knows of it, from then on also after a kill."""
        with whole(self.run / "zoo.json") as beside:
            beside.write_text(json.dumps({"recipe": self.recipe_hash, **state}))

    def __str__(self) -> str:
        return f"{self.name}/{self.path.name}"


def stages_of(folder: Path) -> list[Stage]:
    out = []
    for path in [*sorted(folder.glob("recipe-*.yaml")), folder / "recipe.yaml"]:
        lines = [line for line in path.read_text().splitlines() if line.startswith("# sr-zoo fit ")]
        if len(lines) != 1:
            raise SystemExit(f"{path}: expected one line that begins with '# sr-zoo fit', found {len(lines)}")
        command = tuple(shlex.split(lines[0])[2:])
        out.append(Stage(folder.name, path, command, yaml.safe_load(path.read_text()), path.name == "recipe.yaml"))
    return out


def in_order(stages: list[Stage]) -> list[Stage]:
    """Each behind those whose product it starts from."""
    ordered = []

    def visit(stage: Stage, above: tuple = ()) -> None:
        if stage in above:
            raise SystemExit(f"{stage.path}: starts, by way of others, from itself")
        if stage in ordered:
            return
        for other in stages:
            if stage.starts_from(other):
                visit(other, (*above, stage))
        ordered.append(stage)

    for stage in stages:
        visit(stage)
    return ordered


def work_off_all(due: list[Stage], options) -> int:
    """In their order; 1 where any failed."""
    failed = []
    for stage in due:
        if found := [s for s in failed if stage.starts_from(s)]:
            say(f"{stage}: waits for {found[0]}, which is not finished")
            failed.append(stage)
        elif work_off(stage, options):
            failed.append(stage)
    return 1 if failed else 0


def work_off(stage: Stage, options) -> int:
    """Train, and deliver what a last stage made; 1 where that failed.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        if stage.state.get("trained") != stage.recipe_hash:
            train(stage, options)
        if stage.last:
            deliver(stage, options)
        stage.note(trained=stage.recipe_hash, over=True)
        return 0
    except (Exception, SystemExit) as error:  # whatever it was, the others shall have their turn
        # Lightning makes a SystemExit of Ctrl-C, and lets no second one through.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        say(f"{stage}: FAILED, {one_line(error)}")
        return 1


def train(stage: Stage, options) -> None:
    photos = {"TRAIN_PHOTOS": options.train, "HELD_OUT_PHOTOS": options.val}
    arguments = [photos.get(word, word) for word in stage.command]
    last = stage.run / "last.ckpt"
    if last.is_file():
        arguments += ["--ckpt_path", str(last)]
    else:
        stage.note()  # begun
    log = stage.run / "log"
    say(f"{stage}: {'goes on' if last.is_file() else 'begins'}, log {log}")
    with open(log, "a", buffering=1) as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        training.run(arguments)
    stage.note(trained=stage.recipe_hash)
    say(f"{stage}: trained")


def deliver(stage: Stage, options) -> None:
    """Replace checkpoints/NAME where the new weights are better on the held-out pictures."""
    place, monitor = CHECKPOINTS / stage.name, stage.callback("SaveFolder").get("monitor", "val/psnr")
    if monitor != "val/psnr":
        say(f"{stage}: in {stage.product}; PSNR does not judge it, so look at it and copy it yourself")
        return
    new = held_out(stage, stage.product, options)
    old = held_out(stage, place, options) if (place / WEIGHTS).is_file() else float("-inf")
    if not new > old:
        say(f"{stage}: {new:.3f} dB on held-out pictures, kept is {old:.3f}: checkpoints/{stage.name} stays")
        return
    with tempfile.TemporaryDirectory(dir=CHECKPOINTS, prefix=".zoo-") as beside:
        folder = Path(beside) / stage.name
        shutil.copytree(place, folder)
        model = load(hub.save(load(stage.product), folder, half=True))  # what is measured is what is stored
        rows = benchmark([(stage.name, model)], options.sets, options.data, (model.scale,))
        write_results(rows, folder)
        card = model_card(folder, PICTURES, LICENCE, STORIES.get(stage.name, ""), DATASETS)
        (folder / "README.md").write_text(card)
        exchange(folder, place)
    say(
        f"{stage}: {new:.3f} dB on held-out pictures instead of {old:.3f}: checkpoints/{stage.name} replaced; now make readme"
    )


def held_out(stage: Stage, folder: Path, options) -> float:
    data = {**stage.recipe["data"], "train": options.train, "val": options.val}
    trainer = Trainer(
        accelerator=stage.recipe["trainer"].get("accelerator", "auto"), devices=1, logger=False, enable_progress_bar=False,
        precision=stage.recipe["trainer"].get("precision"), enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    return trainer.validate(load(folder), datamodule=SRDataModule(**data), verbose=False)[0]["val/psnr"]


@contextlib.contextmanager
def alone():
    """A lock that ends with the process, however that ends.

    Raises:
        SystemExit: another queue holds it.
    """
    import fcntl

    RUNS.mkdir(exist_ok=True)
    with open(RUNS / "zoo.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit("another queue is at work here (runs/zoo.lock)") from None
        yield


def say(line: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"
    print(line, flush=True)
    with open(RUNS / "zoo.log", "a") as log:
        log.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
