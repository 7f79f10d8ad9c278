"""A residual network whose convolutions have branches while they learn, and are plain ones when they compute."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.generators.network import GENERATORS, Network, conv, zeroed
from sr_zoo.generators.residual import Residual

__all__ = ["Reparameterised"]


@GENERATORS.register("reparameterised")
class Reparameterised(Network):
    """As ``residual``, but each kernel is the sum of a 3×3, a 1×1, a diagonal, and a 1×1 followed by a 3×3.

    Branches are added as kernels, not as pictures, in training too: so it costs what ``residual`` costs, up to a few small
    matrix products. A checkpoint folder holds the plain network that :meth:`folded` gives.

    Source: Zhang et al. 2021, "Edge-oriented Convolution Block" (without its fixed Sobel branches); folding while training
    after Hu et al. 2022, "Online Convolutional Re-parameterization", arXiv 2204.00826.
    """

    folds_to = "residual"

    def __init__(self, scale: int, width: int = 48, depth: int = 8, noise_channels: int = 0):
        super().__init__(scale, width, depth, noise_channels, lambda: _Block(width), 60 * width**2)

    def folded(self) -> Residual:
        """The plain network that computes the same."""
        plain = Residual(self.scale, self.head.out_channels, len(self.body), self.noise_channels)
        for name in ("head", "join", "tail"):
            getattr(plain, name).load_state_dict(getattr(self, name).state_dict())
        for mine, block in zip(self.body, plain.body):
            for name in ("first", "second"):
                weight, bias = getattr(mine, name).folded()
                getattr(block, name).load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return plain.train(self.training)

    def unfold(self, plain: Residual) -> None:
        """Take over a plain network's weights, with branches that begin by adding nothing.

        Raises:
            RuntimeError: they do not fit.
        """
        if len(plain.body) != len(self.body) or plain.activation != "relu":
            raise RuntimeError(f"{len(plain.body)} blocks, {plain.activation}; here {len(self.body)}, relu")
        state = {k: v for k, v in plain.state_dict().items() if not k.startswith("body.")}
        for i, (mine, block) in enumerate(zip(self.body, plain.body)):
            for name in ("first", "second"):
                layer, branches = getattr(block, name), getattr(mine, name)
                state |= {f"body.{i}.{name}.plain.{k}": v for k, v in layer.state_dict().items()}
                state |= {f"body.{i}.{name}.expand.weight": branches.expand.weight.detach()}
                for part in ("point.weight", "diagonal", "reduce.weight"):
                    state[f"body.{i}.{name}.{part}"] = torch.zeros_like(branches.get_parameter(part))
        self.load_state_dict(state)


class _Block(nn.Module):
    radius = 2

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = Branches(width), Branches(width)
        for layer in (self.second.plain, self.second.point, self.second.reduce):
            zeroed(layer)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x), inplace=True))


class Branches(nn.Module):
    """plain(x) + point(x) + diagonal · x + reduce(expand(x)), computed as one 3×3 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.plain = conv(width, width)
        # Without biases: one before a padded convolution would not fold at the picture's border.
        self.point = zeroed(conv(width, width, 1, bias=False))
        self.diagonal = nn.Parameter(torch.zeros(width))
        self.expand = conv(width, 2 * width, 1, bias=False)
        self.reduce = zeroed(conv(2 * width, width, bias=False))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight ``(width, width, 3, 3)`` and bias of the one convolution."""
        with torch.autocast(self.diagonal.device.type, enabled=False):
            middle = self.point.weight[..., 0, 0] + torch.diag(self.diagonal)
            chain = torch.einsum("omxy,mi->oixy", self.reduce.weight, self.expand.weight[..., 0, 0])
            return self.plain.weight + chain + F.pad(middle[..., None, None], (1, 1, 1, 1)), self.plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.folded(), padding=1)
