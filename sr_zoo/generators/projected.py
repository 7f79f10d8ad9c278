"""A generator whose picture agrees with another operator than the model's: what was trained for one, under another."""

from torch import Tensor, nn

from sr_zoo.consistency import Affine, Consistency
from sr_zoo.generators.around import Around
from sr_zoo.generators.network import GENERATORS
from sr_zoo.operators import Downsampler

__all__ = ["Projected"]


class Projected(Around):
    """A generator with the consistency that it was trained with: its pictures, for another operator to project."""

    adds_traceable = False

    def __init__(self, generator: nn.Module, consistency: Consistency):
        super().__init__(generator)
        self.consistency, self.reach = consistency, consistency.radius

    def forward(self, lr: Tensor, *noise: Tensor) -> Tensor:
        return self.consistency(self.generator(lr, *noise).float().contiguous(), lr)

    def folded(self) -> "Projected":
        return self.around(self.generator.folded())

    def described(self, spec: dict) -> dict:
        inner = spec["generator"]
        return {**spec, "generator": self.generator.described({"name": inner} if isinstance(inner, str) else inner)}


@GENERATORS.register("projected")
def projected(
    scale: int, kernel: str | list = "bicubic", ridge: float = 0.0, generator: str | dict = "residual"
) -> Projected:
    """Π(ỹ, x) of another operator as ỹ: where a network goes on learning for another kernel than it was trained for.

    Without, it would begin with noise: of ỹ as it is, only what its own operator cannot see was ever held to anything.

    Args:
        kernel, ridge: of the operator that ``generator`` was trained for, see :class:`~sr_zoo.operators.Downsampler`.
        generator: as that of :class:`~sr_zoo.methods.SuperResolver`.
    """
    return Projected(GENERATORS.build(generator, scale), Affine(Downsampler(kernel, scale, ridge)))
