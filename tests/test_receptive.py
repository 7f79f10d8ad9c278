"""The receptive field that is found is that of networks whose own is known; no finite one where there is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sr_zoo.generators import GENERATORS
from sr_zoo.receptive import influence_radius, receptive_field
from tests.test_generators import NETWORKS


class Upsampler(nn.Module):
    """Layers in LR space, the last with 3·4 channels, then a pixel shuffle by 2."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, lr):
        return F.pixel_shuffle(self.layers(lr), 2)


class Windows(nn.Module):
    """Softmax attention within windows of 4×4 LR pixels, as far as it matters here."""

    def forward(self, lr):
        height, width = lr.shape[-2:]
        x = F.pad(lr, (0, -width % 4, 0, -height % 4), mode="replicate")
        tokens = x.unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4)).movedim(-3, -2).flatten(-2)
        mixed = tokens.softmax(-1) * tokens.mean(-1, keepdim=True)
        x = mixed.unflatten(-1, (4, 4)).movedim(-2, -3).flatten(-2).flatten(-3, -2)
        return x[..., :height, :width].repeat_interleave(2, -1).repeat_interleave(2, -2)


class Pooled(nn.Module):
    def forward(self, lr):
        return F.interpolate(lr + lr.mean((-2, -1), keepdim=True), scale_factor=2)


class Swallowing(nn.Module):
    """Depends on the whole picture, and lets no NaN through."""

    def forward(self, lr):
        return F.interpolate(lr, scale_factor=2) + lr.nan_to_num().mean()


class Cropped(nn.Module):
    """Of a network that gives whole strides only, what the picture asks for."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, lr):
        return self.network(lr)[..., : 2 * lr.shape[-2], : 2 * lr.shape[-1]]


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=options.get("dilation", 1) * (size // 2), **options)


@pytest.mark.parametrize(
    "network, expected",
    [
        (Upsampler(conv(3, 12, 1)), 0),
        (Upsampler(conv(3, 8), nn.ReLU(), conv(8, 8, 5), nn.ReLU(), conv(8, 12)), 4),
        (Upsampler(conv(3, 8, dilation=3), nn.GELU(), conv(8, 12, 5, dilation=2)), 7),
        (Upsampler(*(conv(3, 3) for _ in range(19)), conv(3, 12)), 20),
        (Upsampler(nn.ZeroPad2d((3, 0, 0, 0)), nn.Conv2d(3, 12, (1, 4))), 3),
        (Upsampler(*(conv(3, 3, 7) for _ in range(16)), conv(3, 12, 3)), None),
        (Pooled(), None),
        (Windows(), None),
        (Swallowing(), None),
        (Cropped(Upsampler(nn.AvgPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2), conv(3, 12))), None),
    ],
    ids=["point", "stack", "dilated", "deep", "one-sided", "beyond", "pooled", "windows", "swallowing", "strides"],
)
def test_known_networks(network, expected):
    torch.manual_seed(0)
    assert receptive_field(network, 2) == expected


def test_dead_activations_and_zero_weights_hide_nothing():
    network = Upsampler(conv(3, 8), nn.ReLU(), conv(8, 12))
    network.layers[0].bias.data.fill_(-1e3)
    network.layers[2].weight.data.zero_()
    assert receptive_field(network, 2) == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_registered_generators(name):
    torch.manual_seed(0)
    network = GENERATORS.build({"name": name, "width": 8, "depth": 2}, 3).train()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    assert receptive_field(network, 3) == network.radius
    assert network.training and all(
        torch.equal(v, state[k]) and v.dtype == state[k].dtype for k, v in network.state_dict().items()
    )


def test_what_weighs_little_is_not_waited_for():
    """A deep network whose far reach weighs nothing has a measured radius; one whose far reach does has none."""

    class Tail(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, lr):
            far = F.avg_pool2d(lr, 61, 1, 30, count_include_pad=False)
            near = F.avg_pool2d(lr, 19, 1, 9)
            return F.interpolate(near + self.weight * far, scale_factor=2)

    assert influence_radius(Tail(1e-7), 2) == 16 and receptive_field(Tail(1e-7), 2) == 30
    assert influence_radius(Tail(0.02), 2) == 32
    assert influence_radius(Pooled(), 2) is None and influence_radius(Windows(), 2) is None
