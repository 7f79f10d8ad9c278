"""The contract that every objective keeps."""

from torch import Tensor, nn

from sr_zoo.registry import Registry

__all__ = ["OBJECTIVES", "Objective"]

OBJECTIVES = Registry("objective")


class Objective(nn.Module):
    """What the generator descends, and what the objective's own network (the prior) descends.

    - ``objective(sr, hr, lr)`` is the generator's loss; it gives no gradient to the objective's own parameters.
    - ``objective.fit(sr, hr)`` is the prior's loss, None where there is none; it gives no gradient to the generator.
    - ``objective.log`` holds figures of the last call, under the same names in every method.

    Tensors are ``(batch, colours, height, width)`` in [0, 1].
    """

    def __init__(self):
        super().__init__()
        self.log: dict[str, Tensor] = {}

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        raise NotImplementedError

    def fit(self, sr: Tensor, hr: Tensor) -> Tensor | None:
        return None
