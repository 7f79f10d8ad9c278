"""Denoising: what a denoiser would change in a picture points where pictures are more likely."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.objectives.base import OBJECTIVES, Objective
from sr_zoo.registry import Registry

__all__ = ["DENOISERS", "Denoising", "Unshuffled"]

DENOISERS = Registry("denoiser")


@OBJECTIVES.register("denoising")
class Denoising(Objective):
    """The generator ascends log p by the score of a denoiser: (r_σ(ŷ) − ŷ)/σ² ≈ ∂ log p/∂y, p blurred by σ (paper, AffDG).

    One network is told σ and learns all noise levels at once; the paper trains one while σ falls and walks through snapshots. It
    predicts the noise: r_σ(y) = y − σ·n(y, σ), so that its loss weighs all levels alike.

    Args:
        network: n, ``(noisy picture, σ of shape (batch, 1, …)) → noise``: a registered name, ``{"name": …, **arguments}`` or a
            module.
        noise: σ at the start of the training, pixels in [0, 1]; the largest that the denoiser learns.
        noise_end: σ at its end, the smallest it learns; between, it falls geometrically.
        perturb: add noise of std σ to ŷ before it is denoised, so that the denoiser sees what it was trained on and the
            generator ascends the likelihood of its noisy pictures. The paper does not.
    """

    def __init__(
        self,
        network: str | dict | nn.Module = "unshuffled",
        noise: float = 0.5,
        noise_end: float = 0.01,
        perturb: bool = False,
    ):
        super().__init__()
        if not 0 < noise_end <= noise < math.inf:
            raise ValueError(f"objective 'denoising': noise {noise} must not be below noise_end {noise_end}, nor that 0")
        self.network = network if isinstance(network, nn.Module) else DENOISERS.build(network)
        self.noise, self.noise_end, self.perturb = float(noise), float(noise_end), perturb

    @property
    def sigma(self) -> float:
        """The noise level that the generator follows now."""
        return self.noise * (self.noise_end / self.noise) ** self.progress

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        score = self.score(sr.detach(), self.sigma)
        self.log.update({"prior/noise": torch.tensor(self.sigma), "prior/score": score.square().mean().sqrt()})
        # Not a figure of merit: only its gradient, −score/numel, means something.
        return -(score * sr).mean()

    @torch.no_grad()
    def score(self, picture: Tensor, sigma: float) -> Tensor:
        """∂ log p/∂y where p is the pictures' distribution blurred by a Gaussian of std ``sigma``; shape of the picture."""
        level = picture.new_full(_per_picture(picture), sigma)
        noisy = picture + sigma * torch.randn_like(picture) if self.perturb else picture
        return -self.network(noisy, level).float() / sigma

    def fit(self, sr: Tensor | None, hr: Tensor) -> Tensor:
        share = torch.rand(_per_picture(hr), device=hr.device)
        level = self.noise * (self.noise_end / self.noise) ** share
        noise = torch.randn_like(hr)
        return F.mse_loss(self.network(hr + level * noise, level).float(), noise)


@DENOISERS.register("unshuffled")
class Unshuffled(nn.Module):
    """Residual 3×3 convolutions at half the resolution, 2×2 pixels side by side as channels (as FFDNet), told the noise level.

    Args:
        width: channels of the body.
        depth: number of residual blocks (two convolutions each).
        colours: of the picture.
    """

    def __init__(self, width: int = 64, depth: int = 4, colours: int = 3):
        super().__init__()
        if not (1 <= width <= 1024 and 0 <= depth <= 64 and 1 <= colours <= 64 and width**2 * depth <= 2**24):
            raise ValueError(
                f"denoiser 'unshuffled': width {width}, depth {depth} or colours {colours} is out of range "
                "(1…1024, 0…64, 1…64, width² · depth up to 2²⁴)"
            )
        self.head = nn.Conv2d(4 * colours + 1, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.tail = nn.Conv2d(width, 4 * colours, 3, padding=1)

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        # Divided by the spread that pixels and noise have together: of one size at every level.
        scaled = (noisy - 0.5) / (level.square() + 0.25**2).sqrt()
        planes = F.pixel_unshuffle(F.pad(scaled, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        told = (level.log() / 4).expand(-1, 1, *planes.shape[-2:])
        features = self.head(torch.cat([planes, told], 1).contiguous(memory_format=torch.channels_last))
        for block in self.body:
            features = features + block(features)
        return F.pixel_shuffle(self.tail(F.relu(features)), 2)[..., :height, :width]


def _per_picture(picture: Tensor) -> tuple[int, ...]:
    """The shape of one number for each picture."""
    return (len(picture), *[1] * (picture.ndim - 1))
