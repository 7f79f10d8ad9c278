"""Densities over pictures. A trained one tells how likely a picture is, and in which direction it would be likelier."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["LEVELS", "PixelMCGSM", "dequantise"]

LEVELS = 255
# Pixels in [0, 1] are seen as (pixel − CENTRE) / SPREAD, which in photographs has a mean near 0 and a variance near 1.
CENTRE, SPREAD = 0.5, 0.25
# Standard deviations of the Gaussians, in pixels of range 1: none is narrower than the dequantisation noise, so that the density
# is bounded, on flat 8-bit pictures as well, and none is wider than the range twice over.
NARROWEST, WIDEST = 1 / (LEVELS * math.sqrt(12)), 2.0
# Pixels whose mixtures are worked out together: (CHUNK × components · scales) numbers, which should stay in a processor's cache.
CHUNK = 4096


class PixelMCGSM(nn.Module):
    """An autoregressive density over pictures: PixelCNN features, MCGSM conditionals.

    A picture's density is the product of the conditional densities of its values, in raster order of the pixels and within a
    pixel colour by colour. Convolutions that see only the pixels before give ``width`` features; these and the colours of the
    same pixel that came before are the x of a mixture of conditional Gaussian scale mixtures for the next value y::

        p(y | x)    = Σ_cs p(c, s | x) · N(y; a_cᵀx + m_c, e^(−λ_cs))
        p(c, s | x) ∝ exp(η_cs + d_csᵀx − ½ e^(α_cs) Σ_n β_cn² (b_nᵀx)²)

    with components c, scales s and quadratic features n. Each colour has its own mixture. The linear term d is ours: with it
    the quadratic features need not be centred at 0.

    Sources: van den Oord et al. 2016, "Pixel recurrent neural networks" (masked convolutions); Theis and Bethge 2015,
    "Generative image modeling using spatial LSTMs", equations 5 to 7 (MCGSM on learned features). Sizes are those of the paper's
    grass experiment, which does not state the number of scales.

    Args:
        colours: channels of the pictures.
        layers: masked convolutions, the first included; the others are residual.
        width: their feature maps, at least ``colours``.
        kernel: their odd side; they see the rows above and what is left in their own.
        first_kernel: the odd side of the first one.
        components: means of a mixture.
        features: quadratic features of a mixture.
        scales: precisions for each mean.

    Raises:
        ValueError: a size that is out of range.
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
        _check("colours", colours, 1, 64)
        _check("layers", layers, 1, 64)
        _check("width", width, colours, 1024)
        _check("kernel", kernel, 1, 31, odd=True)
        _check("first_kernel", first_kernel, 3, 31, odd=True)
        _check("components", components, 1, 1024)
        _check("features", features, 1, 1024)
        _check("scales", scales, 1, 64)
        # One more channel, of ones: it tells a grey picture from what lies beyond its edge.
        self.first = _CausalConv(colours + 1, width, first_kernel, sees_centre=False)
        self.body = nn.ModuleList(_CausalConv(width, width, kernel, sees_centre=True) for _ in range(layers - 1))
        self.mixtures = nn.ModuleList(_MCGSM(width + k, components, features, scales) for k in range(colours))
        self._start_from_neighbours(colours)

    def log_prob(self, picture: Tensor) -> Tensor:
        """Log-density of whole pictures ``(batch, colours, h, w)`` in [0, 1], in nats: ``(batch,)``."""
        return self.conditionals(picture).sum((1, 2, 3))

    def conditionals(self, picture: Tensor) -> Tensor:
        """Log-density of each value given those before it, in nats, for pixels in [0, 1]: ``(batch, colours, h, w)``, float32."""
        batch, colours, height, width = picture.shape
        with torch.autocast(picture.device.type, enabled=False):
            values = (picture.float() - CENTRE) / SPREAD
            # The linear path from pixels to means stays in float32: half a level matters to it.
            features = self.first(torch.cat([values, torch.ones_like(values[:, :1])], 1))
        for layer in self.body:
            features = features + layer(F.relu(features))
        with torch.autocast(picture.device.type, enabled=False):
            x = torch.cat([features.float(), values], 1).permute(0, 2, 3, 1).flatten(0, 2)
            y = x[:, -colours:].unbind(1)
            inputs = x.shape[1] - colours
            found = [mixture(x[:, : inputs + k], y[k]) for k, mixture in enumerate(self.mixtures)]
        log_density = torch.stack(found, 1).view(batch, height, width, colours).permute(0, 3, 1, 2)
        return log_density - math.log(SPREAD)

    def bits_per_dim(self, picture: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits per value on the scale 0…255, the usual figure of 8-bit pictures (lower is likelier): ``(batch,)``.

        It is −log₂ of the density of dequantised data, an upper bound of what a lossless code for the 8-bit values would
        take. For pixels of range 1, as in the paper, the figure is log₂ 255 ≈ 7.994 lower: −4.10 there is 3.89 here.

        Args:
            picture: ``(batch, colours, h, w)``: uint8, which is dequantised here, or float in [0, 1], which is taken as it is.
            generator: of the dequantisation noise.
        """
        if picture.dtype == torch.uint8:
            picture = dequantise(picture.float() / LEVELS, generator)
        return to_bits(-self.log_prob(picture) / picture[0].numel())

    def _start_from_neighbours(self, colours: int) -> None:
        """Begin with a plain prediction: the mean of the left and the upper neighbour, plus what it missed of the colour before."""
        with torch.no_grad():
            self.first.weight[:colours] = 0
            self.first.bias[:colours] = 0
            for layer in self.body:
                layer.weight.zero_()
                layer.bias.zero_()
            radius = self.first.kernel_size[0] - 1
            for k, mixture in enumerate(self.mixtures):
                self.first.weight[k, k, -1, radius - 1] = 0.5
                self.first.weight[k, k, -2, radius] = 0.5
                mixture.a[k] += 1
                if k:
                    mixture.a[-1] += 1
                    mixture.a[k - 1] -= 1


def dequantise(picture: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add uniform noise of ±½ level to 8-bit ``picture`` in [0, 1]: its distribution becomes a density."""
    noise = torch.rand(picture.shape, dtype=picture.dtype, device=picture.device, generator=generator)
    return picture + (noise - 0.5) / LEVELS


def to_bits(nats: Tensor) -> Tensor:
    """Bits per value on the scale 0…255 of ``nats`` (−log p) per value on the scale 0…1."""
    return nats / math.log(2) + math.log2(LEVELS)


class _CausalConv(nn.Conv2d):
    """A convolution of the rows above and of the row itself up to its centre, or before it. Rows below are not even stored."""

    def __init__(self, inputs: int, outputs: int, kernel: int, sees_centre: bool):
        radius = kernel // 2
        super().__init__(inputs, outputs, (radius + 1, kernel))
        mask = torch.ones(radius + 1, kernel)
        mask[-1, radius + sees_centre :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        radius = self.kernel_size[0] - 1
        x = F.pad(x.contiguous(memory_format=torch.channels_last), (radius, radius, radius, 0))
        return F.conv2d(x, self.weight * self.mask, self.bias)


class _MCGSM(nn.Module):
    """log p(y | x) of :class:`PixelMCGSM`, for x of ``inputs`` numbers and one y, scaled so that y's variance is about 1."""

    def __init__(self, inputs: int, components: int, features: int, scales: int):
        super().__init__()
        self.eta = nn.Parameter(torch.zeros(components * scales))
        self.d = nn.Parameter(torch.randn(inputs, components * scales) * 0.1 / inputs**0.5)
        self.alpha = nn.Parameter(torch.linspace(-1, 1, scales).repeat(components, 1))
        self.beta = nn.Parameter(torch.randn(features, components) / features**0.5)
        self.b = nn.Parameter(torch.randn(inputs, features) / inputs**0.5)
        self.a = nn.Parameter(torch.randn(inputs, components) * 0.1 / inputs**0.5)
        self.m = nn.Parameter(torch.randn(components) * 0.1)
        # λ as the logit of its place between its bounds. The scales start apart: standard deviations of about 54 to 1 levels.
        places = torch.linspace(0.3, 0.8, scales).logit() if scales > 1 else torch.zeros(1)
        self.place = nn.Parameter(places + 0.1 * torch.randn(components, scales))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(n, inputs)`` and ``(n,)`` → ``(n,)`` nats."""
        low, high = (-2 * math.log(deviation / SPREAD) for deviation in (WIDEST, NARROWEST))
        log_precision = low + (high - low) * self.place.sigmoid()
        quadratic = -0.5 * (self.beta.square()[..., None] * self.alpha.exp()).flatten(1)
        # Matrices made here, not parameters: a checkpoint runs again in the backward pass, when parameters frozen now no longer
        # are, and would then keep other numbers than it did.
        weights = (torch.cat([self.b, self.a], 1), self.m, torch.cat([self.d, quadratic]), self.eta, log_precision)
        # The numbers of a mixture are many and cheap: they are made again for the gradient rather than kept.
        parts = [
            checkpoint(_log_density, *part, *weights, use_reentrant=False, preserve_rng_state=False)
            for part in zip(x.split(CHUNK), y.split(CHUNK))
        ]
        return torch.cat(parts)


def _log_density(
    x: Tensor, y: Tensor, projection: Tensor, m: Tensor, gates: Tensor, eta: Tensor, log_precision: Tensor
) -> Tensor:
    projected, mean = (x @ projection).split([projection.shape[1] - len(m), len(m)], 1)
    prior = torch.addmm(eta, torch.cat([x, projected.square()], 1), gates)
    error = (y[:, None] - mean - m).square()
    likelihood = 0.5 * (log_precision - error[..., None] * log_precision.exp()).flatten(1)
    return torch.logsumexp(prior + likelihood, 1) - torch.logsumexp(prior, 1) - 0.5 * math.log(2 * math.pi)


def _check(name: str, value: int, low: int, high: int, odd: bool = False) -> None:
    if not low <= value <= high or (odd and value % 2 == 0):
        raise ValueError(f"objective 'likelihood': {name} {value} is out of range ({'odd, ' * odd}{low}…{high})")
