"""Fine-tuning: what it leaves is a checkpoint, never a worse one unsaid; a killed one goes on; what cannot be is one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import sr_zoo
from sr_zoo import finetune as module
from sr_zoo import metrics
from sr_zoo.cli import main
from sr_zoo.finetune import finetune
from sr_zoo.hub import save
from sr_zoo.picture import read_picture

ROOT = Path(__file__).resolve().parent.parent
QUICK = {"steps": 10, "learning_rate": 2e-3, "batch_size": 2}


def weights(folder: Path, name: str = "model") -> dict:
    return load_file(folder / f"{name}.safetensors")


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


def test_it_leaves_a_better_checkpoint_that_every_command_takes(checkpoint, folder, tmp_path, capsys, picture):
    out = tmp_path / "mine"
    command = ["finetune", str(checkpoint), str(folder), "-o", str(out), "--steps", "20", "--batch-size", "2"]
    assert main([*command, "--learning-rate", "2e-3"]) == 0
    said = capsys.readouterr()
    record = json.loads((out / "finetune.json").read_text())
    assert record["after"]["psnr"] > record["before"]["psnr"] + 0.01 and record["kept"] == "best"
    assert f"{record['before']['psnr']:.2f} → {record['after']['psnr']:.2f} dB on 1 held-out" in said.out
    (held,) = record["held_out"]
    assert held in {"a.png", "b.bmp", "more/c.png"} and record["photos"] == 2 and f"held out: 1 ({held})" in said.err
    assert "crops of 80×80" in said.err

    # The figures are those of the written weights and of the start, on the picture that was held out.
    hr = torch.from_numpy(read_picture(folder / held)).permute(2, 0, 1)[None].float()
    for source, when in ((checkpoint, "before"), (out, "after")):
        model = sr_zoo.load(source)
        with torch.no_grad():
            figure = float(metrics.psnr_y(metrics.quantize(model(model.degrade(hr / 255))), hr, 4))
        assert figure == pytest.approx(record[when]["psnr"], abs=0.03)

    Image.fromarray(picture).save(tmp_path / "photo.png")
    assert main(["upscale", str(tmp_path / "photo.png"), "--model", str(out)]) == 0
    (tmp_path / "sets" / "Mine").mkdir(parents=True)
    Image.fromarray(picture[:40, :56]).save(tmp_path / "sets" / "Mine" / "a.png")
    options = ["--sets", "Mine", "--data", str(tmp_path / "sets"), "--output", str(tmp_path)]
    assert main(["benchmark", str(out), *options]) == 0
    # The recipe is one that fit takes: from the same start, into the work folder.
    fit = ["fit", "--config", str(out / "recipe.yaml"), "--trainer.max_steps", "2", "--trainer.val_check_interval", "1"]
    assert main([*fit, "--model.init_args.learning_rate", "0.0"]) == 0
    assert same(weights(out / "work" / "best"), weights(checkpoint))


def test_killed_it_goes_on_as_if_nothing_had_been(checkpoint, folder, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["--steps", "100", "--batch-size", "1", "--learning-rate", "2e-3"]
    command = [sys.executable, "-m", "sr_zoo", "finetune", str(checkpoint), str(folder), "-o", str(killed), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (killed / "work" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "config.json").exists() and not (killed / "finetune.json").exists()
    said = []
    arguments = {"steps": 100, "batch_size": 1, "learning_rate": 2e-3}
    record = finetune(checkpoint, folder, killed, **arguments, report=said.append)
    assert any("going on from" in line for line in said) and "step 20 of 100" not in " ".join(said)
    assert record == finetune(checkpoint, folder, whole, **arguments)
    assert same(weights(killed), weights(whole))
    assert sorted(p.name for p in (killed / "work").iterdir()) == ["start.json", "version_0", "version_1"]


def test_stopped_by_ctrl_c_it_says_how_to_go_on(checkpoint, folder, tmp_path, monkeypatch, capsys):
    def stop(self, trainer, model):
        if trainer.state.fn == "fit":
            raise KeyboardInterrupt

    command = ["finetune", str(checkpoint), str(folder), "-o", str(tmp_path / "out"), "--steps", "4", "--batch-size", "1"]
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(module._Report, "on_validation_end", stop)
        assert main(command) == 130
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones
    assert "the same call goes on" in capsys.readouterr().err
    assert main(command) == 0
    assert "going on from" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out" / "work").glob("*")) == ["start.json", "version_0", "version_1"]


def test_done_is_told_and_other_settings_need_again(checkpoint, folder, tmp_path, monkeypatch):
    record = finetune(checkpoint, folder, tmp_path / "out", **QUICK)
    kept = weights(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.delattr(module, "_train")
        assert finetune(checkpoint, folder, tmp_path / "out", **QUICK) == record
        with pytest.raises(sr_zoo.errors.UserError, match=r"differs \(learning_rate\).*--again"):
            finetune(checkpoint, folder, tmp_path / "out", **{**QUICK, "learning_rate": 1e-3})
        Image.new("RGB", (99, 99)).save(folder / "new.png")
        with pytest.raises(sr_zoo.errors.UserError, match=r"differs \(pictures\)"):
            finetune(checkpoint, folder, tmp_path / "out", **QUICK)
    for name in ("results.json", "README.md"):  # what a benchmark of the earlier weights left, and their card
        (tmp_path / "out" / name).write_text("[]")
    finetune(checkpoint, folder, tmp_path / "out", **{**QUICK, "learning_rate": 1e-3}, again=True)
    assert not same(kept, weights(tmp_path / "out")) and not (tmp_path / "out" / "results.json").exists()
    assert not (tmp_path / "out" / "README.md").exists()


def test_nothing_worse_is_written_unsaid(checkpoint, folder, tmp_path, capsys):
    """At a learning rate that ruins it, the start's weights are kept, and it says so."""
    command = ["finetune", str(checkpoint), str(folder), "-o", str(tmp_path / "out"), "--steps", "5", "--batch-size", "1"]
    assert main([*command, "--learning-rate", "3"]) == 0
    assert "nothing better was found, so these are the weights it started from" in capsys.readouterr().out
    assert same(weights(tmp_path / "out"), weights(checkpoint))
    record = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert record["kept"] == "start" and record["after"] == record["before"]


def test_a_discriminator_with_a_pixel_loss_is_not_judged_by_psnr(folder, tmp_path):
    """It learns from pairs, too, but the picture of the best PSNR is the smoothest, not the one it was tuned for."""
    torch.manual_seed(0)
    objective = {"network": {"name": "strided", "width": 8}, "pixel": 1.0}
    model = sr_zoo.AffGAN(generator={"name": "residual", "width": 16, "depth": 1}, objective=objective)
    record = finetune(save(model, tmp_path / "gan"), folder, tmp_path / "out", steps=5, batch_size=1)
    assert model.objective.paired and record["kept"] == "last"


def test_without_pairs_the_last_weights_are_kept_and_the_prior_goes_on(folder, tmp_path):
    torch.manual_seed(0)
    small = {"generator": {"name": "residual", "width": 16, "depth": 1}}
    start = save(
        sr_zoo.AffDAE(**small, objective={"network": {"name": "unshuffled", "width": 8, "depth": 1}}), tmp_path / "dae"
    )
    # As the training that made it: the prior stays as it is. Not so fast, though, and what makes no sense is left out.
    kept = {"prior_steps": 0, "optimizer": "adam", "learning_rate": 1.0e-2, "ema_decay": "often"}
    (start / "recipe.yaml").write_text(yaml.safe_dump({"model": {"init_args": kept}}))
    said = []
    record = finetune(start, folder, tmp_path / "out", steps=6, batch_size=1, report=said.append)
    assert record["kept"] == "last" and not any("starts untrained" in line for line in said)
    assert same(weights(tmp_path / "out", "prior"), weights(start, "prior"))
    assert not same(weights(tmp_path / "out"), weights(start))
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["model"]["init_args"]
    assert recipe["optimizer"] == "adam" and recipe["learning_rate"] == 5e-4 and "ema_decay" not in recipe

    (start / "recipe.yaml").unlink()
    (start / "prior.safetensors").rename(tmp_path / "aside")
    finetune(start, folder, tmp_path / "fresh", steps=2, batch_size=1, report=said.append)
    assert any("no prior.safetensors; the objective's own network starts untrained" in line for line in said)
    (tmp_path / "aside").rename(start / "prior.safetensors")
    finetune(start, folder, tmp_path / "learns", steps=2, batch_size=1, learning_rate=1e-5)
    for name, far in (("learns", False), ("fresh", True)):
        moved = weights(tmp_path / name, "prior")
        distance = max(
            float((v - moved[k]).abs().max()) for k, v in weights(start, "prior").items() if v.is_floating_point()
        )
        assert distance > 0 and (distance > 1e-3) == far, name


def test_the_kernel_may_change(checkpoint, folder, tmp_path):
    finetune(checkpoint, folder, tmp_path / "named", **{**QUICK, "steps": 1}, kernel="gaussian:1.6")
    assert json.loads((tmp_path / "named" / "config.json").read_text())["kernel"] == "gaussian:1.6"
    spot = np.zeros((8, 8), np.uint8)
    spot[2:6, 2:6] = [[10, 30, 30, 10]] * 4
    Image.fromarray(spot).save(tmp_path / "kernel.png")
    finetune(checkpoint, folder, tmp_path / "drawn", **{**QUICK, "steps": 1}, kernel=str(tmp_path / "kernel.png"))
    kernel = np.array(json.loads((tmp_path / "drawn" / "config.json").read_text())["kernel"])
    assert kernel == pytest.approx(spot / spot.sum()) and kernel.sum() == pytest.approx(1)
    model = sr_zoo.load(tmp_path / "drawn")
    lr = torch.rand(1, 3, 8, 8)
    assert torch.allclose(sr_zoo.Downsampler(kernel.tolist(), 4).A(model(lr)), lr, atol=1e-5)


@pytest.mark.parametrize("name, kernel", [("affmse-x4", "gaussian:1.2"), ("mse-x4", "gaussian:1.2"), ("affmse-x4", None)])
def test_it_starts_from_what_the_model_makes_of_that_kernel(name, kernel, folder, tmp_path):
    """From ỹ as it is, of which the model's own projection hides most, affmse-x4 would begin with a grid of dots."""
    record = finetune(name, folder, tmp_path / "out", steps=1, batch_size=1, crop_size=32, kernel=kernel, learning_rate=1e-9)
    tuned, before, lr = sr_zoo.load(tmp_path / "out"), sr_zoo.load(name), torch.rand(1, 3, 16, 16)
    expected = before.see_through(kernel) if name != "mse-x4" else before  # nothing holds the latter to any kernel
    with torch.no_grad():
        assert torch.allclose(tuned(lr), expected(lr), atol=1e-4)
    assert (tuned.config["generator"]["name"] == "projected") == (name == "affmse-x4" and kernel is not None)
    assert record["held_out"]


@pytest.fixture
def failing(checkpoint, folder, tmp_path):
    """Options that cannot be, and what each says."""
    (tmp_path / "one").mkdir()
    Image.new("RGB", (99, 99)).save(tmp_path / "one" / "a.png")
    Image.new("RGB", (20, 99)).save(tmp_path / "one" / "thin.png")
    (tmp_path / "one" / "broken.png").write_bytes(b"nonsense")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "dark.png").write_bytes((tmp_path / "one" / "a.png").read_bytes())
    bad = save(sr_zoo.load(checkpoint), tmp_path / "bad")
    (bad / "recipe.yaml").write_text("model: [1]")
    base = {"MODEL": checkpoint, "PHOTOS": folder, "-o": tmp_path / "out"}
    return [
        ({**base, "--scale": 3}, "sr-zoo: --scale 3:"),
        ({**base, "PHOTOS": tmp_path / "one"}, "one: 1 of 2 pictures with 32 pixels or more on either side, at least 2"),
        ({**base, "PHOTOS": tmp_path / "nowhere"}, "nowhere: no such folder"),
        ({**base, "--val": folder}, "is what it shall learn from"),
        ({**base, "--val": folder / "more"}, "more lies in"),
        ({**base, "--val": tmp_path / "nowhere"}, "nowhere: no such folder"),
        ({**base, "--crop-size": 50}, "sr-zoo: --crop-size: 50 is not a multiple"),
        ({**base, "--crop-size": 96}, "photos: 0 of 3 pictures with 96 pixels"),
        ({**base, "--kernel": "cubic"}, "sr-zoo: --kernel: 'cubic' is not 'bicubic'"),
        ({**base, "--kernel": "gaussian:3"}, "ridge=1e-3"),
        ({**base, "--kernel": tmp_path / "dark.png"}, "dark.png is none; expected"),
        ({**base, "--learning-rate": 0}, "sr-zoo: --learning-rate: 0.0 is not above 0"),
        ({**base, "--seed": -1}, "sr-zoo: --seed: -1 is not between"),
        ({**base, "-o": checkpoint}, "holds the model to start from"),
        ({**base, "-o": tmp_path / "full"}, "holds thesis.txt and no fine-tuning"),
        ({**base, "-o": tmp_path / "dark.png"}, "is a file"),
        ({**base, "MODEL": "afmse-x4"}, "did you mean 'affmse-x4'?"),
        ({**base, "MODEL": bad}, "recipe.yaml: not a recipe"),
        ({**base, "--logger": "csv", "--artifact": None}, "'wandb' to keep an artifact"),
    ]


def test_what_cannot_be_is_one_line_and_writes_nothing(failing, tmp_path, capsys):
    for options, message in failing:
        before = sorted(tmp_path.rglob("*"))
        words = [w for k, v in options.items() for w in ([str(v)] if k.isupper() else [k, *([] if v is None else [str(v)])])]
        code = main(["finetune", *words])
        lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("crops of")]
        assert len(lines) == 1 and message in lines[0], (message, lines)
        assert code == (2 if lines[0].startswith("sr-zoo: --") else 1), (message, code)
        assert sorted(tmp_path.rglob("*")) == before, message


def test_divergence_is_one_line(checkpoint, folder, tmp_path, capsys):
    command = [
        "finetune",
        str(checkpoint),
        str(folder),
        "-o",
        str(tmp_path / "out"),
        "--steps",
        "4",
        "--learning-rate",
        "1e30",
    ]
    assert main(command) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("sr-zoo: ")]
    assert "at step" in line and line.endswith("--again")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_loaded_model_trains_in_three_lines(checkpoint, folder, tmp_path):
    """Also with the evaluation mode in which load leaves it."""
    from lightning.pytorch import Trainer

    from sr_zoo.training import SaveFolder

    model = sr_zoo.load(checkpoint, learning_rate=1e-3)
    data = sr_zoo.SRDataModule(str(folder), hold_out=1, crop_size=32, batch_size=2, cache_dir=str(tmp_path / "cache"))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_steps=4, callbacks=[SaveFolder(str(tmp_path / "out"))], accelerator="cpu", **options).fit(model, data)
    assert not same(weights(tmp_path / "out"), weights(checkpoint))


def test_rates_without_a_point_are_numbers_too(checkpoint, tmp_path):
    from sr_zoo.recipe import _settings

    settings = "optimizer: adam, learning_rate: 2e-5, gradient_clip: 5e-2, prior_steps: 2, ema_decay: high"
    (checkpoint / "recipe.yaml").write_text(f"model: {{init_args: {{{settings}}}}}")
    assert _settings(checkpoint) == {"optimizer": "adam", "learning_rate": 2e-5, "gradient_clip": 0.05, "prior_steps": 2}
