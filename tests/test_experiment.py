"""Trainings of the experiments: done once, gone on with, started from one another."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import experiment
from sr_zoo import AffDAE, AffMSE, SRDataModule

TINY = {"generator": {"name": "residual", "width": 16, "depth": 1}}
DENOISER = {"network": {"name": "unshuffled", "width": 8, "depth": 1}}


@pytest.fixture
def data(folder, tmp_path):
    return lambda: SRDataModule(str(folder), None, 2, 32, cache_dir=str(tmp_path / "cache"))


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_training_that_was_stopped_ends_as_one_that_was_not(data, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.Resume, "__init__", lambda self, folder, _: every_two(self, folder))

    def every_two(callback, folder):
        callback.path, callback.every_n_steps = experiment.Path(folder) / "last.ckpt", 2

    class Stop(experiment.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 4:
                raise KeyboardInterrupt

    whole = experiment.train("a", lambda: AffMSE(**TINY), data(), 6, tmp_path / "whole")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        experiment.train("a", lambda: AffMSE(**TINY), data(), 6, tmp_path / "parts", callbacks=(Stop(),))
    assert (tmp_path / "parts" / "a" / "last.ckpt").is_file()
    seen = []

    class Note(experiment.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(trainer.global_step)

    parts = experiment.train("a", lambda: AffMSE(**TINY), data(), 6, tmp_path / "parts", callbacks=(Note(),))
    assert same(whole, parts) and seen == [4, 5, 6], "the first three steps were not done again"
    assert not same(whole, AffMSE(**TINY))
    again = experiment.train("a", lambda: AffMSE(**TINY), None, 6, tmp_path / "parts")
    assert same(again, parts), "without data: it was not trained again"


def test_a_training_starts_from_the_generator_and_the_prior_of_others(data, tmp_path):
    first = experiment.train("first", lambda: AffMSE(**TINY), data(), 3, tmp_path)
    alone = {"objective": DENOISER, "prior_start": 10**9}
    prior = experiment.train("prior", lambda: AffDAE(**TINY, **alone), data(), 3, tmp_path)
    still = {"objective": DENOISER, "prior_steps": 0, "learning_rate": 0.0}
    both = experiment.train("both", lambda: AffDAE(**TINY, **still), data(), 2, tmp_path, start=first, prior=prior)
    assert same(both.generator, first.inference_generator) and same(both.objective, prior.objective)


def test_curve_holds_what_was_measured(data, tmp_path):
    curve = experiment.Curve(tmp_path / "curve.json", lambda model: {"training": model.training})
    experiment.train("a", lambda: AffMSE(**TINY), data(), 30, tmp_path, callbacks=(curve,))
    assert json.loads((tmp_path / "curve.json").read_text()) == [[0, {"training": False}], [25, {"training": False}]]
    assert experiment.Curve(tmp_path / "curve.json", None).read() == curve.points


def test_pictures_are_written_once_and_sheets_show_them(tmp_path):
    picture = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    folder = experiment.save_pictures([picture], tmp_path / "pictures")
    assert np.array_equal(np.array(Image.open(folder / "00000.png")), picture)
    assert experiment.save_pictures([], folder) == folder and len(list(folder.iterdir())) == 1
    experiment.sheet([[picture, picture]], ["a", "b"], tmp_path / "sheet.png", 8)
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert np.array_equal(sheet[22:30:2, 0:8:2], picture) and np.array_equal(sheet[22:30:2, 12:20:2], picture)


def test_missing_data_is_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="--data: give the folder"):
        experiment.find_files(None, ("*.jpg",))
    with pytest.raises(SystemExit, match=r"holds no \*.jpg"):
        experiment.find_files(tmp_path, ("*.jpg",))
