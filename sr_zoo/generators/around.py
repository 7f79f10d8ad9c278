"""A generator around a generator: what is done before and after a network, whichever computes it."""

import copy

from torch import nn

__all__ = ["Around", "layers"]


class Around(nn.Module):
    """Passes on what is asked of generators; subclasses say in ``forward`` what they add.

    Attributes:
        reach: LR pixels, in each direction, that it looks beyond what the network sees.
        adds_traceable: whether what it adds can be told in a graph for any size.
    """

    reach, adds_traceable = 0, True

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator
        self.noise_channels = getattr(generator, "noise_channels", 0)

    @property
    def radius(self) -> int | None:
        """As that of :class:`~sr_zoo.generators.network.Network`."""
        radius = getattr(self.generator, "radius", None)
        return None if radius is None else radius + self.reach

    @property
    def traceable(self) -> bool:
        """Whether all of it can be told in a graph for any size, what it is around included."""
        return self.adds_traceable and getattr(self.generator, "traceable", True)

    def around(self, generator: nn.Module) -> "Around":
        """The same around another generator, such as this one's prepared for inference."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "generator": generator}  # which a copy still shares
        return twin


def layers(generator: nn.Module) -> list[nn.Module]:
    """The generator, what it is around, and so on: the network comes last."""
    found = [generator]
    while isinstance(found[-1], Around):
        found.append(found[-1].generator)
    return found
