"""Generators: networks f(x) that propose a picture ỹ, by name.

The first box of *method = generator × consistency × objective*. Any ``nn.Module`` that maps ``(batch, 3, h, w)`` to
``(batch, 3, scale·h, scale·w)`` can be one; those registered here can be written into a checkpoint.
"""

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
    """

    def __init__(self, scale: int, width: int = 48, depth: int = 8):
        super().__init__()
        if not (1 <= width <= 1024 and 0 <= depth <= 256):
            raise ValueError(f"generator 'residual': width {width} or depth {depth} is out of range (1…1024, 0…256)")
        self.scale = scale
        self.head = _conv(3, width)
        self.body = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.join = _conv(width, width)
        self.tail = _conv(width, 3 * scale**2)
        # Start near A⁺x: the network's first pictures are a small perturbation of the consistent baseline.
        nn.init.zeros_(self.tail.bias)
        self.tail.weight.data.mul_(0.1)

    def forward(self, lr: Tensor) -> Tensor:
        """``(batch, 3, h, w)`` in [0, 1] → the raw picture ``(batch, 3, scale·h, scale·w)``, unbounded."""
        features = self.head(lr - 0.5)
        features = features + self.join(self.body(features))
        return F.pixel_shuffle(self.tail(features), self.scale)

    def deepened(self, depth: int) -> dict[str, Tensor]:
        """The weights of a network of ``depth`` blocks that computes the same: the blocks between do nothing yet.

        Raises:
            ValueError: this network has more blocks than that.
        """
        old = len(self.body)
        if depth < old:
            raise ValueError(f"generator 'residual': {old} blocks cannot become {depth}")
        deeper = Residual(self.scale, self.head.out_channels, depth)
        for name in ("head", "join", "tail"):
            getattr(deeper, name).load_state_dict(getattr(self, name).state_dict())
        for i, block in enumerate(self.body):
            deeper.body[(i + 1) * depth // old - 1].load_state_dict(block.state_dict())
        return deeper.state_dict()


def start_from(generator: nn.Module, trained: nn.Module) -> None:
    """Give ``generator`` the weights of ``trained``, which is the same network, or a shallower :class:`Residual`.

    Raises:
        ValueError: the weights do not fit.
    """
    residual = isinstance(generator, Residual) and isinstance(trained, Residual)
    state = trained.deepened(len(generator.body)) if residual else trained.state_dict()
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the weights to start from are of another network ({str(error).splitlines()[-1].strip()})"
        ) from None


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
