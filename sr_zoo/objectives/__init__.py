"""Objectives: the prior's pull on ŷ, one file each.

The last box of *method = generator × consistency × objective*. All keep one contract (:class:`Objective`).
"""

from sr_zoo.objectives.adversarial import Adversarial
from sr_zoo.objectives.base import OBJECTIVES, Objective, frozen
from sr_zoo.objectives.denoising import Denoising
from sr_zoo.objectives.likelihood import Likelihood
from sr_zoo.objectives.regression import Regression

__all__ = ["OBJECTIVES", "Adversarial", "Denoising", "Likelihood", "Objective", "Regression", "frozen"]
