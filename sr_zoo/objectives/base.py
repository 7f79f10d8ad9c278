"""The contract that every objective keeps."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from sr_zoo.registry import Registry

__all__ = ["OBJECTIVES", "Objective", "frozen"]

OBJECTIVES = Registry("objective")


class Objective(nn.Module):
    """What the generator descends, and what the objective's own network (the prior) descends.

    - ``objective(sr, hr, lr)`` is the generator's loss; it gives no gradient to the objective's own parameters.
    - ``objective.fit(sr, hr)`` is the prior's loss, None where there is none; it gives no gradient to the generator.
    - ``objective.log`` holds figures of the last call, under the same names in every method.

    Tensors are ``(batch, colours, height, width)`` in [0, 1].

    Attributes:
        paired: whether ``hr`` must be the true picture of ``lr``; otherwise any pictures do.
        needs_samples: whether ``fit`` needs ``sr``; otherwise it takes None there, and the prior can be trained on its own.
        begins: names of the state that a new training begins anew, also one that starts from a trained network.
        progress: share of the training that is done, set by whoever trains; schedules follow it.
    """

    paired = False
    needs_samples = False
    begins: tuple[str, ...] = ()

    def __init__(self):
        super().__init__()
        self.log: dict[str, Tensor] = {}
        self.progress = 0.0

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        raise NotImplementedError

    def fit(self, sr: Tensor | None, hr: Tensor) -> Tensor | None:
        return None

    @property
    def has_prior(self) -> bool:
        """Whether it has a network of its own; of a generator that follows one, PSNR says little."""
        return any(True for _ in self.parameters())

    @property
    def ready(self) -> bool:
        """Whether the prior knows enough for the generator to follow it; until then only the prior is trained."""
        return True


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through ``module`` but not into its parameters."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
