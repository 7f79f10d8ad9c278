"""A picture in tiles is the picture in one piece, for every network, size of tile and size of picture."""

import pytest
import torch
from torch import nn

import sr_zoo
from sr_zoo import AffGAN, AffMSE, tiles
from sr_zoo.engine import Settings, super_resolve, upscale_pictures
from sr_zoo.picture import Picture
from sr_zoo.tiles import NotANumber, RawRows


def lr_picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


def furthest(model, size, tile) -> float:
    lr = lr_picture(*size)
    with torch.inference_mode():
        return float((super_resolve(model, lr, Settings("float32", tile=tile)) - model(lr)).abs().max())


@pytest.mark.parametrize("size", [(1, 1), (1, 75), (3, 7), (37, 53), (64, 32)])
@pytest.mark.parametrize("tile", [1, 8, 32, 100, 0, None])
def test_tiled_is_whole(model, size, tile):
    assert furthest(model, size, tile) <= 1e-5


@pytest.mark.parametrize("tile", [32, 64, 100])
@pytest.mark.parametrize(
    "name",
    ["affmse-x4-fast", *(pytest.param(m["name"], marks=pytest.mark.slow) for m in sr_zoo.list_models())],
)
def test_tiled_is_whole_for_what_ships(name, tile):
    assert furthest(sr_zoo.load(name), (131, 107), tile) <= 1e-5


def test_a_halo_smaller_than_the_receptive_field_shows(model, monkeypatch):
    """What the tests above rest on: the overlap is needed."""
    monkeypatch.setattr(type(model.inference_generator), "radius", 1)
    assert furthest(model, (37, 53), 16) > 1e-4


def test_a_constant_picture_has_no_seams(model):
    for tile in (5, 16):
        sr = super_resolve(model, torch.full((1, 3, 40, 40), 0.5), Settings("float32", tile=tile))
        whole = model(torch.full((1, 3, 40, 40), 0.5))
        assert (sr - whole).abs().max() <= 1e-5


def test_noise_belongs_to_the_picture_and_not_to_the_tile():
    torch.manual_seed(0)
    model = AffGAN(generator={"name": "residual", "width": 16, "depth": 1}, noise_channels=2).eval()
    lr = lr_picture(30, 41)
    for seed in (0, 7):
        whole = model(lr, seed=seed)
        assert (super_resolve(model, lr, Settings("float32", seed, tile=9)) - whole).abs().max() <= 1e-5
    assert (model(lr, seed=0) - model(lr, seed=7)).abs().max() > 1e-3


def test_a_network_that_sees_everything_gets_everything():
    torch.manual_seed(0)
    model = AffMSE(generator={"name": "channel_attention", "width": 16, "depth": 2}).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.05)
    assert model.generator.radius is None
    assert furthest(model, (40, 50), 16) <= 1e-5


class Shy(nn.Module):
    """A ×4 network that runs out of memory on more than so many pixels, and overflows in bf16."""

    radius = 0

    def __init__(self, most: int = 10**9, overflows: bool = False, broken: bool = False):
        super().__init__()
        self.scale, self.most, self.overflows, self.broken, self.seen = (
            nn.Parameter(torch.ones(1)),
            most,
            overflows,
            broken,
            [],
        )

    def forward(self, lr):
        self.seen.append(tuple(lr.shape[-2:]))
        if lr.shape[-1] * lr.shape[-2] > self.most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        if self.broken or (self.overflows and torch.is_autocast_enabled("cpu")):
            lr = lr * float("nan")
        return lr.repeat_interleave(4, -1).repeat_interleave(4, -2) * self.scale


def test_tiles_are_halved_until_they_fit():
    shy = Shy(most=300)
    model, lr = AffMSE(generator=shy).eval(), lr_picture(50, 70)
    assert (super_resolve(model, lr) - model.consistency(Shy()(lr), lr)).abs().max() <= 1e-5
    assert max(h * w for h, w in shy.seen[-3:]) <= 300 < max(h * w for h, w in shy.seen)


def test_memory_that_never_suffices_is_said():
    with pytest.raises(MemoryError, match="70×50"):
        super_resolve(AffMSE(generator=Shy(most=10)).eval(), lr_picture(50, 70))


def test_other_errors_of_the_network_are_not_taken_for_memory():
    class Wrong(Shy):
        def forward(self, lr):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        super_resolve(AffMSE(generator=Wrong()).eval(), lr_picture(5, 7))


def test_what_overflows_in_bf16_is_computed_in_float32(picture):
    saved = [
        upscale_pictures([Picture(picture)], AffMSE(generator=Shy(overflows=o)).eval(), Settings(p, tile=16))[0].array
        for o, p in ((True, "bf16"), (False, "float32"))
    ]
    assert (saved[0] == saved[1]).all() and saved[0].max() > 200


def test_a_broken_network_is_no_black_picture(picture):
    with pytest.raises(NotANumber, match="not finite"):
        upscale_pictures([Picture(picture)], AffMSE(generator=Shy(broken=True)).eval())


def test_rows_are_computed_once_and_forgotten():
    shy = Shy()
    model, lr = AffMSE(generator=shy).eval(), lr_picture(60, 20)
    raw = RawRows(model, lambda top, bottom: lr[..., top:bottom, :], (60, 20), "float32", tile=20)
    for top, bottom in ((0, 25), (10, 45), (30, 60)):
        assert torch.equal(raw.window(top, bottom), Shy()(lr)[..., 4 * top : 4 * bottom, :])
    assert sum(h * w for h, w in shy.seen) == 60 * 20
    assert sum(part.shape[-2] for _, part in raw.parts) < 4 * 60


def test_free_memory_is_a_number_of_bytes():
    assert 2**20 < tiles.free_memory(torch.device("cpu")) < 2**50
