"""Other blocks than the residual one: attention, large depthwise kernels, products."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.generators.network import GENERATORS, Network, conv, zeroed

__all__ = ["Attention", "ChannelAttention", "Depthwise", "Gated"]


@GENERATORS.register("attention")
class Attention(Network):
    """Residual blocks that also weigh what passes by what they add: (x + r) · 2σ(r). No weights more than ``residual``.

    Source: Wan et al. 2024, "Swift Parameter-free Attention Network", arXiv 2311.12770; there σ(r) − ½, here a gate that is 1
    at the start.
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0):
        super().__init__(scale, width, depth, noise_channels, lambda: _Attention(width), 18 * width**2)


class _Attention(nn.Module):
    radius = 2

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = conv(width, width), zeroed(conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        r = self.second(F.relu(self.first(x), inplace=True))
        return (x + r) * (2 * torch.sigmoid(r))


@GENERATORS.register("channel_attention")
class ChannelAttention(Network):
    """Residual blocks whose channels are weighed by their means over the whole picture: tiles would see other means.

    Source: Zhang et al. 2018, "Residual Channel Attention Networks", arXiv 1807.02758.
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0):
        super().__init__(scale, width, depth, noise_channels, lambda: _ChannelAttention(width), 19 * width**2)


class _ChannelAttention(nn.Module):
    radius = None

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = conv(width, width), zeroed(conv(width, width))
        few = max(4, width // 4)
        self.weigh = nn.Sequential(conv(width, few, 1), nn.ReLU(inplace=True), conv(few, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        r = self.second(F.relu(self.first(x), inplace=True))
        return x + r * (2 * self.weigh(r.mean((2, 3), keepdim=True)))


@GENERATORS.register("depthwise")
class Depthwise(Network):
    """A large depthwise kernel sees far for few multiplications, two 1×1 convolutions mix the channels.

    Args:
        scale, width, depth, noise_channels: see :class:`~sr_zoo.generators.network.Network`.
        kernel: side of the depthwise kernel, odd, 3 to 31.

    Source: Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545, without its normalisation.
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0, kernel: int = 7):
        if not (3 <= kernel <= 31 and kernel % 2):
            raise ValueError(f"generator 'depthwise': kernel {kernel} is not odd and between 3 and 31")
        weights = 4 * width**2 + kernel**2 * width
        super().__init__(scale, width, depth, noise_channels, lambda: _Depthwise(width, kernel), weights)


class _Depthwise(nn.Module):
    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.radius = kernel // 2
        self.look = conv(width, width, kernel, groups=width)
        self.first, self.second = conv(width, 2 * width, 1), zeroed(conv(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(self.look(x)), inplace=True))


@GENERATORS.register("gated")
class Gated(Network):
    """Products of features instead of an activation, then a convolution with holes: sees farther with a quarter fewer multiplications.

    The product of two linear filters is what tells an edge's direction from its contrast. Ours; the product is the "simple
    gate" of Chen et al. 2022, arXiv 2204.04676.
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0):
        if width % 2:
            raise ValueError(f"generator 'gated': width {width} is odd, and cannot be halved")
        super().__init__(scale, width, depth, noise_channels, lambda: _Gated(width), 14 * width**2)


class _Gated(nn.Module):
    radius = 3

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = conv(width, width), zeroed(conv(width // 2, width, dilation=2))
        # One factor begins near 1: the product then passes the other on.
        with torch.no_grad():
            self.first.bias[: width // 2] += 1

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x).chunk(2, 1)
        return x + self.second(one * other)
