"""Networks: shapes, and growth that changes nothing at first."""

import math

import pytest
import torch
from torch.nn import functional as F

from sr_zoo import AffMSE, load
from sr_zoo.generators import GENERATORS, Residual, start_from
from sr_zoo.hub import save
from sr_zoo.operators import Downsampler
from sr_zoo.training import start

# All but the one that is around another.
NETWORKS = [name for name in GENERATORS if name != "projected"]


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
    "other",
    [
        Residual(2, 16, 1),
        Residual(2, 32, 2),
        Residual(3, 32, 2),
        Residual(2, 16, 2, activation="silu"),
        torch.nn.Upsample(scale_factor=2),
    ],
)
def test_what_does_not_fit_is_one_line(other):
    with pytest.raises(ValueError, match="cannot become|of another network") as error:
        start_from(other, Residual(2, 16, 2))
    assert "\n" not in str(error.value)


def test_what_is_around_a_network_starts_within():
    torch.manual_seed(0)
    spec = {"name": "residual", "width": 16, "depth": 1}
    once = {"name": "projected", "kernel": "box", "generator": spec}
    plain, one, other = (AffMSE(scale=2, generator=g).eval() for g in (spec, once, once))
    two = AffMSE(scale=2, generator={"name": "projected", "generator": once}).eval()
    for target in (one, two):
        start_from(target.generator, plain.generator)
        assert torch.equal(target.generator.state_dict()[next(k for k in target.generator.state_dict() if "head.weight" in k)],
                           plain.generator.head.weight)  # fmt: skip
    lr = torch.rand(1, 3, 7, 5)
    assert torch.allclose(one.generator(lr), Downsampler("box", 2).project(plain.generator(lr), lr), atol=1e-6)
    torch.nn.init.normal_(one.generator.generator.tail.weight)
    start_from(other.generator, one.generator)
    assert torch.equal(other(lr), one(lr))
    with pytest.raises(ValueError, match="with a projection of its own"):
        start_from(plain.generator, one.generator)


def test_what_was_learned_behind_another_projection_is_no_start():
    spec = {"name": "residual", "width": 16, "depth": 1}
    box, gaussian, ridge = (
        GENERATORS.build({"name": "projected", **o, "generator": spec}, 2)
        for o in ({"kernel": "box"}, {"kernel": "gaussian:1.2"}, {"kernel": "box", "ridge": 0.1})
    )
    for other in (gaussian, ridge):
        with pytest.raises(
            ValueError, match="behind the projection of another kernel: Downsampler.box, scale=2, ridge=0,.* here"
        ):
            start_from(other, box)
    measured = [[[0.25, 0.25], [0.25, 0.25 + more]] for more in (0.0, 0.01)]
    one, two = (GENERATORS.build({"name": "projected", "kernel": k, "generator": spec}, 2) for k in measured)
    start_from(two, GENERATORS.build({"name": "projected", "kernel": measured[1], "generator": spec}, 2))
    with pytest.raises(ValueError, match="of another kernel: Downsampler.measured 2×2"):
        start_from(two, one)


def test_what_is_around_a_network_by_default_and_with_noise(tmp_path):
    for spec in ("projected", {"name": "projected", "kernel": "box"}, {"name": "projected", "generator": "reparameterised"}):
        made = AffMSE(generator=spec, noise_channels=2).eval()
        assert made.noise_channels == 2 and made.generator.generator.noise_channels == 2
        again, lr = load(save(made, tmp_path / "x")), torch.rand(1, 3, 6, 6)
        assert torch.allclose(again(lr), made(lr), atol=1e-5)


def test_as_many_around_one_another_as_are_ever_needed():
    spec = {"name": "residual", "width": 16, "depth": 1}
    for _ in range(8):
        spec = {"name": "projected", "kernel": "box", "generator": spec}
    GENERATORS.build(spec, 2)
    with pytest.raises(ValueError, match="9 around one another, at most 8"):
        GENERATORS.build({"name": "projected", "generator": spec}, 2)


def test_branches_start_from_the_plain_network_that_they_fold_to(tmp_path):
    torch.manual_seed(0)
    spec = {"name": "reparameterised", "width": 16, "depth": 2}
    model, other = AffMSE(scale=2, generator=spec), AffMSE(scale=2, generator=spec)
    for block in model.generator.body:
        torch.nn.init.normal_(block.second.plain.weight, std=0.1)
        torch.nn.init.normal_(block.first.point.weight, std=0.1)
    start(other, str(save(model, tmp_path / "model")))
    lr = torch.rand(1, 3, 7, 5)
    assert torch.allclose(other.generator(lr), model.generator(lr), atol=1e-5)
    other.generator(lr).square().mean().backward()
    assert all(block.first.reduce.weight.grad.abs().max() > 0 for block in other.generator.body), "branches learn again"
    for wrong in (Residual(2, 16, 3), Residual(2, 16, 1), Residual(2, 16, 2, activation="silu"), Residual(2, 32, 2)):
        with pytest.raises(ValueError, match="of another network"):
            start_from(other.generator, wrong)


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


SMALL = [
    {"name": "residual", "activation": "silu"},
    {"name": "residual", "activation": "prelu"},
    {"name": "depthwise", "kernel": 5},
    *({"name": name} for name in NETWORKS),
]


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_radius_is_exact(spec):
    """What one LR pixel's outputs depend on reaches just as far as ``radius`` says, in each direction."""
    torch.manual_seed(0)
    network = GENERATORS.build({**spec, "width": 8, "depth": 2}, 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    side, middle = 41, 20
    lr = torch.rand(1, 3, side, side, requires_grad=True)
    block = network(lr)[..., 3 * middle : 3 * middle + 3, 3 * middle : 3 * middle + 3]
    (reach,) = torch.autograd.grad((block * torch.rand_like(block)).sum(), lr)
    rows, columns = (reach.abs().sum((0, 1, axis)).nonzero()[[0, -1], 0].tolist() for axis in (3, 2))
    radius = middle if network.radius is None else network.radius
    assert rows == columns == [middle - radius, middle + radius]
    assert (network.radius is None) == (spec["name"] == "channel_attention")


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_every_block_learns_from_a_start_that_changes_nothing(spec):
    torch.manual_seed(0)
    network = GENERATORS.build({**spec, "width": 8, "depth": 3}, 2)
    features = torch.rand(1, 8, 9, 9)
    assert torch.allclose(network.body(features), features, atol=1e-6)
    network(torch.rand(1, 3, 9, 9)).square().mean().backward()
    assert all(any(p.grad.abs().max() > 0 for p in block.parameters()) for block in network.body)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [{"width": 10**6}, {"depth": 10**6}, {"width": 0}, {"width": 1024, "depth": 256}])
def test_absurd_sizes_are_refused_before_anything_is_made(name, size):
    with pytest.raises(ValueError, match="out of range"):
        GENERATORS.build({"name": name, **size}, 4)


def test_branches_fold_into_one_convolution():
    torch.manual_seed(0)
    network = GENERATORS.build({"name": "reparameterised", "width": 8, "depth": 2}, 2).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.rand(1, 8, 6, 5, dtype=torch.float64)
    part = network.body[0].first
    branches = part.plain(x) + part.point(x) + part.diagonal[:, None, None] * x + part.reduce(part.expand(x))
    assert torch.allclose(part(x), branches, atol=1e-12), "also at the border"
    lr = torch.rand(1, 3, 7, 5, dtype=torch.float64)
    folded = network.folded()
    assert type(folded) is Residual
    assert torch.allclose(folded.double()(lr), network(lr), atol=1e-5)  # folded as float32


def test_bf16_autocast_folds_in_float32():
    torch.manual_seed(0)
    part = GENERATORS.build({"name": "reparameterised", "width": 8, "depth": 1}, 2).body[0].first
    torch.nn.init.normal_(part.reduce.weight)
    with torch.autocast("cpu", torch.bfloat16):
        low = part.folded()[0]
    chain = torch.einsum("omxy,mi->oixy", part.reduce.weight, part.expand.weight[..., 0, 0])
    assert torch.allclose(low, part.plain.weight + chain, atol=1e-6)


def test_a_checkpoint_holds_the_folded_network(tmp_path):
    torch.manual_seed(0)
    model = AffMSE(generator={"name": "reparameterised", "width": 8, "depth": 1}).eval()
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    loaded = load(save(model, tmp_path / "tiny"))
    assert type(loaded.generator) is Residual and loaded.config["generator"] == {"name": "residual", "width": 8, "depth": 1}
    lr = torch.rand(1, 3, 9, 8)
    assert torch.allclose(loaded(lr), model(lr), atol=1e-5)
