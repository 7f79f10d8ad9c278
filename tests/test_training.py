"""Training: recipes run, a killed one goes on exactly, a diverged one says so and keeps good weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors.torch import load_file

import sr_zoo
from sr_zoo.cli import main
from sr_zoo.hub import save
from sr_zoo.training import Compile, Graphed

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def recipe(folder, tmp_path):
    """The recipe of affmse-x4, made small; returns a function (changes) → command line."""

    def make(where: Path, steps: int, method: str = "AffMSE", monitor: str = "val/psnr", **model):
        config = yaml.safe_load((ROOT / "checkpoints/affmse-x4/recipe.yaml").read_text())
        if method != "AffMSE":
            config["model"]["class_path"] = f"sr_zoo.methods.{method}"
            del config["model"]["init_args"]["objective"]
        config["model"]["init_args"].update(
            {"generator": {"name": "residual", "width": 16, "depth": 1}, "warmup_steps": 5, **model}
        )
        config["data"].update(
            train=str(folder), val=str(folder), crop_size=32, batch_size=2, cache_dir=str(tmp_path / "cache"), also=[]
        )
        config["trainer"].update(
            precision="32-true", max_steps=steps, val_check_interval=min(20, steps), log_every_n_steps=1
        )
        for callback in config["trainer"]["callbacks"]:
            arguments = callback["init_args"]
            if "folder" in arguments:
                arguments.update(folder=str(where / "best"), monitor=monitor)
            else:
                arguments["dirpath"] = str(where)
            if "every_n_steps" in arguments:
                arguments["every_n_steps"] = 10
        config["trainer"]["logger"]["init_args"]["save_dir"] = str(where)
        path = where.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(config))
        return ["fit", "--config", str(path)]

    return make


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def start(arguments, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "sr_zoo", *arguments], env=environment, **options)


GAN = {
    "method": "AffGAN", "prior_steps": 2, "prior_start": 15, "noise_channels": 2, "prior_learning_rate": 1e-3, "optimizer": "adam",
    "objective": {"network": {"name": "strided", "width": 8, "pairs": 2}, "noise_target": 1.2, "hold_above": 1.38},
}  # fmt: skip


@pytest.mark.parametrize(
    "moment, changes", [("first", {}), ("validated", {}), ("validated", GAN)], ids=["first", "validated", "gan"]
)
def test_killed_and_resumed_equals_undisturbed(moment, changes, recipe, tmp_path):
    """Killed after the first checkpoint that is kept, or after the one that follows a validation."""
    undisturbed = tmp_path / "whole"
    assert start(recipe(undisturbed, 60, **changes), **QUIET).wait() == 0
    command, where = recipe(tmp_path / "killed", 60, **changes), tmp_path / "killed"
    process, last, best = start(command, **QUIET), where / "last.ckpt", where / "best" / "config.json"

    def reached() -> bool:
        if moment == "first":
            return last.exists()
        return best.exists() and last.stat().st_mtime_ns > best.stat().st_mtime_ns

    while not reached():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(last, weights_only=False)["global_step"]
    assert step < 60 and (step >= 20) == (moment == "validated"), "must have been killed there"
    assert start([*command, "--ckpt_path", str(last)], **QUIET).wait() == 0

    one, two = (torch.load(p / "last.ckpt", weights_only=False) for p in (undisturbed, where))
    assert one["global_step"] == two["global_step"] == 60
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert all(torch.equal(v, two["state_dict"][k]) for k, v in one["state_dict"].items())
    assert one["callbacks"] == two["callbacks"]
    for file in (undisturbed / "best").glob("*.safetensors"):
        one, two = load_file(file), load_file(where / "best" / file.name)
        assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert sorted(p.name for p in where.glob("version_*")) == ["version_0", "version_1"], "the log before the kill is kept"


def test_a_recipe_trains_and_leaves_a_checkpoint_folder(recipe, tmp_path, picture):
    assert main(recipe(tmp_path / "run", 40, learning_rate=2e-3)) == 0
    model = sr_zoo.load(tmp_path / "run" / "best")
    assert model.config["generator"]["width"] == 16
    assert sr_zoo.upscale(picture, model).size == (224, 160)
    header, *lines = (tmp_path / "run" / "version_0" / "metrics.csv").read_text().splitlines()
    assert {"loss/generator", "psnr", "val/psnr", "val/lr_psnr"} <= set(header.split(","))
    losses = [float(line.split(",")[header.split(",").index("loss/generator")] or "nan") for line in lines]
    losses = [x for x in losses if x == x]
    assert sum(losses[-10:]) < sum(losses[:10])

    assert int(torch.load(tmp_path / "run" / "last.ckpt")["state_dict"]["ema.n_averaged"]) == 40

    # Its weights can be measured, and gone on from.
    (tmp_path / "more").mkdir()
    assert main([*recipe(tmp_path / "more", 1, learning_rate=0.0), "--weights", str(tmp_path / "run" / "best")]) == 0
    kept, started = (load_file(tmp_path / n / "best" / "model.safetensors") for n in ("run", "more"))
    assert all(torch.equal(v, started[k]) for k, v in kept.items())
    # A deeper network starts as the shallower one it grows from.
    deeper = {"name": "residual", "width": 16, "depth": 3}
    grown = [
        *recipe(tmp_path / "grown", 1, learning_rate=0.0, generator=deeper),
        "--weights",
        str(tmp_path / "run" / "best"),
    ]
    assert main(grown) == 0
    grown = sr_zoo.load(tmp_path / "grown" / "best")
    assert grown.config["generator"]["depth"] == 3
    assert sr_zoo.upscale(picture, grown, "float32") == sr_zoo.upscale(picture, model, "float32")
    command = recipe(tmp_path / "measure", 1)
    assert main(["validate", *command[1:], "--weights", str(tmp_path / "run" / "best")]) == 0


def test_divergence_is_one_line_and_keeps_good_weights(recipe, tmp_path, capsys):
    assert main(recipe(tmp_path / "run", 40, learning_rate=1e30, warmup_steps=1, optimizer="adam")) == 1
    error = capsys.readouterr().err
    line = [x for x in error.splitlines() if x.startswith("sr-zoo: ")]
    assert len(line) == 1 and "at step" in line[0] and "learning_rate" in line[0]
    kept = torch.load(tmp_path / "run" / "last-good.ckpt", weights_only=False)["state_dict"]
    assert all(torch.isfinite(v).all() for v in kept.values())


def test_a_resumed_training_takes_the_learning_rate_asked_for_now(recipe, tmp_path):
    assert main(recipe(tmp_path / "run", 20)) == 0
    last = tmp_path / "run" / "last.ckpt"
    assert main([*recipe(tmp_path / "run", 40, learning_rate=1e-4), "--ckpt_path", str(last)]) == 0
    kept = torch.load(last, weights_only=False)
    assert all(s["base_lrs"] == [1e-4] * len(s["base_lrs"]) for s in kept["lr_schedulers"])


def failing(recipe, tmp_path):
    """Command lines that cannot run, and what each says."""
    (tmp_path / "cut.ckpt").write_bytes(b"PK nonsense")
    torch.save([1], tmp_path / "list.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    assert main(recipe(tmp_path / "other", 10)) == 0
    fit = recipe(tmp_path / "run", 5)
    logged = yaml.safe_load(Path(fit[-1]).read_text()) | {"ckpt_path": str(tmp_path / "cut.ckpt")}
    (tmp_path / "logged.yaml").write_text(yaml.safe_dump(logged))
    wider = recipe(tmp_path / "run", 5, generator={"name": "residual", "width": 32, "depth": 1})
    save(sr_zoo.AffMSE(generator={"name": "residual", "width": 24, "depth": 1}), tmp_path / "wider")
    return [
        ([*fit, "--ckpt_path", str(tmp_path / "cut.ckpt")], "cut.ckpt: not a training checkpoint"),
        ([*fit, "--ckpt_path", str(tmp_path / "none.ckpt")], "none.ckpt: not a training checkpoint"),
        ([*wider, "--ckpt_path", str(tmp_path / "other" / "last.ckpt")], "do not fit this model"),
        ([*fit, "--ckpt_path", str(tmp_path / "list.ckpt")], "list.ckpt: not a training checkpoint"),
        ([*fit, "--ckpt_path", str(tmp_path / "weights.ckpt")], "weights.ckpt: not a training checkpoint"),
        (["fit", "--config", str(tmp_path / "logged.yaml")], "cut.ckpt: not a training checkpoint"),
        ([*fit, "--weights", "afmse-x4"], "did you mean 'affmse-x4'?"),
        ([*fit, "--weights", str(tmp_path / "wider")], "of another network"),
        ([*fit, "--trainer.max_steps", "-1", "--trainer.max_epochs", "1"], "trainer.max_steps: not given"),
        ([*fit, "--data.draw", "size"], "data.draw"),
        ([*fit, "--model.init_args.optimizer", "sgd"], "optimizer: 'sgd'"),
        (["validate", *fit[1:]], "nothing to measure"),
    ]


def test_what_cannot_run_is_one_line(recipe, tmp_path, capsys):
    for arguments, message in failing(recipe, tmp_path):
        capsys.readouterr()
        assert main(arguments) == 1, message
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("sr-zoo: ")]
        assert len(lines) == 1 and message in lines[0]


def test_a_training_that_does_not_start_overwrites_nothing(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last-good.ckpt").write_bytes(b"precious")
    assert main([*recipe(tmp_path / "run", 5), "--data.train", str(tmp_path / "nowhere")]) == 1
    assert (tmp_path / "run" / "last-good.ckpt").read_bytes() == b"precious"


def test_wrong_folders_are_one_line(recipe, tmp_path, capsys):
    assert main([*recipe(tmp_path / "run", 5), "--data.train", str(tmp_path / "nowhere")]) == 1
    line = [x for x in capsys.readouterr().err.splitlines() if x.startswith("sr-zoo: ")]
    assert len(line) == 1 and "nowhere: no such folder" in line[0]


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_optimizers_hold_every_parameter_once(optimizer, model):
    from sr_zoo.optimizers import make_optimizers

    held = [id(p) for o in make_optimizers(model.generator, optimizer, 1e-3) for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.generator.parameters())


@pytest.mark.parametrize("noise_channels", [0, 16])
def test_muon_is_for_inner_layers_however_many_channels_the_first_has(noise_channels):
    from sr_zoo.optimizers import Muon, make_optimizers

    network = sr_zoo.AffMSE(generator={"name": "residual", "width": 16, "depth": 1}, noise_channels=noise_channels).generator
    (muon,) = (o for o in make_optimizers(network, "muon", 1e-3) if isinstance(o, Muon))
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    block = network.body[0]
    assert held == {id(layer.weight) for layer in (block.first, block.second, network.join)}


def test_muon_orthogonalises():
    """Singular values of an update are near one another, whatever those of the gradient."""
    from sr_zoo.optimizers import Muon

    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 16, 3, 3))
    weight.grad = torch.randn(16, 16, 3, 3) * torch.logspace(0, -1, 16)[:, None, None, None]
    Muon([weight], lr=1.0).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.2 * 12)
    assert values.min() > 0.5 and values.max() < 1.4
    assert torch.linalg.svdvals(weight.grad.flatten(1)).min() < 0.2 * torch.linalg.svdvals(weight.grad.flatten(1)).max()


def test_twins_differ_only_in_the_method():
    """After the stage that they share: the same, but for the projection."""
    for ours, theirs in (("recipe-2", "recipe-1"), ("recipe", "recipe")):
        aff, free = ((ROOT / "checkpoints" / n).read_text() for n in (f"affmse-x4/{ours}.yaml", f"mse-x4/{theirs}.yaml"))
        renamed = aff.replace("affmse-x4-2", "mse-x4-1").split("data.train")[1].replace("affmse-x4", "mse-x4")
        assert renamed.replace("methods.AffMSE", "methods.MSE") == free.split("data.train")[1]


PRIORS = {
    "AffGAN": {"network": {"name": "strided", "width": 8, "pairs": 2}},
    "SoftGAN": {"network": {"name": "strided", "width": 8, "pairs": 2}},
    "AffDAE": {"network": {"name": "unshuffled", "width": 8, "depth": 1}},
    "AffLL": {"layers": 2, "width": 8, "kernel": 3, "first_kernel": 3, "components": 2, "features": 4, "scales": 2},
}


@pytest.mark.parametrize("method", PRIORS)
def test_priors_and_generators_learn_in_turn(method, recipe, tmp_path, checkpoint):
    """For prior_start steps the prior alone, then the generator each prior_steps; and the prior is kept beside the generator."""
    made = {"method": method, "objective": PRIORS[method], "optimizer": "adam", "prior_steps": 3, "warmup_steps": 1}
    where = tmp_path / "run"
    assert main(recipe(where, 20, prior_start=30, **made)) == 0
    first = sr_zoo.load(where / "best")
    assert sorted(p.name for p in (where / "best").glob("*.safetensors")) == ["model.safetensors", "prior.safetensors"]

    # The prior alone was trained; from here, a prior that is kept as it is leads the generator.
    more = tmp_path / "more"
    command = recipe(more, 20, **{**made, "prior_steps": 0})
    assert main([*command, "--weights", str(where / "best")]) == 0
    second = load_file(more / "best" / "prior.safetensors")
    assert all(torch.equal(v, second[k]) for k, v in first.objective.state_dict().items() if "network" in k)
    moved = load_file(more / "best" / "model.safetensors")
    assert any(not torch.equal(v, moved[k]) for k, v in first.generator.state_dict().items())

    # The generator of one model, the prior of another.
    mixed = tmp_path / "mixed"
    command = recipe(mixed, 4, **{**made, "prior_steps": 0, "learning_rate": 0.0})
    assert main([*command, "--weights", str(checkpoint), "--prior", str(where / "best")]) == 0
    for name, source in (("model", checkpoint), ("prior", where / "best")):
        one, two = (load_file(folder / f"{name}.safetensors") for folder in (source, mixed / "best"))
        assert all(torch.equal(v, two[k]) for k, v in one.items() if name == "model" or "network" in k)


def test_prior_alone_leaves_the_generator_as_it_was(recipe, tmp_path, checkpoint):
    where = tmp_path / "run"
    made = {"objective": PRIORS["AffDAE"], "prior_start": 40, "optimizer": "adam", "warmup_steps": 1}
    command = recipe(where, 40, "AffDAE", "val/prior", **made)
    assert main([*command, "--weights", str(checkpoint)]) == 0
    kept = load_file(where / "best" / "model.safetensors")
    assert all(torch.equal(v, kept[k]) for k, v in load_file(checkpoint / "model.safetensors").items())
    header, *lines = (where / "version_0" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("val/prior")
    assert "loss/prior" in header and "loss/generator" not in header
    figures = [float(v) for line in lines if (v := line.split(",")[column])]
    assert len(figures) == 2 and figures[-1] < figures[0]
    kept = torch.load(where / "last.ckpt", weights_only=False)["callbacks"]
    assert pytest.approx(-figures[-1]) in [state.get("best") for state in kept.values()]


def test_unpaired_training(recipe, tmp_path, picture, capsys):
    """LR and HR pictures that do not match; regression refuses them."""
    from PIL import Image

    (tmp_path / "lr").mkdir()
    Image.fromarray(picture[::-1]).save(tmp_path / "lr" / "other.png")
    option = ["--data.train_lr", str(tmp_path / "lr")]
    for method in PRIORS:
        command = recipe(tmp_path / method, 4, method, objective=PRIORS[method])
        assert main([*command, *option]) == 0
        assert sr_zoo.load(tmp_path / method / "best").config["method"] == method
        header = (tmp_path / method / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
        assert "loss/prior" in header and "psnr" not in header
    assert main([*recipe(tmp_path / "run", 4), *option]) == 1
    assert "needs pairs" in capsys.readouterr().err


def test_a_prior_of_another_kind_is_refused(recipe, tmp_path, checkpoint, capsys):
    command = recipe(tmp_path / "run", 4, "AffDAE", objective=PRIORS["AffDAE"])
    assert main([*command, "--prior", str(checkpoint)]) == 1
    assert "its objective is another" in capsys.readouterr().err


def test_the_learning_rate_rises_and_falls_to_zero():
    from sr_zoo.optimizers import scheduled

    factor = scheduled("cosine", 10, 1000)
    assert factor(0) == pytest.approx(0.1) and factor(9) == pytest.approx(1, abs=1e-3)
    assert factor(500) == pytest.approx(0.5) and factor(1000) == pytest.approx(0) and factor(2000) == pytest.approx(0)
    constant = scheduled("constant", 10, 1000)
    assert constant(0) == pytest.approx(0.1) and constant(9) == constant(999) == 1
    with pytest.raises(ValueError, match="schedule: 'linear' is not one of cosine, constant"):
        sr_zoo.AffMSE(schedule="linear")


class Picture(torch.nn.Module):
    """A generator that always says the same picture, which is all that it learns."""

    def __init__(self):
        super().__init__()
        self.raw = torch.nn.Parameter(torch.randn(1, 3, 32, 32))

    def forward(self, lr):
        return self.raw * torch.ones_like(lr[:, :1, :1, :1])


@pytest.mark.parametrize("graphed", [False, True])
def test_nothing_pulls_at_what_the_projection_removes_in_bf16_either(folder, tmp_path, graphed):
    """In bf16 a hundredth of the gradient would be left there, and the raw picture drift away."""
    model = sr_zoo.AffMSE(generator=Picture(), ema_decay=0)
    data = sr_zoo.SRDataModule(str(folder), batch_size=2, crop_size=32, cache_dir=str(tmp_path / "cache"))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks, gradients = [Graphed()] if graphed else [], []
    model.generator.raw.register_hook(gradients.append)
    Trainer(max_steps=2, precision="bf16-mixed", accelerator="cpu", callbacks=callbacks, **quiet).fit(model, data)
    assert len(gradients) == 2
    assert all(model.downsampler.A(g).norm() < 1e-4 * g.norm() for g in gradients)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_step_in_one_graph_does_what_the_steps_do(optimizer, recipe, tmp_path):
    """Here without a GPU: the same work, uncaptured. On one it is captured after five steps."""
    weights = []
    for name, extra in (("one", []), ("other", [{"class_path": "sr_zoo.training.Graphed"}])):
        command = recipe(tmp_path / name, 8, optimizer=optimizer, gradient_clip=0.5)
        config = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
        config["trainer"]["callbacks"] = extra + config["trainer"]["callbacks"]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        assert main(command) == 0
        weights.append(torch.load(tmp_path / name / "last.ckpt")["state_dict"])
        log = (tmp_path / name / "version_0" / "metrics.csv").read_text()
        assert "psnr" in log.splitlines()[0]
    assert set(weights[0]) == set(weights[1])
    assert all(torch.allclose(weights[0][k].double(), weights[1][k].double(), atol=1e-6) for k in weights[0])


class Normalised(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.tail = torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 48, 1)

    def forward(self, lr):
        return torch.nn.functional.pixel_shuffle(self.tail(self.norm(lr)), 4)


def test_in_one_graph_too_the_averaged_network_has_the_newest_statistics(folder, tmp_path):
    model = sr_zoo.AffMSE(generator=Normalised())
    data = sr_zoo.SRDataModule(str(folder), batch_size=2, crop_size=32, cache_dir=str(tmp_path / "cache"))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_steps=3, accelerator="cpu", callbacks=[Graphed()], **quiet).fit(model, data)
    assert model.ema.module.norm.num_batches_tracked == 3
    assert torch.equal(model.ema.module.norm.running_mean, model.generator.norm.running_mean)


def test_a_graph_is_for_methods_without_a_prior_and_says_when_it_diverged(recipe, tmp_path, capsys):
    for name, method, every, expected in (
        ("a", "AffDAE", 1, "takes no noise"),
        ("b", "AffMSE", 1, "not finite before step"),
        ("c", "AffMSE", 50, "not finite before step"),  # before validation, or when it is over, at the latest
        ("d", "AffMSE", 0, "not finite before step"),
    ):
        command = recipe(
            tmp_path / name, 4, method, learning_rate=1e30, **({"objective": PRIORS[method]} if method in PRIORS else {})
        )
        config = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
        config["trainer"]["callbacks"].insert(0, {"class_path": "sr_zoo.training.Graphed"})
        config["trainer"].update(log_every_n_steps=every, limit_val_batches=1 if every else 0)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        assert main(command) == 1
        assert expected in capsys.readouterr().err.splitlines()[-1]


def test_compiled_blocks_change_no_name_of_a_weight(model):
    names = list(model.state_dict())
    Compile().on_fit_start(None, model)  # compiles when a block first runs
    assert all(block._compiled_call_impl is not None for block in model.generator.body)
    assert list(model.state_dict()) == names


def test_what_was_graphed_goes_on_without(recipe, tmp_path):
    command = recipe(tmp_path / "run", 12)
    assert main(command) == 0
    last = tmp_path / "run" / "last.ckpt"
    kept = torch.load(last, weights_only=True)
    for group in (g for o in kept["optimizer_states"] for g in o["param_groups"]):
        group["lr"] = torch.tensor(group["lr"])
        if "capturable" in group:
            group["capturable"] = True
    torch.save(kept, last)
    assert main([*command, "--ckpt_path", str(last), "--trainer.max_steps", "24"]) == 0
    assert torch.load(last)["global_step"] == 24


def test_float16_is_refused(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "precision", "16-mixed")  # which only a GPU gets; a processor gets bf16 in its place
    assert main(recipe(tmp_path / "run", 4)) == 1
    assert "use bf16-mixed" in capsys.readouterr().err.splitlines()[-1]
