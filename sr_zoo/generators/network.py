"""What the registered generators share: all work in LR space, one pixel shuffle at the end (as EDSR, without its upsampling tail)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.registry import Registry

__all__ = ["ACTIVATIONS", "GENERATORS", "Network", "conv", "zeroed"]

GENERATORS = Registry("generator")
ACTIVATIONS = {
    "relu": lambda width: nn.ReLU(inplace=True),
    "silu": lambda width: nn.SiLU(inplace=True),
    "prelu": lambda width: nn.PReLU(width, init=0.1),
}
# A config.json from elsewhere shall not ask for gigabytes: weights of the blocks, as of 'residual' with width² · depth of 2²⁴.
MOST_WEIGHTS = 18 * 2**24


class Network(nn.Module):
    """Head, body, join with a skip around both, tail, pixel shuffle; a subclass says which blocks the body has.

    Args:
        scale: integer factor.
        width: channels of the body; multiples of 16 suit bf16.
        depth: number of blocks.
        noise_channels: planes of noise z beside the picture's three colours, for g(x, z) (paper, appendix F).
        block: makes one, ``(batch, width, h, w)`` → the same shape, with a ``radius`` as the network's.
        weights: of one block, about; checked before any is made.

    Attributes:
        folds_to: registered name of what :meth:`folded` gives, where that is another network.

    Raises:
        ValueError: absurd sizes.
    """

    folds_to: str | None = None

    def __init__(
        self, scale: int, width: int, depth: int, noise_channels: int, block: Callable[[], nn.Module], weights: int
    ):
        super().__init__()
        if not (
            1 <= width <= 1024 and 0 <= depth <= 256 and 0 <= noise_channels <= 1024 and weights * depth <= MOST_WEIGHTS
        ):
            name = next((n for n, part in GENERATORS.items() if part is type(self)), type(self).__name__)
            raise ValueError(
                f"generator {name!r}: width {width}, depth {depth} or noise_channels {noise_channels} is out of range "
                f"(1…1024, 0…256, 0…1024, {MOST_WEIGHTS:,} weights in the blocks)"
            )
        self.scale, self.noise_channels = scale, noise_channels
        self.head = conv(3 + noise_channels, width)
        self.body = nn.Sequential(*(block() for _ in range(depth)))
        self.join = conv(width, width)
        self.tail = conv(width, 3 * scale**2)
        # Start near A⁺x: the network's first pictures are a small perturbation of the consistent baseline.
        nn.init.zeros_(self.tail.bias)
        self.tail.weight.data.mul_(0.1)

    @property
    def radius(self) -> int | None:
        """LR pixels on which one LR pixel's block of outputs depends, in each direction; None where it is all of them."""
        radii = [block.radius for block in self.body]
        return None if None in radii else 3 + sum(radii)

    def folded(self) -> "Network":
        """The network that computes the same without what only learning needs: itself, where there is no such thing."""
        return self

    def described(self, spec: dict) -> dict:
        """How a config describes what :meth:`folded` gives, where ``spec`` describes this."""
        return {**spec, "name": self.folds_to or spec["name"]}

    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(batch, 3, h, w)`` in [0, 1] → the raw picture ``(batch, 3, scale·h, scale·w)``, unbounded.

        ``noise`` is ``(batch, noise_channels, h, w)`` of standard deviation 1 where the network takes any.
        """
        x = lr - 0.5
        features = self.head(x if noise is None else torch.cat([x, noise], 1))
        features = features + self.join(self.body(features))
        return F.pixel_shuffle(self.tail(features), self.scale)


def conv(inputs: int, outputs: int, size: int = 3, **options) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=options.get("dilation", 1) * (size // 2), **options)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with zeros as weights: what a block adds is nothing at the start, and a deep body trains like a shallow one."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
