"""The training queue: kills at any moment change nothing in what comes out, and readers see old or new, never a mixture."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from benchmarks import zoo
from sr_zoo import AffMSE
from sr_zoo.files import exchange
from sr_zoo.hub import save

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Tiny.\n# sr-zoo fit --config {} {}--data.train TRAIN_PHOTOS --data.val HELD_OUT_PHOTOS\n"


def prepare(where: Path, folder: Path, picture, steps: int = 300) -> Path:
    """A checkout with one checkpoint of bad weights, whose recipe has two stages."""
    place = where / "checkpoints" / "tiny"
    torch.manual_seed(0)
    model = AffMSE(generator={"name": "residual", "width": 16, "depth": 1})
    torch.nn.init.normal_(model.generator.tail.weight, std=0.1)
    save(model, place)
    (place / "results.json").write_text('"old"')
    for name, run, weights in (("recipe-1", "tiny-1", ""), ("recipe", "tiny", "--weights runs/tiny-1/best ")):
        recipe = yaml.safe_load((ROOT / "checkpoints/affmse-x4/recipe.yaml").read_text())
        recipe["model"]["init_args"].update(generator={"name": "residual", "width": 16, "depth": 1}, warmup_steps=5)
        recipe["data"].update(crop_size=32, batch_size=2, cache_dir=str(where / "cache"), also=[])
        recipe["trainer"].update(
            precision="32-true", max_steps=steps, val_check_interval=20, enable_progress_bar=False, log_every_n_steps=1
        )
        for callback in recipe["trainer"]["callbacks"]:
            key = "folder" if "folder" in callback["init_args"] else "dirpath"
            callback["init_args"][key] = f"runs/{run}" + "/best" * (key == "folder")
            if "every_n_steps" in callback["init_args"]:
                callback["init_args"]["every_n_steps"] = 5
        recipe["trainer"]["logger"]["init_args"]["save_dir"] = f"runs/{run}"
        header = HEADER.format(f"checkpoints/tiny/{name}.yaml", weights)
        (place / f"{name}.yaml").write_text(header + yaml.safe_dump(recipe))
    (where / "sets" / "Set5").mkdir(parents=True)
    Image.fromarray(picture).save(where / "sets" / "Set5" / "a.png")
    return place


def queue(where: Path, folder: Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.zoo", *more, "--train", str(folder), "--val", str(folder), "--data", "sets"]
    with open(where / "out", "a") as out:
        return subprocess.Popen([*command, "--sets", "Set5"], cwd=where, env=environment, stdout=out, stderr=out)


class Reader(threading.Thread):
    """Reads weights and results of a folder again and again, both through one open folder: what was there at one moment."""

    def __init__(self, place: Path):
        super().__init__(daemon=True)
        self.place, self.seen, self.ended, self.missing = place, set(), False, 0

    def run(self) -> None:
        while not self.ended:
            try:
                folder = os.open(self.place, os.O_RDONLY)
            except FileNotFoundError:
                self.missing += 1
                continue
            try:
                self.seen.add(tuple(self._read(folder, name) for name in ("results.json", "model.safetensors")))
            except FileNotFoundError:
                pass  # the old folder was removed while it was read
            finally:
                os.close(folder)

    @staticmethod
    def _read(folder: int, name: str) -> bytes:
        with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
            return file.read()


def test_three_kills_change_nothing(tmp_path, folder, picture):
    dice = random.Random(time.time_ns())
    undisturbed = prepare(tmp_path / "calm", folder, picture)
    assert queue(tmp_path / "calm", folder, "tiny").wait() == 0, (tmp_path / "calm" / "out").read_text()
    wanted = (undisturbed / "model.safetensors").read_bytes()

    where = tmp_path / "killed"
    place = prepare(where, folder, picture)
    old = ((place / "results.json").read_bytes(), (place / "model.safetensors").read_bytes())
    assert old[1] != wanted
    reader, kills = Reader(place), 0
    reader.start()
    # Each at a random moment after the queue has got so far. A stage takes seconds from there: at least the first is cut short.
    for begun in (Path("runs/tiny-1/last.ckpt"), Path("runs/tiny/last.ckpt"), Path("runs/tiny/best/model.safetensors")):
        process = queue(where, folder, *([] if kills else ["tiny"]))
        while process.poll() is None and not (where / begun).is_file():
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert queue(where, folder).wait() == 0, (where / "out").read_text()
    reader.ended = True
    reader.join()
    assert kills >= 2, "the trainings were over before they were killed"
    log = (where / "runs" / "zoo.log").read_text()
    assert "goes on" in log
    # A training that began anew would end the same: that it went on shows in the step at which its log begins.
    first = next(csv.DictReader((where / "runs/tiny-1/version_1/metrics.csv").open()))
    assert int(first["step"]) >= 4
    assert (place / "model.safetensors").read_bytes() == wanted, log
    new = ((place / "results.json").read_bytes(), wanted)
    assert json.loads(new[0])[0]["model"] == "tiny"
    assert reader.seen <= {old, new} and old in reader.seen and not reader.missing
    assert sorted(p.name for p in (where / "checkpoints").iterdir()) == ["tiny"], "nothing is left behind"


def test_worse_weights_do_not_replace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    monkeypatch.setattr(zoo, "held_out", lambda stage, folder, options: 30.0)
    monkeypatch.setattr(zoo, "exchange", lambda *_: pytest.fail("replaced"))
    prepare(tmp_path, tmp_path, np.zeros((8, 8, 3), "uint8"))
    *_, last = zoo.stages_of(Path("checkpoints/tiny"))
    zoo.deliver(last, None)
    assert "stays" in Path("runs/zoo.log").read_text()


def test_what_is_due_and_in_which_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = sorted(p.parent for p in Path("checkpoints").glob("*/recipe.yaml"))
    names = [str(s) for s in zoo.in_order([s for f in folders for s in zoo.stages_of(f)])]
    assert len(set(names)) == len(names) == len(list(Path("checkpoints").glob("*/recipe*.yaml")))
    for first, then in (("affmse-x4/recipe-1", "mse-x4/recipe"), ("affmse-x4/recipe", "affmse-x2/recipe"),
                        ("mse-x4/recipe", "softgan-x4/recipe"), ("affgan-x4/recipe-1", "affgan-x4/recipe-2")):  # fmt: skip
        assert names.index(f"{first}.yaml") < names.index(f"{then}.yaml")


def noted(monkeypatch, *failing: str) -> list[str]:
    """The stages that the queue works on, of which some fail; nothing is trained."""
    done = []

    def train(stage, options):
        done.append(str(stage))
        if str(stage) in failing:
            raise ValueError("no")

    monkeypatch.setattr(zoo, "train", train)
    monkeypatch.setattr(zoo, "deliver", lambda stage, options: None)
    return done


def run_queue(monkeypatch, *names: str) -> int:
    monkeypatch.setattr("sys.argv", ["zoo", *names, "--train", "x", "--val", "x"])
    return zoo.main()


def test_a_changed_recipe_and_a_named_one_begin_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = prepare(tmp_path, tmp_path, np.zeros((8, 8, 3), "uint8"))
    done, both = noted(monkeypatch), ["tiny/recipe-1.yaml", "tiny/recipe.yaml"]
    assert run_queue(monkeypatch) == 0 and done == [], "weights are there, and nothing was begun"
    assert run_queue(monkeypatch, "tiny") == 0 and done == both
    assert run_queue(monkeypatch) == 0 and done == both, "all is over"

    Path("runs/tiny/last.ckpt").touch()
    (place / "recipe.yaml").write_text((place / "recipe.yaml").read_text().replace("max_steps: 300", "max_steps: 301"))
    assert run_queue(monkeypatch) == 0 and done[2:] == both[1:], "only what changed"
    assert not Path("runs/tiny/last.ckpt").exists() and len(list(Path("runs").glob("tiny.old-*/last.ckpt"))) == 1

    Path("runs/tiny/last.ckpt").touch()
    assert run_queue(monkeypatch, "tiny") == 0 and done[3:] == both
    assert not Path("runs/tiny/last.ckpt").exists()


def test_what_an_earlier_stage_outdates_begins_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = prepare(tmp_path, tmp_path, np.zeros((8, 8, 3), "uint8"))
    done, both = noted(monkeypatch), ["tiny/recipe-1.yaml", "tiny/recipe.yaml"]
    assert run_queue(monkeypatch, "tiny") == 0
    first = place / "recipe-1.yaml"
    first.write_text(first.read_text().replace("max_steps: 300", "max_steps: 301"))
    assert run_queue(monkeypatch) == 0 and done[2:] == both

    noted(monkeypatch, both[1])
    assert run_queue(monkeypatch, "tiny") == 1
    Path("runs/tiny/last.ckpt").touch()  # begun, and stopped
    done = noted(monkeypatch)
    first.write_text(first.read_text().replace("max_steps: 301", "max_steps: 302"))
    assert run_queue(monkeypatch) == 0 and done == both
    assert not Path("runs/tiny/last.ckpt").exists(), "it would have gone on from what is no more"


def test_who_starts_from_what_failed_waits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, tmp_path, np.zeros((8, 8, 3), "uint8"))
    done = noted(monkeypatch, "tiny/recipe-1.yaml")
    assert run_queue(monkeypatch, "tiny") == 1 and done == ["tiny/recipe-1.yaml"]
    assert "waits for tiny/recipe-1.yaml" in Path("runs/zoo.log").read_text()
    done = noted(monkeypatch)
    assert run_queue(monkeypatch) == 0 and done == ["tiny/recipe-1.yaml", "tiny/recipe.yaml"], "both are still due"


def test_ctrl_c_ends_the_queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, tmp_path, np.zeros((8, 8, 3), "uint8"))

    def train(stage, options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    monkeypatch.setattr(zoo, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run_queue(monkeypatch, "tiny")


def test_a_second_queue_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zoo.alone(), pytest.raises(SystemExit, match="another queue"), zoo.alone():
        pass


def test_exchange_is_of_whole_folders(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").is_file() and (tmp_path / "b" / "a").is_file()
    with pytest.raises(OSError):
        exchange(tmp_path / "a", tmp_path / "none")
    assert (tmp_path / "a" / "b").is_file()
