"""The table of methods, their configs, and one seventh method in three lines."""

import inspect
import re

import pytest
import torch

from sr_zoo import SuperResolver
from sr_zoo.methods import METHODS
from tests.conftest import ROOT

TINY = {"name": "residual", "width": 16, "depth": 1}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_upscales_and_comes_back_from_its_config(name):
    model = METHODS[name](scale=3, generator=TINY).eval()
    lr = torch.rand(2, 3, 5, 7)
    sr = model(lr)
    assert sr.shape == (2, 3, 15, 21) and sr.dtype == torch.float32
    again = SuperResolver.from_config(model.config).eval()
    again.generator.load_state_dict(model.generator.state_dict())
    assert type(again) is METHODS[name] and torch.equal(again(lr), sr)
    assert len(inspect.getsource(METHODS[name]).splitlines()) <= 10


def test_a_seventh_method_is_the_lines_of_contributing(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and '"""' not in line]) <= 3
    names = {"SuperResolver": SuperResolver}
    exec(code, names)
    monkeypatch.setitem(METHODS, "SoftDAE", names["SoftDAE"])
    model = SuperResolver.from_config({"method": "SoftDAE", "generator": TINY, "consistency": {"weight": 2.0}})
    assert model.consistency.weight == 2.0 and not model.exact and model.objective.fit(None, torch.rand(1, 3, 8, 8)) > 0


def test_any_module_can_be_the_generator():
    nearest = torch.nn.Upsample(scale_factor=4)
    model = METHODS["AffMSE"](generator=nearest).eval()
    lr = torch.rand(1, 3, 6, 6)
    assert (model.downsampler.A(model(lr)) - lr).abs().max() < 1e-6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": "AffGun"}, "method"), ({"sclae": 4}, "unknown key 'sclae'"), ({"scale": "4"}, "scale is '4'"),
        ({"scale": 99}, "scale is 99"), ({"generator": {"name": "resnet"}}, "did you mean|there are"),
        ({"generator": {"name": "residual", "widht": 3}}, "unknown argument 'widht'"),
        ({"generator": {"name": "residual", "width": "big"}}, "expected int"),
        ({"generator": {"name": "residual", "width": 10**6}}, "out of range"), ({"objective": {"name": "x"}}, "objective"),
        ({"generator": {"name": "residual", "width": 1024, "depth": 256}}, "out of range"),
        ({"method": "AffDAE", "objective": {"name": "denoising", "network": {"name": "unshuffled", "width": 1024, "depth": 64}}},
         "out of range"),
        ({"method": "AffGAN", "objective": {"name": "adversarial", "network": {"name": "strided", "width": 1024, "pairs": 6}}},
         "out of range"),
        ({"consistency": {"name": "affine", "weight": 1.0}}, "unknown argument 'weight'"), ({"kernel": "wide"}, "kernel"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_refused(change, message):
    config = {"method": "AffMSE", "scale": 4, "kernel": "bicubic", "generator": TINY}
    SuperResolver.from_config(config)
    with pytest.raises(ValueError, match=message):
        SuperResolver.from_config({**config, **change})


def test_degrade_is_an_8_bit_picture():
    model = METHODS["AffMSE"](generator=TINY)
    lr = model.degrade(torch.rand(1, 3, 16, 16)) * 255
    assert torch.allclose(lr, lr.round(), atol=1e-4) and lr.min() >= 0 and lr.max() <= 255


def test_averaged_weights_follow_and_are_used_in_evaluation():
    model = METHODS["MSE"](generator=TINY, ema_decay=0.9)
    model.setup("fit")
    weight, average = model.generator.tail.bias, model.ema.module.tail.bias
    for value, times, expected in ((0.0, 1, 0.0), (1.0, 1, 1 / 1.1), (0.0, 300, 0.0), (1.0, 1, 0.1), (1.0, 1, 0.19)):
        weight.data.fill_(value)
        for _ in range(times):
            model.ema.update_parameters(model.generator)
        assert torch.allclose(average, torch.full_like(average, expected), atol=1e-6)
    lr = torch.rand(1, 3, 4, 4)
    assert (model.train()(lr) - model.eval()(lr)).abs().max() > 0.5
