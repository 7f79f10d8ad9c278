"""Consistency: how the generator's raw output ỹ becomes a picture ŷ that agrees with the LR picture x.

The middle box of *method = generator × consistency × objective*: (raw, lr) → sr, and for ``Soft`` a penalty.
"""

from torch import Tensor, nn

from sr_zoo.operators import Downsampler
from sr_zoo.registry import Registry

__all__ = ["CONSISTENCIES", "Affine", "Consistency", "Free", "Soft"]

CONSISTENCIES = Registry("consistency")


class Consistency(nn.Module):
    """(raw, lr) → sr; tensors are ``(batch, colours, height, width)`` in [0, 1], HR being ``scale`` times LR in size.

    Attributes:
        base: the operator whose A⁺x the residual form adds to.
        promise: what a user may expect of the output, for the model card and whoever prints figures of consistency.
        discards: whether a part of ỹ goes for nothing, and may therefore be anything after training.
    """

    discards = False

    promise = "Nothing holds its output to the input; it is here to be compared with."

    def __init__(self, downsampler: Downsampler, base: Downsampler | None = None):
        super().__init__()
        self.downsampler = downsampler
        self.base = downsampler if base is None else base

    def forward(self, raw: Tensor, lr: Tensor) -> Tensor:
        """The residual form: A⁺x + ỹ, in float32."""
        return self.base.pinv(lr) + raw.float()

    @property
    def radius(self) -> int:
        """LR pixels, in each direction, on which a pixel of ŷ depends: by so many, strips of a picture overlap."""
        return max(self.downsampler.radius, self.base.radius)

    @property
    def exact(self) -> bool:
        """Whether A ŷ = x is promised."""
        return False

    def penalty(self, sr: Tensor, lr: Tensor) -> Tensor | float:
        """What is added to the generator's loss: nothing."""
        return 0.0


@CONSISTENCIES.register("free")
class Free(Consistency):
    """ŷ = A⁺x + ỹ: nothing holds the output to the input but the training data.

    Args:
        base, base_ridge: kernel of the A⁺ that the network has learned to add to, where that is another than the model's.
    """

    def __init__(self, downsampler: Downsampler, base: str | list | None = None, base_ridge: float = 0.0):
        super().__init__(downsampler, None if base is None else Downsampler(base, downsampler.scale, base_ridge))


@CONSISTENCIES.register("soft")
class Soft(Free):
    """As Free, with the penalty λ‖A ŷ − x‖² (mean over LR samples); λ is ours, the paper does not state it, and it
    takes the mean absolute error where we take the square, whose pull ends where it is met."""

    promise = "Its output is held near the input by a penalty only; nothing is promised."

    def __init__(
        self, downsampler: Downsampler, weight: float = 10.0, base: str | list | None = None, base_ridge: float = 0.0
    ):
        super().__init__(downsampler, base, base_ridge)
        self.weight = weight

    def penalty(self, sr: Tensor, lr: Tensor) -> Tensor:
        return self.weight * (self.downsampler.A(sr) - lr).square().mean()


@CONSISTENCIES.register("affine")
class Affine(Consistency):
    """ŷ = Π(ỹ, x): of whatever the network says, only what A cannot see survives (paper, section 3.1)."""

    discards = True

    promise = (
        "Its output, downsampled by the operator, is the input again: exactly in float, and sample by sample in the saved "
        "8-bit file wherever the input has a pre-image in 0…255."
    )

    def __init__(self, downsampler: Downsampler):
        super().__init__(downsampler)
        if not downsampler.exact:
            self.promise = (
                f"Its output, downsampled by the operator, is near the input: the projection is regularised "
                f"(ridge {downsampler.ridge:g}), so consistency is approximate."
            )

    def forward(self, raw: Tensor, lr: Tensor) -> Tensor:
        return self.downsampler.project(raw, lr)

    @property
    def exact(self) -> bool:
        return self.downsampler.exact
