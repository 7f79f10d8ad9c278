"""Regression: the distance to the true picture. Its prior is the training pairs themselves."""

from torch import Tensor
from torch.nn import functional as F

from sr_zoo.objectives.base import OBJECTIVES, Objective

__all__ = ["Regression"]

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}


@OBJECTIVES.register("regression")
class Regression(Objective):
    """Mean pixel loss between ŷ and y.

    Args:
        loss: ``"mse"`` as in the paper (its minimiser is the conditional mean, which PSNR rewards) or ``"l1"`` (the median;
            less ruled by the few hardest pictures, better PSNR in short trainings: see the recipes).
    """

    paired = True

    def __init__(self, loss: str = "mse"):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"objective 'regression': loss is {loss!r}, expected one of {', '.join(LOSSES)}")
        self.loss = loss

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return LOSSES[self.loss](sr, hr)
