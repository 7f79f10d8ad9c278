"""Adversarial: a discriminator tells the generator where its pictures are more likely than real ones."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.objectives.base import OBJECTIVES, Objective, frozen
from sr_zoo.objectives.discriminators import DISCRIMINATORS

__all__ = ["Adversarial"]

BLIND = math.log(4)  # D's cross-entropy when it answers ½ to everything


@OBJECTIVES.register("adversarial")
class Adversarial(Objective):
    """The paper's GAN: the generator descends −E log [D(ŷ) / (1 − D(ŷ))], which at the optimal D is KL[q‖p].

    D descends −E log D(y) − E log(1 − D(ŷ)). Gaussian *instance noise* of std σ is added to what D sees, real and generated, in
    both steps, so that the divergence of two distributions without common support is finite (paper, instance noise).

    Args:
        network: the discriminator, pictures → logits of any shape ``(batch, …)`` (means are taken over all): a registered
            name, ``{"name": …, **arguments}`` or a module.
        noise: σ at the start of the training, pixels in [0, 1].
        noise_end: σ at its end; between, it falls linearly.
        noise_target: above 0, σ is steered instead, so that D's loss stays at this value (between 0 and ln 4 = 1.386): the
            heuristic that the paper proposes and does not try. ``noise`` is where σ begins, ``noise_end`` the least it can be.
        hold_above: the generator waits while D's loss (mean of some hundred steps) is above this: a D that cannot tell is no
            guide. 0 never waits.
        spectral_norm: bound D's slope by spectral normalisation of its layers (Miyato et al. 2018).
        r1: weight of the penalty on D's gradient at real pictures, r1/2 · E‖∇ logit‖² (Mescheder et al. 2018).
        pixel: weight of the mean absolute difference from the true picture in the generator's loss, the anchor of SRGAN and its
            successors. Above 0 the training needs pairs; the paper has none.
        pixel_block: side of the blocks over which pixels are averaged before they are compared; 2 leaves the finest octave, which
            hardly anything of the input predicts, to D alone.
    """

    needs_samples = True
    begins = ("steered",)

    def __init__(
        self,
        network: str | dict | nn.Module = "strided",
        noise: float = 0.1,
        noise_end: float = 0.0,
        noise_target: float = 0.0,
        hold_above: float = 0.0,
        spectral_norm: bool = False,
        r1: float = 0.0,
        pixel: float = 0.0,
        pixel_block: int = 1,
    ):
        super().__init__()
        if not 0 <= noise_end <= noise:
            raise ValueError(
                f"objective 'adversarial': noise {noise} must not be below noise_end {noise_end}, nor 0 above it"
            )
        for name, value in (("noise_target", noise_target), ("hold_above", hold_above)):
            if not 0 <= value < BLIND:
                raise ValueError(f"objective 'adversarial': {name} is {value}, expected 0 to ln 4 = {BLIND:.3f}")
        if noise_target and not noise:
            raise ValueError("objective 'adversarial': noise_target steers noise, which is 0; begin above")
        for name, value in (("r1", r1), ("pixel", pixel)):
            if not value >= 0:
                raise ValueError(f"objective 'adversarial': {name} is {value}, expected 0 or more")
        self.network = network if isinstance(network, nn.Module) else DISCRIMINATORS.build(network)
        if spectral_norm:
            for layer in self.network.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    nn.utils.parametrizations.spectral_norm(layer)
        self.noise, self.noise_end, self.noise_target = float(noise), float(noise_end), noise_target
        if not 1 <= pixel_block <= 64:
            raise ValueError(f"objective 'adversarial': pixel_block is {pixel_block}, expected 1 to 64")
        self.hold_above, self.r1, self.pixel, self.pixel_block = hold_above, r1, pixel, pixel_block
        self.paired = pixel > 0
        # Both are part of the state: a resumed training goes on with them.
        self.register_buffer("steered", torch.tensor(float(noise)))
        self.register_buffer("prior_loss", torch.tensor(BLIND))

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the instance noise now."""
        if self.noise_target:
            return self.steered
        return torch.as_tensor(self.noise + (self.noise_end - self.noise) * self.progress)

    @property
    def ready(self) -> bool:
        return not self.hold_above or float(self.prior_loss) < self.hold_above

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        with frozen(self.network):
            loss = -self._logits(self._noisy(sr)).mean()
        self.log["prior/kl"] = loss.detach()
        if self.pixel:
            loss = loss + self.pixel * F.avg_pool2d(sr - hr, self.pixel_block).abs().mean()
        return loss

    def fit(self, sr: Tensor, hr: Tensor) -> Tensor:
        real, fake = self._noisy(hr), self._noisy(sr.detach())
        real.requires_grad_(self.r1 > 0)
        on_real, on_fake = self._logits(real), self._logits(fake)
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        self._follow(loss.detach())
        self.log.update({
            "prior/real": on_real.detach().sigmoid().mean(), "prior/fake": on_fake.detach().sigmoid().mean(),
            "prior/noise": self.sigma.clone(),
        })  # fmt: skip
        if self.r1:
            # The mean over each picture's logits, as the loss takes it: a patch counts by its share.
            (slope,) = torch.autograd.grad(on_real.reshape(len(on_real), -1).mean(1).sum(), real, create_graph=True)
            loss = loss + self.r1 / 2 * slope.square().flatten(1).sum(1).mean()
        return loss

    def _logits(self, picture: Tensor) -> Tensor:
        return self.network(picture).float()

    def _noisy(self, picture: Tensor) -> Tensor:
        return picture + self.sigma.to(picture.device) * torch.randn_like(picture)

    def _follow(self, loss: Tensor) -> None:
        self.prior_loss.lerp_(loss, 0.02)
        if self.noise_target:
            # More noise where D is surer than wanted. A step of at most 1 % or so: slower than D learns.
            self.steered.mul_(torch.exp(0.02 * (self.noise_target - self.prior_loss)))
            self.steered.clamp_(min=max(self.noise_end, 1e-6), max=1e3)
