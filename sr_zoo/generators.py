"""Generators: networks f(x) that propose a picture ỹ, by name.

The first box of *method = generator × consistency × objective*. Any ``nn.Module`` that maps ``(batch, 3, h, w)`` to
``(batch, 3, scale·h, scale·w)`` can be one; those registered here can be written into a checkpoint.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.registry import Registry

__all__ = ["GENERATORS", "Residual", "start_from"]

GENERATORS = Registry("generator")


@GENERATORS.register("residual")
class Residual(nn.Module):
    """Residual 3×3 convolutions in LR space and one pixel shuffle at the end (as EDSR, without its upsampling tail).

    All work is done at LR resolution in plain 3×3 convolutions, which processors run nearest to their peak.

    Args:
        scale: integer factor.
        width: channels of the body; multiples of 16 suit bf16.
        depth: number of residual blocks (two convolutions each).
        noise_channels: planes of noise z beside the picture's three colours, for g(x, z) (paper, appendix F).
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0):
        super().__init__()
        # The product too: a config.json from elsewhere shall not ask for gigabytes.
        if not (1 <= width <= 1024 and 0 <= depth <= 256 and 0 <= noise_channels <= 1024 and width**2 * depth <= 2**24):
            raise ValueError(
                f"generator 'residual': width {width}, depth {depth} or noise_channels {noise_channels} is out of range "
                "(1…1024, 0…256, 0…1024, width² · depth up to 2²⁴)"
            )
        self.scale, self.noise_channels = scale, noise_channels
        self.head = _conv(3 + noise_channels, width)
        self.body = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.join = _conv(width, width)
        self.tail = _conv(width, 3 * scale**2)
        # Start near A⁺x: the network's first pictures are a small perturbation of the consistent baseline.
        nn.init.zeros_(self.tail.bias)
        self.tail.weight.data.mul_(0.1)

    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(batch, 3, h, w)`` in [0, 1] → the raw picture ``(batch, 3, scale·h, scale·w)``, unbounded.

        ``noise`` is ``(batch, noise_channels, h, w)`` of standard deviation 1 where the network takes any.
        """
        x = lr - 0.5
        features = self.head(x if noise is None else torch.cat([x, noise], 1))
        features = features + self.join(self.body(features))
        return F.pixel_shuffle(self.tail(features), self.scale)

    def grown(self, depth: int, noise_channels: int, scale: int | None = None) -> dict[str, Tensor]:
        """The weights of a network with more blocks or noise that computes the same: what is new does nothing yet.

        The body works in LR space, whatever the scale: for another ``scale`` only the tail changes, so that what it computes
        is this network's picture, each pixel the mean of the area that it covers there.

        Raises:
            ValueError: this network has more than that.
        """
        old, more = len(self.body), noise_channels - self.noise_channels
        if depth < old or more < 0:
            raise ValueError(
                f"generator 'residual': {old} blocks and {self.noise_channels} noise_channels cannot become {depth} and "
                f"{noise_channels}"
            )
        larger = Residual(scale or self.scale, self.head.out_channels, depth, noise_channels)
        state = self.head.state_dict()
        larger.head.load_state_dict({**state, "weight": F.pad(state["weight"], (0, 0, 0, 0, 0, more))})
        larger.join.load_state_dict(self.join.state_dict())
        larger.tail.load_state_dict({k: _resized(v, self.scale, larger.scale) for k, v in self.tail.state_dict().items()})
        for i, block in enumerate(self.body):
            larger.body[(i + 1) * depth // old - 1].load_state_dict(block.state_dict())
        return larger.state_dict()


def start_from(generator: nn.Module, trained: nn.Module) -> None:
    """Give ``generator`` the weights of ``trained``.

    That is the same network, or a :class:`Residual` with less depth or noise, or of another scale.

    Raises:
        ValueError: the weights do not fit.
    """
    residual = isinstance(generator, Residual) and isinstance(trained, Residual)
    state = (
        trained.grown(len(generator.body), generator.noise_channels, generator.scale) if residual else trained.state_dict()
    )
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the weights to start from are of another network ({str(error).splitlines()[-1].strip()})"
        ) from None


def _resized(phases: Tensor, old: int, new: int) -> Tensor:
    """The rows of a layer before a pixel shuffle, ``(3·old², …)`` → ``(3·new², …)``: means over the area of each new phase."""
    if old == new:
        return phases
    edges = [torch.arange(n + 1, dtype=phases.dtype, device=phases.device) / n for n in (new, old)]
    low = torch.maximum(edges[0][:-1, None], edges[1][None, :-1])
    high = torch.minimum(edges[0][1:, None], edges[1][None, 1:])
    shares = (high - low).clamp(min=0) * new  # (new, old); a row sums to 1
    grid = phases.unflatten(0, (3, old, old))
    return torch.einsum("ia,jb,cab...->cij...", shares, shares, grid).flatten(0, 2)


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        # Zero at the start: a deep body trains like a shallow one and grows from there.
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x), inplace=True))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
