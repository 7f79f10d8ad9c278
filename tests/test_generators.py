"""Networks: shapes, and growth that changes nothing at first."""

import math

import pytest
import torch
from torch.nn import functional as F

from sr_zoo.generators import Residual, start_from


@pytest.mark.parametrize("depth", [2, 3, 5, 8])
def test_a_deeper_network_computes_what_it_grew_from(depth):
    torch.manual_seed(0)
    shallow, deep = Residual(2, 16, 2), Residual(2, 16, depth)
    for block in shallow.body:
        torch.nn.init.normal_(block.second.weight, std=0.1)
    start_from(deep, shallow)
    lr = torch.rand(1, 3, 7, 5)
    assert torch.equal(deep(lr), shallow(lr))
    deep(lr).square().mean().backward()
    assert all(block.second.weight.grad.abs().max() > 0 for block in deep.body), "new blocks learn from the first step"


@pytest.mark.parametrize(
    "other", [Residual(2, 16, 1), Residual(2, 32, 2), Residual(3, 32, 2), torch.nn.Upsample(scale_factor=2)]
)
def test_what_does_not_fit_is_one_line(other):
    with pytest.raises(ValueError, match="cannot become|of another network") as error:
        start_from(other, Residual(2, 16, 2))
    assert "\n" not in str(error.value)


def test_noise_changes_nothing_before_it_is_learned():
    torch.manual_seed(0)
    plain, noisy = Residual(2, 16, 1), Residual(2, 16, 1, noise_channels=2)
    start_from(noisy, plain)
    lr, noise = torch.rand(1, 3, 7, 5), torch.randn(1, 2, 7, 5)
    assert torch.allclose(noisy(lr, noise), plain(lr), atol=1e-6)
    noisy(lr, noise).square().mean().backward()
    assert noisy.head.weight.grad[:, 3:].abs().max() > 0
    with pytest.raises(ValueError, match="cannot become"):
        start_from(plain, noisy)


@pytest.mark.parametrize(("old", "new", "depth"), [(4, 2, 2), (4, 3, 2), (2, 4, 3)])
def test_another_scale_starts_with_the_same_picture_resized(old, new, depth):
    torch.manual_seed(0)
    trained, other = Residual(old, 16, 2), Residual(new, 16, depth)
    trained.tail.weight.data.mul_(10)
    torch.nn.init.normal_(trained.tail.bias)
    start_from(other, trained)
    lr = torch.rand(1, 3, 6, 5)
    # Exact where both are seen at the least common multiple of their scales.
    common = math.lcm(old, new)
    mean = F.avg_pool2d(trained(lr).repeat_interleave(common // old, 2).repeat_interleave(common // old, 3), common // new)
    assert torch.allclose(other(lr), mean, atol=1e-5)
