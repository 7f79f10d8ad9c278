"""A checkpoint folder comes back bit for bit, or says in one line why not."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import sr_zoo
from benchmarks.common import ROOT
from sr_zoo.hub import CheckpointError, list_models, save
from sr_zoo.methods import AffGAN, AffMSE


def test_round_trip(model, checkpoint):
    again = sr_zoo.load(checkpoint)
    lr = torch.rand(1, 3, 8, 9)
    assert not again.training and torch.equal(again(lr), model(lr))
    assert sorted(p.name for p in checkpoint.iterdir()) == ["config.json", "model.safetensors"]


def test_averaged_weights_are_what_is_saved(model, tmp_path):
    model.setup("fit")
    for p in model.ema.module.parameters():
        p.data.fill_(0.25)
    assert set(load_file(save(model, tmp_path / "x") / "model.safetensors")["tail.bias"].tolist()) == {0.25}


def test_half_of_the_size(model, tmp_path):
    with torch.no_grad():
        model.generator.tail.bias[0] = 1e6  # float16 ends at 65504
    folder = save(model, tmp_path / "x", half=True)
    stored, again = load_file(folder / "model.safetensors"), sr_zoo.load(folder).generator.state_dict()
    assert {k for k, v in stored.items() if v.dtype != torch.float16} == {"tail.bias"}
    for name, weights in model.inference_generator.state_dict().items():
        assert again[name].dtype == torch.float32
        assert torch.allclose(again[name], weights, rtol=2**-11, atol=2**-24), name


def test_what_ships_is_small():
    """What goes into the wheel: below 25 MB, before it is compressed."""
    import configparser
    from pathlib import Path

    root = Path(sr_zoo.__file__).parent.parent
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    if not (root / "checkpoints").is_dir():
        pytest.skip("not a checkout")
    patterns = setup["options.package_data"]["sr_zoo.checkpoints"].split()
    sizes = {f: f.stat().st_size for pattern in patterns for f in (root / "checkpoints").glob(pattern)}
    assert len(sizes) > 30 and sum(sizes.values()) < 25e6


def break_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
            "damaged or truncated",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "damaged or truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or truncated"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("[" * 10**5), "config.json: not JSON"),
        (lambda f: (f / "config.json").write_text('{"a":' * 480 + "1" + "}" * 480), "config.json: "),
        (
            lambda f: (f / "config.json").write_text('{"method": "AffMSE", "ridge": 1%s}' % ("0" * 400)),
            "config.json: .*too large",
        ),
        (lambda f: break_weights(f, lambda s: s["tail.bias"].fill_(float("nan"))), "not finite"),
        (lambda f: (f / "config.json").write_text(json.dumps({"method": "AffMSE", "colour": 1})), "unknown key 'colour'"),
        (lambda f: break_weights(f, lambda s: s.pop("tail.bias")), "does not fit .*tail.bias"),
        (lambda f: break_weights(f, lambda s: s.update({"tail.bias": torch.zeros(3)})), "does not fit"),
        (lambda f: break_weights(f, lambda s: s.update(extra=torch.zeros(3))), "does not fit"),
    ],
)
def test_damage_is_one_line(damage, message, checkpoint):
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message) as error:
        sr_zoo.load(checkpoint)
    assert "\n" not in str(error.value)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(CheckpointError, match="did you mean 'affmse-x4'"):
        sr_zoo.load("afmse-x4")


def test_a_module_without_a_name_cannot_be_saved(tmp_path):
    with pytest.raises(CheckpointError, match="register"):
        save(AffMSE(generator=torch.nn.Upsample(scale_factor=4)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_no_part_given_as_a_module_is_saved_and_nothing_is_half_written(tmp_path):
    generator = {"name": "residual", "width": 16, "depth": 1}
    model = AffGAN(generator=generator, objective={"network": torch.nn.Flatten()})
    with pytest.raises(CheckpointError, match="given as a module"):
        save(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    kernel = torch.ones(4, 4) / 16
    back = sr_zoo.load(save(AffMSE(generator=generator, kernel=kernel), tmp_path / "box"))
    assert torch.equal(back.downsampler.A(torch.eye(8)), AffMSE(kernel="box").downsampler.A(torch.eye(8)))


def test_nothing_published_is_fetched_for_what_the_folder_holds(tmp_path, monkeypatch):
    import timm

    make, asked = timm.create_model, []
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **rest: asked.append(pretrained) or make(name, False, **rest)
    )
    network = {"name": "timm", "backbone": "convnext_atto", "pretrained": True}
    model = AffGAN(generator={"name": "residual", "width": 16, "depth": 1}, objective={"network": network})
    sr_zoo.load(save(model, tmp_path / "gan"))
    assert asked == [True, False]


def test_shipped_models():
    models = {m["name"]: m for m in list_models()}
    assert {"affmse-x4", "mse-x4"} <= set(models)
    for name in models:
        model = sr_zoo.load(name)
        assert all(torch.isfinite(p).all() for p in model.parameters())
        assert {r["set"] for r in models[name]["results"]} == {"Set5", "Set14", "BSD100"}
        assert all(r["model"] == name and r["scale"] == model.scale for r in models[name]["results"])


def test_a_card_says_what_its_recipe_says(tmp_path):
    from sr_zoo.card import model_card

    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "checkpoints" / "affmse-x4-fast", folder)
    assert "falling to 0 along a cosine,\naveraged weights (0.999), bf16-mixed, on a processor;" in model_card(
        folder, "", "mit"
    )
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["model"]["init_args"].update(schedule="constant", ema_decay=0.0)
    recipe["trainer"]["accelerator"] = "gpu"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kernel": [[0.25, 0.25]] * 3}))
    card = model_card(folder, "", "mit")
    assert "muon at 0.002 constant,\nbf16-mixed, on a GPU;" in card
    assert "operator *measured 3×2*" in card and "0.25" not in card
    around = {"name": "projected", "kernel": [[0.25, 0.25]] * 3, "generator": config["generator"]}
    told = {**config, "generator": around, "consistency": {"name": "free", "base": [[0.25, 0.25]] * 5, "base_ridge": 0.1}}
    (folder / "config.json").write_text(json.dumps(told))
    card = model_card(folder, "", "mit")
    assert "*projected* (kernel measured 3×2, of *residual* (width 32, depth 5); 1" in card and "0.25" not in card
    assert "consistency *free* on A⁺ of *measured 5×2*, objective" in card
