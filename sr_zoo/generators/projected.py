"""A generator whose picture agrees with another operator than the model's: what was trained for one, under another."""

from torch import Tensor, nn

from sr_zoo.consistency import Affine, Consistency
from sr_zoo.generators.around import Around
from sr_zoo.generators.network import GENERATORS
from sr_zoo.operators import Downsampler

__all__ = ["Projected"]

MOST = 8  # around one another: each fine-tuning for another kernel adds one, and a config from elsewhere shall not ask for hours


class Projected(Around):
    """A generator with the consistency that it was trained with: its pictures, for another operator to project."""

    adds_traceable = False

    def __init__(self, generator: nn.Module, consistency: Consistency):
        super().__init__(generator)
        self.consistency = consistency

    @property
    def reach(self) -> int:
        """Found when first asked for: of a wide kernel that takes memory and time."""
        return self.consistency.radius

    def forward(self, lr: Tensor, *noise: Tensor) -> Tensor:
        return self.consistency(self.generator(lr, *noise).float().contiguous(), lr)

    def folded(self) -> "Projected":
        return self.around(self.generator.folded())

    def described(self, spec: dict) -> dict:
        inner = spec.get("generator", "residual")
        return {**spec, "generator": self.generator.described({"name": inner} if isinstance(inner, str) else inner)}


@GENERATORS.register("projected")
def projected(
    scale: int,
    kernel: str | list = "bicubic",
    ridge: float = 0.0,
    generator: str | dict = "residual",
    noise_channels: int = 0,
) -> Projected:
    """Π(ỹ, x) of another operator as ỹ: where a network goes on learning for another kernel than it was trained for.

    Without, it would begin with noise: of ỹ as it is, only what its own operator cannot see was ever held to anything.

    Args:
        kernel, ridge: of the operator that ``generator`` was trained for, see :class:`~sr_zoo.operators.Downsampler`.
        generator: as that of :class:`~sr_zoo.methods.SuperResolver`, another ``projected`` one too.
        noise_channels: of that, if it does not say so itself.

    Raises:
        ValueError: a generator or kernel that makes no sense, or too many around one another.
    """
    generator = {"name": generator} if isinstance(generator, str) else generator
    depth, inside = 1, generator
    while isinstance(inside, dict) and inside.get("name") == "projected":
        depth, inside = depth + 1, inside.get("generator")
    if depth > MOST:
        raise ValueError(f"generator 'projected': {depth} around one another, at most {MOST}")
    if noise_channels:
        generator = {"noise_channels": noise_channels, **generator}
    return Projected(GENERATORS.build(generator, scale), Affine(Downsampler(kernel, scale, ridge)))
