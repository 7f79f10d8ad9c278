"""Free, Soft, Affine: (raw, lr) → sr."""

import pytest
import torch

from sr_zoo.consistency import CONSISTENCIES
from sr_zoo.operators import Downsampler


@pytest.fixture
def tensors():
    random = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 20, 24, generator=random), torch.rand(2, 3, 5, 6, generator=random)


def test_affine_agrees_with_the_input_whatever_the_network_says(tensors):
    raw, lr = tensors
    affine = CONSISTENCIES.build("affine", Downsampler())
    assert affine.exact
    assert (affine.downsampler.A(affine(100 * raw.bfloat16(), lr)) - lr).abs().max() < 1e-4
    assert (affine.downsampler.A(affine(raw, lr)) - lr).abs().max() < 1e-6
    assert affine.penalty(affine(raw, lr), lr) == 0


def test_affine_is_only_as_exact_as_its_operator():
    assert not CONSISTENCIES.build("affine", Downsampler("bicubic", 4, ridge=1e-3)).exact


@pytest.mark.parametrize("name", ["free", "soft"])
def test_residual_forms(name, tensors):
    raw, lr = tensors
    part = CONSISTENCIES.build(name, Downsampler())
    assert not part.exact
    assert torch.allclose(part(raw, lr), part.downsampler.pinv(lr) + raw)


@pytest.mark.parametrize("kernels", [("gaussian:1.2", "box"), ("box", "gaussian:1.2")])
@pytest.mark.parametrize("name", ["free", "soft"])
def test_what_they_add_to_may_be_of_another_kernel(name, kernels, tensors):
    raw, lr = tensors
    operator, before = (Downsampler(kernel, 4) for kernel in kernels)
    part = CONSISTENCIES.build({"name": name, "base": kernels[1]}, operator)
    assert torch.allclose(part(raw, lr), before.pinv(lr) + raw) and part.downsampler is operator
    assert part.radius == max(operator.radius, before.radius)
    plain = CONSISTENCIES.build(name, operator)
    assert part.penalty(raw, lr) == plain.penalty(raw, lr), "what A sees of the output is the model's matter"


def test_soft_penalty(tensors):
    raw, lr = tensors
    soft = CONSISTENCIES.build({"name": "soft", "weight": 3.0}, Downsampler())
    sr = soft(raw, lr)
    assert torch.allclose(soft.penalty(sr, lr), 3 * (soft.downsampler.A(sr) - lr).square().mean())
    assert soft.penalty(soft.downsampler.pinv(lr), lr) < 1e-10
