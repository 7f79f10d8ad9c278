"""The density is one: causal, normalised, on the scale it says; and the objective built on it."""

import math

import pytest
import torch

from sr_zoo.objectives import OBJECTIVES, densities
from sr_zoo.objectives.densities import PixelMCGSM

SMALL = {"layers": 2, "width": 8, "kernel": 3, "first_kernel": 3, "components": 3, "features": 2, "scales": 2}


def random_density(**arguments) -> PixelMCGSM:
    """Weights far from the start, so that every term counts."""
    torch.manual_seed(0)
    density = PixelMCGSM(**{**SMALL, **arguments})
    with torch.no_grad():
        for p in density.parameters():
            p += 0.3 * torch.randn_like(p)
    return density


def gaussian_density(deviation: float) -> PixelMCGSM:
    """Every value is N(0.5, deviation²), whatever came before."""
    density = PixelMCGSM(**SMALL)
    for mixture in density.mixtures:
        for p in (mixture.a, mixture.m, mixture.d):
            torch.nn.init.zeros_(p)
        low, high = math.log(densities.WIDEST), math.log(densities.NARROWEST)
        share = (math.log(deviation) - low) / (high - low)
        torch.nn.init.constant_(mixture.place, math.log(share / (1 - share)))
    return density


def in_order(conditionals: torch.Tensor) -> torch.Tensor:
    return conditionals.permute(0, 2, 3, 1).flatten(1)


@pytest.mark.parametrize("where", [(0, 0, 0), (1, 0, 2), (2, 1, 0), (0, 1, 1), (2, 2, 2)])
@torch.no_grad()
def test_conditionals_integrate_to_one(where):
    values = torch.arange(-6, 7, 0.001, dtype=torch.float64)
    picture = torch.rand(1, 3, 3, 3).repeat(len(values), 1, 1, 1)
    picture[(slice(None), *where)] = values.float()
    density = random_density().conditionals(picture)[(slice(None), *where)].double().exp()
    assert torch.trapezoid(density, values).item() == pytest.approx(1, abs=1e-4)
    assert density.max() > 1.05 * density.mean(), "a flat density says nothing"


@pytest.mark.parametrize("arguments", [{}, {"layers": 1}, {"layers": 3, "first_kernel": 5, "kernel": 1}])
@torch.no_grad()
def test_a_value_changes_what_follows_and_nothing_before(arguments):
    density = random_density(**arguments)
    picture = torch.rand(1, 3, 3, 4)
    count = picture.numel()
    one_hot = torch.eye(count).view(count, 3, 4, 3).permute(0, 3, 1, 2)
    pictures = picture.repeat(count, 1, 1, 1)
    changes = in_order(density.conditionals(pictures + 0.3 * one_hot) - density.conditionals(pictures)).abs()
    for j in range(count):
        assert (changes[j, :j] < 1e-5).all()
        assert changes[j, j] > 1e-4
        if (j + 1) % 3:
            assert changes[j, j + 1] > 1e-4, "the next colour of the pixel sees this one"
        if j < count - 3:
            assert changes[j, j + 1 :].max() > 1e-4
        if j // 3 % 4 < 3:
            assert changes[j, (j // 3 + 1) * 3] > 1e-4, "the first colour of the next pixel sees every colour of this one"


def test_gradients_are_causal():
    density, picture = random_density(), torch.rand(1, 3, 3, 3)
    jacobian = torch.autograd.functional.jacobian(lambda p: in_order(density.conditionals(p))[0], picture)[:, 0]
    jacobian = in_order(jacobian)
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))
    assert (jacobian.diagonal() != 0).all()
    assert (jacobian.tril(-1)[1:] != 0).any(1).all()


@torch.no_grad()
def test_log_prob_is_the_sum_of_conditionals(monkeypatch):
    density, pictures = random_density(), torch.rand(3, 3, 5, 4)
    conditionals = density.conditionals(pictures)
    assert conditionals.shape == pictures.shape
    torch.testing.assert_close(density.log_prob(pictures), conditionals.sum((1, 2, 3)))
    monkeypatch.setattr(densities, "CHUNK", 7)
    for picture, expected in zip(pictures, conditionals):
        torch.testing.assert_close(density.conditionals(picture[None])[0], expected, atol=1e-4, rtol=1e-4)


def test_gradient_is_the_slope():
    """Finite differences: mixtures are worked out again in the backward pass, in chunks."""
    density, picture = random_density(), torch.rand(1, 3, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(density.log_prob(picture).sum(), picture)
    direction = 1e-4 * gradient / gradient.norm()
    with torch.no_grad():
        slope = (density.conditionals(picture + direction) - density.conditionals(picture - direction)).double().sum()
    assert slope.item() == pytest.approx(2e-4 * gradient.norm().item(), rel=0.03)


@torch.no_grad()
def test_bits_of_a_known_gaussian():
    density = gaussian_density(0.1)
    picture = (0.5 + 0.1 * torch.randn(2, 3, 8, 8)).clamp(0, 1)
    known = torch.distributions.Normal(127.5, 25.5)
    bits = -known.log_prob(picture * 255).mean((1, 2, 3)) / math.log(2)
    torch.testing.assert_close(density.bits_per_dim(picture), bits, atol=1e-4, rtol=1e-4)
    paper = -density.log_prob(picture) / picture[0].numel() / math.log(2)
    torch.testing.assert_close(density.bits_per_dim(picture) - paper, torch.full((2,), math.log2(255)))


@torch.no_grad()
def test_8_bit_pictures_are_dequantised():
    # The narrowest Gaussian around level 128 (0.5 is level 127.5), so that half a level of noise matters.
    density = gaussian_density(1.01 * densities.NARROWEST)
    picture = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
    noise = torch.linspace(-0.5, 0.5, 10001)
    known = torch.distributions.Normal(127.5, 255 * 1.01 * densities.NARROWEST)
    expected = -known.log_prob(127 + noise).mean() / math.log(2)
    bits = density.bits_per_dim(picture, torch.Generator().manual_seed(0))
    assert bits.item() == pytest.approx(expected.item(), rel=0.03)
    assert torch.equal(bits, density.bits_per_dim(picture, torch.Generator().manual_seed(0)))
    assert not torch.equal(bits, density.bits_per_dim(picture, torch.Generator().manual_seed(1)))


def test_a_flat_picture_is_not_infinitely_likely():
    objective = OBJECTIVES.build({"name": "likelihood", **SMALL})
    objective.density = gaussian_density(1.01 * densities.NARROWEST)
    for mixture in objective.density.mixtures:
        torch.nn.init.constant_(mixture.place, 1e4)
    loss = objective(torch.full((1, 3, 8, 8), 0.5), None, None)
    assert loss.item() == pytest.approx(-5.865, abs=1e-3)
    assert objective.log["prior/sr_bits_per_dim"].item() == pytest.approx(-0.467, abs=1e-3)


def test_a_fresh_density_prefers_smooth_pictures():
    torch.manual_seed(0)
    smooth = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
    shuffled = smooth.flatten()[torch.randperm(smooth.numel())].view_as(smooth)
    with torch.no_grad():
        bits = PixelMCGSM(**SMALL).bits_per_dim(torch.cat([smooth, shuffled]))
    assert bits[0] < bits[1] - 0.5


def test_learns_the_entropy_rate_of_a_texture():
    """Rows of an AR(1) process, whose entropy is known: from more than half a bit above it to less than 0.1."""
    torch.manual_seed(0)
    width, memory, deviation = 12, 0.9, 0.03

    def textures(count):
        columns = [deviation / math.sqrt(1 - memory**2) * torch.randn(count, 1, width)]
        for _ in range(width - 1):
            columns.append(memory * columns[-1] + deviation * torch.randn(count, 1, width))
        return 0.5 + torch.stack(columns, -1)

    objective = OBJECTIVES.build({"name": "likelihood", "colours": 1, **SMALL, "layers": 1})
    held_out = textures(50)
    with torch.no_grad():
        start = objective.density.bits_per_dim(held_out).mean().item()
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 80)
        optimizer.zero_grad()
        objective.fit(None, textures(16)).backward()
        optimizer.step()
    with torch.no_grad():
        end = objective.density.bits_per_dim(held_out).mean().item()
    first = -0.5 * math.log2(1 - memory**2) / width
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (255 * deviation) ** 2) + first
    assert start > entropy + 0.5
    assert entropy - 0.05 < end < entropy + 0.1


def test_generator_descends_the_density_as_it_is():
    objective = OBJECTIVES.build({"name": "likelihood", **SMALL})
    objective.density = random_density()
    sr = torch.rand(2, 3, 6, 6, requires_grad=True)
    loss = objective(sr, None, None)
    loss.backward()
    assert all(p.grad is None and p.requires_grad for p in objective.parameters())
    assert torch.equal(loss, objective(sr, None, None)), "no noise on ŷ"
    expected = -objective.density.log_prob(sr).mean() / sr[0].numel()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(sr.grad, torch.autograd.grad(expected, sr)[0])

    assert not torch.equal(objective.fit(None, sr), objective.fit(None, sr)), "true pictures are dequantised"
    assert set(objective.log) == {"prior/bits_per_dim", "prior/sr_bits_per_dim"}
    assert objective.log["prior/sr_bits_per_dim"].item() == pytest.approx(loss.item() / math.log(2) + math.log2(255))


def test_every_parameter_learns():
    density = random_density()
    density.log_prob(torch.rand(1, 3, 6, 6)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in density.parameters())


def test_bf16_autocast_keeps_the_mixtures_in_float32():
    density, picture = random_density(), torch.rand(1, 3, 8, 8)
    exact = density.bits_per_dim(picture)
    with torch.autocast("cpu", torch.bfloat16):
        log_density = density.conditionals(picture)
        bits = density.bits_per_dim(picture)
    assert log_density.dtype == torch.float32
    torch.testing.assert_close(bits, exact, atol=0.03, rtol=0)
    log_density.sum().backward()

    linear = random_density(layers=1)
    with torch.autocast("cpu", torch.bfloat16):
        bits = linear.bits_per_dim(picture)
    assert torch.equal(bits, linear.bits_per_dim(picture)), "only the residual convolutions may be bf16"


@pytest.mark.parametrize("value", [-50.0, 0.0, 1.0, 300.0])
def test_absurd_pictures_have_finite_gradients(value):
    picture = torch.full((1, 3, 6, 6), value, requires_grad=True)
    loss = OBJECTIVES.build({"name": "likelihood", **SMALL})(picture, None, None)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(picture.grad).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"width": 2}, "width 2 is out of range (3…1024)"),
        ({"width": 10**6}, "width 1000000 is out of range"),
        ({"layers": 0}, "layers 0 is out of range"),
        ({"kernel": 4}, "kernel 4 is out of range (odd, 1…31)"),
        ({"first_kernel": 1}, "first_kernel 1 is out of range (odd, 3…31)"),
        ({"components": 0}, "components 0 is out of range"),
        ({"features": -1}, "features -1 is out of range"),
        ({"scales": 0}, "scales 0 is out of range"),
        ({"colours": 0}, "colours 0 is out of range"),
        ({"scales": 2.5}, "scales is 2.5, expected int"),
        ({"depth": 3}, "unknown argument 'depth'"),
    ],
)
def test_absurd_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        OBJECTIVES.build({"name": "likelihood", **arguments})
    assert message in str(error.value) and "'likelihood'" in str(error.value) and "\n" not in str(error.value)
