"""The plain residual network, and how one begins with what another has learned."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.generators.around import layers
from sr_zoo.generators.network import ACTIVATIONS, GENERATORS, Network, conv, zeroed

__all__ = ["Residual", "start_from"]


@GENERATORS.register("residual")
class Residual(Network):
    """Residual 3×3 convolutions, which processors run nearest to their peak.

    Args:
        scale, width, depth, noise_channels: see :class:`~sr_zoo.generators.network.Network`; a block has two convolutions.
        activation: between them, ``"relu"``, ``"silu"`` or ``"prelu"``.
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0, activation: str = "relu"):
        if activation not in ACTIVATIONS:
            raise ValueError(f"generator 'residual': activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        super().__init__(scale, width, depth, noise_channels, lambda: _Block(width, activation), 18 * width**2)
        self.activation = activation

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
        larger = Residual(scale or self.scale, self.head.out_channels, depth, noise_channels, self.activation)
        state = self.head.state_dict()
        larger.head.load_state_dict({**state, "weight": F.pad(state["weight"], (0, 0, 0, 0, 0, more))})
        larger.join.load_state_dict(self.join.state_dict())
        larger.tail.load_state_dict({k: _resized(v, self.scale, larger.scale) for k, v in self.tail.state_dict().items()})
        for i, block in enumerate(self.body):
            larger.body[(i + 1) * depth // old - 1].load_state_dict(block.state_dict())
        return larger.state_dict()


def start_from(generator: nn.Module, trained: nn.Module) -> None:
    """Give ``generator`` the weights of ``trained``.

    That is the same network, or a :class:`Residual` with less depth or noise, or of another scale; or the one that it folds to.
    Of a generator around a generator, the network inside begins with that of ``trained``.

    Raises:
        ValueError: the weights do not fit.
    """
    inside, learned = layers(generator), layers(trained)
    if len(inside) < len(learned):
        raise ValueError("the weights to start from are of a network with a projection of its own (generator 'projected')")
    for mine, theirs in zip(inside[-2::-1], learned[-2::-1]):
        if not mine.consistency.downsampler.same(theirs.consistency.downsampler):
            raise ValueError(
                "the weights to start from were learned behind the projection of another kernel: "
                f"{theirs.consistency.downsampler}; here {mine.consistency.downsampler}"
            )
    generator, trained = inside[-1], learned[-1]
    residual = isinstance(generator, Residual) and isinstance(trained, Residual)
    if residual and generator.activation != trained.activation:
        raise ValueError(
            f"the weights to start from are of another network (activation {trained.activation}, not {generator.activation})"
        )
    state = (
        trained.grown(len(generator.body), generator.noise_channels, generator.scale) if residual else trained.state_dict()
    )
    try:
        if isinstance(trained, Residual) and getattr(generator, "folds_to", None) == "residual":
            generator.unfold(trained)
        else:
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
    radius = 2

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.first, self.second = conv(width, width), zeroed(conv(width, width))
        self.activation = ACTIVATIONS[activation](width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(x)))
