"""Likelihood: the generator ascends the density of true pictures, which a network learns (paper, equation 3: AffLL)."""

from torch import Tensor

from sr_zoo.objectives.base import OBJECTIVES, Objective, frozen
from sr_zoo.objectives.densities import PixelMCGSM, dequantise, to_bits

__all__ = ["Likelihood"]


@OBJECTIVES.register("likelihood")
class Likelihood(Objective):
    """−log p(ŷ) under a density that learns −log p(y), both in nats per value, for pixels in [0, 1].

    The density is fitted to dequantised pictures; ŷ is continuous already and gets no noise, so the generator's loss is
    deterministic. It has a lower bound, −5.87 nats (−0.47 bits at 8 bits): no Gaussian is narrower than the noise.
    Its maximum is a smooth picture, not a typical one, as the paper observes (AffLL blurs).

    ``log``: ``prior/bits_per_dim`` of the last true pictures and ``prior/sr_bits_per_dim`` of the last ŷ, at 8 bits.

    Args: those of :class:`PixelMCGSM`.
    """

    def __init__(
        self,
        colours: int = 3,
        layers: int = 4,
        width: int = 64,
        kernel: int = 5,
        first_kernel: int = 7,
        components: int = 32,
        features: int = 32,
        scales: int = 4,
    ):
        super().__init__()
        self.density = PixelMCGSM(colours, layers, width, kernel, first_kernel, components, features, scales)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        with frozen(self.density):
            loss = self._loss(sr)
        self.log["prior/sr_bits_per_dim"] = to_bits(loss.detach())
        return loss

    def fit(self, sr: Tensor | None, hr: Tensor) -> Tensor:
        loss = self._loss(dequantise(hr.detach()))
        self.log["prior/bits_per_dim"] = to_bits(loss.detach())
        return loss

    def _loss(self, picture: Tensor) -> Tensor:
        return -self.density.conditionals(picture).mean()
