"""What an input has gone through that a model was not told when it learned: another blur, noise, JPEG.

Stands beside *method = generator × consistency × objective*: the same weights with another operator in the consistency, or with
an input that is believed only as far as its noise allows.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.consistency import Affine, Consistency
from sr_zoo.errors import UserError, one_line
from sr_zoo.generators import Projected
from sr_zoo.generators.around import Around
from sr_zoo.operators import Downsampler, make_kernel
from sr_zoo.picture import read_picture

__all__ = ["Approximate", "Denoised", "denoised", "for_kernel", "read_kernel", "see_through"]

MAX_KERNEL = 128  # pixels of a drawn kernel's side
MAX_NOISE = 100.0


def see_through(model, kernel=None, noise_level: float = 0.0, ridge: float | None = None):
    """The model for inputs of another blur, or noisy ones; it shares the weights, and the old one stays as it is.

    With another kernel or ridge, what the model makes of the input is projected to what agrees with that: its own picture, not its
    network's ỹ, which is none. So is that of a model which promises no consistency.

    Args:
        model: a :class:`~sr_zoo.methods.SuperResolver`.
        kernel: as :class:`~sr_zoo.operators.Downsampler` takes, or the path of a picture of a kernel; the model's own if None.
        noise_level: standard deviation σ of the input's noise in 8-bit levels, 0 to 100; about 5 for JPEG of quality 50 to 70,
            2 for 90. Above 0 the output agrees with :func:`denoised` of the input instead of the input itself: ``exact`` is
            False, ``promise`` says so.
        ridge: for a kernel too wide to be inverted, see :class:`~sr_zoo.operators.Downsampler`; the model's own if None.

    Raises:
        UserError: a kernel, ridge or noise level that makes no sense; a kernel too wide to be inverted; a model that was made for
            noise by this already.
    """
    if isinstance(model.consistency, Approximate):
        raise UserError("see_through: this model was made for noise already; start from the one that it was made of")
    if not 0 <= noise_level <= MAX_NOISE:
        raise UserError(f"noise_level: {noise_level:g} is not between 0 and {MAX_NOISE:g} levels of 255")
    kernel = model.downsampler.kernel if kernel is None else read_kernel(kernel, model.scale)
    ridge = model.downsampler.ridge if ridge is None else ridge
    try:
        operator = Downsampler(kernel, model.scale, ridge)
    except ValueError as error:
        raise UserError(one_line(error)) from None
    # What was only made for another kernel is left for what it was made of.
    original = model.origin[0] if model.origin else model
    source = original if isinstance(model.inference_generator, Projected) else model
    consistency, generator, config = source.consistency, source.inference_generator, source.config
    if (kernel, ridge) != (source.downsampler.kernel, source.downsampler.ridge):
        if source is model and model.origin and any(isinstance(part, Projected) for part in model.modules()):
            raise UserError(
                "see_through: this model was made for another kernel already; start from the one that it was made of"
            )
        config = for_kernel(source, kernel, ridge) if source.consistency.discards else None
        consistency, generator = Affine(operator), Projected(generator, consistency)
    if noise_level:
        consistency, generator, config = Approximate(consistency, noise_level), Denoised(generator, noise_level), None
    twin = model.with_parts(generator, consistency, config)
    twin.origin = (original,)
    return twin


def for_kernel(model, kernel, ridge: float) -> dict | None:
    """The config of a model that learned for another kernel or ridge, as it goes on learning for these: it begins with what it
    made of a picture before. None where no config describes the model."""
    if model.config is None:
        return None
    config = {**model.config, "kernel": kernel, "ridge": float(ridge)}
    before, ridge_before = model.config["kernel"], model.config["ridge"]
    if model.consistency.discards:
        generator = {"name": "projected", "kernel": before, "ridge": ridge_before, "generator": config["generator"]}
        return {**config, "generator": generator}
    base = {} if "base" in config["consistency"] else {"base": before, "base_ridge": ridge_before}
    return {**config, "consistency": {**base, **config["consistency"]}}


def read_kernel(kernel, scale: int):
    """A kernel's name or weights as they are; of a picture file the weights, as nested lists that sum to 1.

    Raises:
        UserError: neither a kernel nor a picture of one.
    """
    named = isinstance(kernel, (str, Path))
    try:
        taps = make_kernel(str(kernel) if named else kernel, scale)
        return kernel if isinstance(kernel, str) else taps.tolist()
    except (TypeError, ValueError) as error:
        if not named or not Path(kernel).is_file():
            raise UserError(f"{one_line(error)}{', nor a picture file of a kernel' if named else ''}") from None
    weights = read_picture(kernel, keep_grey=True).astype(np.float64)
    weights = weights.mean(-1) if weights.ndim == 3 else weights
    if max(weights.shape) > MAX_KERNEL or not weights.sum():
        raise UserError(
            f"kernel: {kernel} is none; expected a grey picture of at most {MAX_KERNEL}×{MAX_KERNEL} pixels, brighter where it "
            "weighs more"
        )
    return (weights / weights.sum()).tolist()


def denoised(lr: Tensor, noise_level: float) -> Tensor:
    """What A y most probably was, given the input: ``(batch, colours, h, w)`` in [0, 1], of the same shape and range.

    With x = A y + N(0, σ²) and A y from N(μ, τ²), μ and τ² being mean and variance around each pixel (3×3, the colours
    together, less σ²), it is μ + τ² / (τ² + σ²) · (x − μ): a ridge ε = σ² / τ² of each pixel's own, so that edges are kept
    and flat places are not believed.

    A ridge in Π itself, Aᵀ (AAᵀ + εI)⁻¹, would not do: what A sees of a network's ỹ is no picture, since nothing has trained it to
    be one, so that the less the input counts the darker the result (``benchmarks/noise.py`` has both).

    Source: Lee 1980, "Digital image enhancement and noise filtering by use of local statistics".
    """
    noise = (noise_level / 255) ** 2
    mean = _around(lr)
    variance = _around((lr - mean).square()).mean(1, keepdim=True)
    # τ² + σ² is what is seen; where less than σ² is seen, τ² is nothing.
    return mean + ((variance - noise).clamp(min=0) / variance.clamp(min=1e-12)) * (lr - mean)


RADIUS = 2  # LR pixels that it looks around: the mean's one and the variance's one


class Denoised(Around):
    """A generator that gets the denoised input."""

    reach = RADIUS

    def __init__(self, generator: nn.Module, noise_level: float):
        super().__init__(generator)
        self.noise_level = noise_level

    def forward(self, lr: Tensor, *noise: Tensor) -> Tensor:
        return self.generator(denoised(lr, self.noise_level), *noise)


class Approximate(Consistency):
    """Another consistency, with the denoised input instead of the input."""

    def __init__(self, consistency: Consistency, noise_level: float):
        super().__init__(consistency.downsampler)
        self.consistency, self.noise_level = consistency, noise_level
        self.promise = (
            f"Its output, downsampled by the operator, is the input but for what noise of {noise_level:g} levels explains: "
            "consistency is approximate, on purpose."
        )

    @property
    def radius(self) -> int:
        return self.consistency.radius + RADIUS

    def forward(self, raw: Tensor, lr: Tensor) -> Tensor:
        return self.consistency(raw, denoised(lr, self.noise_level))


def _around(x: Tensor) -> Tensor:
    """Mean of 3×3 pixels; at the border the edge is repeated, which for one pixel is its mirror image."""
    with torch.autocast(x.device.type, enabled=False):
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
