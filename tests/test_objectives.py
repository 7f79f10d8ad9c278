"""Every objective keeps the contract; this walks over all that are registered."""

import math

import pytest
import torch

from sr_zoo.hub import save
from sr_zoo.methods import AffGAN
from sr_zoo.objectives import OBJECTIVES
from sr_zoo.training import start


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract(name):
    objective = OBJECTIVES.build(name)
    weight = torch.nn.Parameter(torch.rand(()))
    hr, lr = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 8)
    sr = weight * torch.rand(2, 3, 32, 32)

    loss = objective(sr, hr, lr)
    assert loss.shape == ()
    loss.backward()
    assert weight.grad is not None and torch.isfinite(weight.grad)
    assert all(p.grad is None for p in objective.parameters()), "the generator's loss must not train the prior"

    weight.grad = None
    loss = objective.fit(sr, hr)
    if loss is not None:
        loss.backward()
        assert any(p.grad is not None for p in objective.parameters())
    assert weight.grad is None, "the prior's loss must not train the generator"


def test_regression_losses():
    sr, hr = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    assert OBJECTIVES.build("regression")(sr, hr, None) == 0.25
    assert OBJECTIVES.build({"name": "regression", "loss": "l1"})(sr, hr, None) == 0.5
    with pytest.raises(ValueError, match="loss is 'l3'"):
        OBJECTIVES.build({"name": "regression", "loss": "l3"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"spectral_norm": True},
        {"r1": 1.0},
        {"noise_target": 1.2},
        {"network": {"name": "timm", "backbone": "convnext_atto"}},
    ],
)
def test_adversarial_options_learn_to_tell(arguments):
    """D tells bright pictures from dark ones after a few steps, and the generator is sent towards the real ones."""
    torch.manual_seed(0)
    objective = OBJECTIVES.build({"name": "adversarial", "noise": 0.05, **arguments})
    optimizer = torch.optim.Adam(objective.parameters(), 2e-3)
    hr, sr = 0.7 + 0.1 * torch.rand(4, 3, 32, 32), (0.3 + 0.1 * torch.rand(4, 3, 32, 32)).requires_grad_()
    for _ in range(25):
        optimizer.zero_grad()
        objective.fit(sr, hr).backward()
        optimizer.step()
    assert objective.log["prior/real"] > 0.6 > 0.4 > objective.log["prior/fake"]
    objective(sr, hr, None).backward()
    assert objective.log["prior/kl"] > 0 and -sr.grad.mean() > 0


def test_logits_may_have_any_shape():
    class Flat(torch.nn.Module):
        def forward(self, picture):
            return picture.square().mean((1, 2, 3))

    class Column(Flat):
        def forward(self, picture):
            return super().forward(picture)[:, None]

    hr, sr = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    made = [OBJECTIVES.build({"name": "adversarial", "network": n, "noise": 0.0, "r1": 1.0}) for n in (Flat(), Column())]
    losses = [float(objective.fit(sr, hr)) for objective in made]
    assert (
        losses[0]
        == losses[1]
        > float(OBJECTIVES.build({"name": "adversarial", "network": Flat(), "noise": 0.0}).fit(sr, hr))
    )


def test_a_pixel_loss_needs_pairs_and_pulls_to_the_true_picture():
    adversarial = {"name": "adversarial", "noise": 0.0}
    assert not OBJECTIVES.build(adversarial).paired
    objective = OBJECTIVES.build({**adversarial, "pixel": 3.0})
    assert objective.paired, "pictures without their originals are refused where a training starts"
    sr, hr = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    assert float(objective(sr, hr, None) - objective.log["prior/kl"]) == pytest.approx(3.0 * 0.5)
    checkerboard = 0.1 * (1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2))
    blocks = OBJECTIVES.build({**adversarial, "pixel": 3.0, "pixel_block": 2})
    assert float(blocks(hr + checkerboard, hr, None) - blocks.log["prior/kl"]) == pytest.approx(0, abs=1e-5)
    assert float(blocks(sr, hr, None) - blocks.log["prior/kl"]) == pytest.approx(3.0 * 0.5)
    for wrong, message in (({"pixel": -1}, "pixel is -1, expected 0 or more"), ({"pixel_block": 0}, "pixel_block is 0")):
        with pytest.raises(ValueError, match=message):
            OBJECTIVES.build({**adversarial, **wrong})


def test_adversarial_loss_is_the_negative_logit_with_noise_on_both_sides():
    class Mean(torch.nn.Module):
        seen = ()

        def forward(self, picture):
            self.seen = (*self.seen, picture.detach())
            return picture.flatten(1).mean(1)

    network = Mean()
    objective = OBJECTIVES.build({"name": "adversarial", "network": network, "noise": 0.5, "noise_end": 0.1})
    picture = torch.full((64, 3, 16, 16), 0.25)
    assert float(objective(picture, picture, None)) == pytest.approx(-0.25, abs=0.02)
    loss = objective.fit(picture, picture)
    assert float(loss) == pytest.approx(2 * math.log(2) + 0.25**2 / 4, abs=0.02)
    objective.progress = 1.0
    objective.fit(picture, picture)
    assert [float(x.std()) for x in network.seen] == pytest.approx([0.5, 0.5, 0.5, 0.1, 0.1], rel=0.02)


def test_noise_is_steered_to_keep_the_loss():
    """More noise while D is too sure, less while it is blind."""
    for certainty, grows in ((10.0, True), (0.0, False)):
        surely = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.AdaptiveAvgPool1d(1))
        objective = OBJECTIVES.build({"name": "adversarial", "network": surely, "noise": 0.1, "noise_target": 1.0})
        for _ in range(200):
            objective.fit(torch.full((2, 1, 4, 4), -certainty), torch.full((2, 1, 4, 4), certainty))
        assert (float(objective.sigma) > 0.2) == grows and (float(objective.sigma) < 0.05) != grows


def test_a_new_training_begins_with_its_own_noise(tmp_path):
    """Also where the discriminator is one that was trained."""
    parts = {"generator": {"name": "residual", "width": 16, "depth": 1}, "scale": 2}
    network = {"network": {"name": "strided", "width": 8}}
    trained = AffGAN(**parts, objective={**network, "noise": 0.5})
    trained.objective.prior_loss.fill_(0.7)
    model = AffGAN(**parts, objective={**network, "noise": 0.004, "noise_target": 1.2})
    start(model, str(save(trained, tmp_path / "gan")))
    assert float(model.objective.sigma) == pytest.approx(0.004) and float(model.objective.prior_loss) == pytest.approx(0.7)


def test_the_generator_waits_for_a_discriminator_that_can_tell():
    objective = OBJECTIVES.build({"name": "adversarial", "hold_above": 1.3})
    assert not objective.ready and OBJECTIVES.build("adversarial").ready
    objective.prior_loss.fill_(1.2)
    assert objective.ready


def test_denoising_gradient_is_the_exact_score_of_a_gaussian():
    """For p = N(m, s²) the best denoiser is known, and so is the score of p blurred by σ: (m − y)/(s² + σ²)."""
    mean, spread, sigma = 0.4, 0.2, 0.1

    class Best(torch.nn.Module):
        def forward(self, noisy, level):
            return level * (noisy - mean) / (spread**2 + level**2)

    objective = OBJECTIVES.build({"name": "denoising", "network": Best(), "noise": sigma, "noise_end": sigma})
    sr = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    objective(sr, None, None).backward()
    assert torch.allclose(-sr.grad * sr.numel(), ((mean - sr) / (spread**2 + sigma**2)).detach(), rtol=1e-5)


def test_a_denoiser_learns_the_score():
    """Trained on samples of N(m, s²), at the noise levels it was told."""
    torch.manual_seed(0)
    mean, spread = 0.4, 0.2

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))

        def forward(self, noisy, level):
            return self.layers(torch.cat([noisy, level.expand_as(noisy)], -1))

    objective = OBJECTIVES.build({"name": "denoising", "network": Linear(), "noise": 0.5, "noise_end": 0.1})
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for i in range(800):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - i / 800)
        optimizer.zero_grad()
        objective.fit(None, mean + spread * torch.randn(2048, 1)).backward()
        optimizer.step()
    y = torch.linspace(0.2, 0.6, 9)[:, None]
    for sigma in (0.15, 0.4):
        truth = (mean - y) / (spread**2 + sigma**2)
        assert (objective.score(y, sigma) - truth).abs().max() < 0.2 * truth.abs().max()


def test_denoising_schedule_is_geometric():
    objective = OBJECTIVES.build({"name": "denoising", "noise": 0.5, "noise_end": 0.02})
    assert objective.sigma == 0.5
    objective.progress = 0.5
    assert objective.sigma == pytest.approx(0.1)
    objective.progress = 1.0
    assert objective.sigma == pytest.approx(0.02)


@pytest.mark.parametrize("size", [(32, 32), (31, 17), (1, 3)])
def test_denoiser_takes_any_size(size):
    objective = OBJECTIVES.build("denoising")
    assert objective.score(torch.rand(2, 3, *size), 0.1).shape == (2, 3, *size)


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"name": "adversarial", "noise": -1.0}, "noise"), ({"name": "adversarial", "noise_target": 2.0}, "noise_target"),
        ({"name": "adversarial", "hold_above": 1.4}, "hold_above"), ({"name": "adversarial", "r1": -1.0}, "r1"),
        ({"name": "adversarial", "network": "strode"}, "did you mean 'strided'"),
        ({"name": "adversarial", "network": 3}, "expected str or dict"),
        ({"name": "adversarial", "network": {"name": "strided", "width": 0}}, "out of range"),
        ({"name": "adversarial", "network": {"name": "timm", "backbone": "nonsense"}}, "not a model that timm"),
        ({"name": "denoising", "noise": 0.1, "noise_end": 0.2}, "noise_end"), ({"name": "denoising", "network": "x"}, "denoiser"),
        ({"name": "denoising", "network": {"name": "unshuffled", "depth": -1}}, "out of range"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        OBJECTIVES.build(spec)
