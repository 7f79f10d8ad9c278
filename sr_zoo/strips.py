"""A picture in strips of rows: ŷ with a halo, its integers on a canvas, and the proof read from them."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_zoo import metrics
from sr_zoo.raster import Picture
from sr_zoo.rounding import Wanted, downsampled, to_values
from sr_zoo.tiles import RawRows, free_memory

__all__ = ["Errors", "Strip", "measure", "saved_alpha", "saved_planes", "strips"]

# HR pixels in a strip. Not by the memory that is free: the same picture shall give the same file everywhere.
STRIP = 8_000_000
SHORTEST = 16  # LR rows
# LR rows that the next strip may change again: with the ones above as they are and ŷ below, samples between the two would
# sometimes have nothing left that gives them back.
RESUMED = 16
SAMPLE = 128  # LR rows and columns of a strip on which the error of ŷ is measured


@dataclasses.dataclass(frozen=True)
class Strip:
    """LR rows ``first … last`` of a picture, in tensors that hold rows ``top … bottom``: the halo lies between.

    Attributes:
        sr: ŷ ``(1, colours, scale · (bottom − top), scale · width)``; the rows of the halo are not exact.
        lr: what the network saw, ``(1, colours, bottom − top, width)``.
    """

    first: int
    last: int
    top: int
    bottom: int
    sr: Tensor
    lr: Tensor

    def inside(self, scale: int = 1) -> slice:
        """Its own rows within the tensors."""
        return slice((self.first - self.top) * scale, (self.last - self.top) * scale)


class Errors:
    """Squared errors on a scale of 0…1, summed up: ``add`` tensors, then read ``psnr``."""

    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, error: Tensor) -> None:
        self.total += float(error.double().square().sum())
        self.count += error.numel()

    @property
    def psnr(self) -> float:
        """dB, 200 at most."""
        return min(metrics.CAP, -10 * math.log10(self.total / self.count)) if self.total else metrics.CAP


def strips(model, read: Callable[[int, int], Tensor], size: tuple[int, int], settings) -> Iterator[Strip]:
    """ŷ of a picture from top to bottom.

    Args:
        model: what upscales, see :class:`~sr_zoo.tiles.RawRows`.
        read: ``(top, bottom)`` → these LR rows ``(1, 3 or 1, rows, width)`` in [0, 1].
        size: height and width of the LR picture.
        settings: a :class:`sr_zoo.engine.Settings`.
    """
    raw = RawRows(model, read, size, settings.precision, settings.seed, settings.tile, settings.backend)
    for first, last, top, bottom in _rows(*size, model.scale, model.consistency.radius):
        lr = read(top, bottom)
        yield Strip(first, last, top, bottom, model.consistency(raw.window(top, bottom), lr), lr)


@torch.inference_mode()
def saved_planes(values: np.ndarray, model, settings, errors: Errors, alpha=None, large_alpha=None) -> np.ndarray:
    """The integers ``(scale·h, scale·w, channels)`` of an upscaled picture's colours, or of its alpha.

    Args:
        values: ``(h, w, channels)``, uint8 or uint16; four channels are ink.
        errors: what A ŷ lacks is added to it.
        alpha: ``(h, w)`` of the input, and ``large_alpha`` as it was upscaled: colours then go premultiplied through the network.
    """
    (height, width, channels), scale, peak = values.shape, model.scale, int(np.iinfo(values.dtype).max)
    canvas = _canvas((height * scale, width * scale, channels), values.dtype, settings.scratch)
    # The network knows three colours of light; black ink goes by itself, as grey.
    ink = channels == 4
    for group in (slice(0, 3), slice(3, 4)) if ink else (slice(0, channels),):
        read = _reader(values[..., group], alpha, ink)
        for strip in strips(model, read, (height, width), settings):
            inside = strip.inside()
            errors.add(_float_error(strip, model.downsampler))
            # Above ``done`` all is written; from there to the strip's first row the one before it was only the first to try.
            done = max(strip.top, strip.first - RESUMED) if strip.first else 0
            rows = slice(strip.top * scale, strip.bottom * scale)
            written = _tensor(canvas[rows.start : strip.first * scale, :, group]) if strip.first else None
            wanted = Wanted(
                lr=_tensor(values[strip.top : strip.bottom, :, group]),
                peak=peak,
                opacity=None if large_alpha is None else _tensor(large_alpha[rows, :, None]) / peak,
                visible=None if alpha is None else _tensor(alpha[strip.top : strip.bottom, :, None]) > 0,
                saved=written[..., : (done - strip.top) * scale, :] if done > strip.top else None,
                rows=(max(0, done - strip.top - model.downsampler.reach), inside.stop + RESUMED),
            )
            y = strip.sr * peak
            if ink:
                y = wanted.premultiplied(torch.full_like(y, peak)) - y
            if not model.exact:
                done, colours = strip.first, wanted.rendered(y, scale)
            else:
                if written is not None:
                    y[..., : written.shape[-2], :] = wanted.premultiplied(written)
                colours = to_values(y, wanted, model.downsampler)
            own = colours[0, :, (done - strip.top) * scale : inside.stop * scale].permute(1, 2, 0)
            canvas[done * scale : strip.last * scale, :, group] = own.numpy().astype(values.dtype)
    return canvas


def saved_alpha(alpha: np.ndarray, model, settings, errors: Errors) -> np.ndarray:
    """Alpha ``(h, w)`` upscaled as a grey picture; where it is the same everywhere, as in most pictures, so is the result."""
    if (alpha != alpha[0, 0]).any():
        return saved_planes(alpha[..., None], model, settings, errors)[..., 0]
    canvas = _canvas(tuple(n * model.scale for n in alpha.shape), alpha.dtype, settings.scratch)
    canvas[:] = alpha[0, 0]  # A keeps what is constant
    errors.add(torch.zeros(alpha.size))
    return canvas


@torch.inference_mode()
def measure(saved: Picture, source: Picture, model) -> tuple[int, float, float]:
    """What a saved picture, read from its file, gives back of the one it was made from.

    Returns:
        Number of samples that were asked for: colours where the source is not wholly transparent, and alpha; the share of them
        that is given back after A, rounding and clipping; and dB of A of the saved integers against the source.

    Raises:
        ValueError: they differ in kind, or not by the model's scale in size.
    """
    height, width, channels = source.colours.shape
    scale, peak = model.scale, source.peak
    if saved.colours.shape != (height * scale, width * scale, channels) or (saved.alpha is None) != (source.alpha is None):
        raise ValueError(
            f"a picture of {saved.colours.shape} cannot be compared with one of {source.colours.shape} at scale {scale}"
        )
    samples, right, errors = 0, 0, Errors()
    for first, last, top, bottom in _rows(height, width, scale, model.downsampler.reach):
        rows, own, inside = slice(top * scale, bottom * scale), slice(first, last), slice(first - top, last - top)
        # A file may have another depth: what counts is what it says on the scale of the input.
        large = _tensor(saved.colours[rows])
        if saved.peak != peak:
            large = large.double() * (peak / saved.peak)
        small, unit, asked = _tensor(source.colours[own]).double(), 1.0, torch.tensor(True)
        if source.alpha is not None:
            alpha = _tensor(saved.alpha[rows, :, None]).double() * (peak / saved.peak)
            unit = model.downsampler.A(alpha)[..., inside, :]
            goal = _tensor(source.alpha[own, :, None]).double()
            right += int((metrics.round_clip(unit, peak) == goal).sum())
            samples += goal.numel()
            errors.add((unit - goal) / peak)
            large, asked = large.double() * alpha, goal > 0
        if saved.peak == peak and source.alpha is None:
            again = downsampled(large, _tensor(source.colours[top:bottom]), peak, model.downsampler)[..., inside, :]
        else:
            again = model.downsampler.A(large.double())[..., inside, :] / unit
        asked = asked.expand_as(small)
        right += int(((metrics.round_clip(again, peak) == small) & asked).sum())
        samples += int(asked.sum())
        errors.add((again - small)[asked] / peak)
    return samples, right / samples if samples else 1.0, errors.psnr


def _float_error(strip: Strip, downsampler) -> Tensor:
    """A ŷ − x in float64, so that it measures ŷ and not itself; of the middle of a large strip, as that would take longer than ŷ."""
    reach, scale, side = downsampler.reach, downsampler.scale, strip.lr.shape[-1]
    (top, bottom), (left, right) = _middle(strip.first - strip.top, strip.last - strip.top), _middle(0, side)
    low, high = max(0, top - reach), min(strip.lr.shape[-2], bottom + reach)
    begin, end = max(0, left - reach), min(side, right + reach)
    again = downsampler.A(strip.sr[..., low * scale : high * scale, begin * scale : end * scale].double())
    return again[..., top - low : bottom - low, left - begin : right - begin] - strip.lr[..., top:bottom, left:right]


def _middle(first: int, last: int) -> tuple[int, int]:
    spare = max(0, last - first - SAMPLE) // 2
    return first + spare, last - spare


def _rows(height: int, width: int, scale: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """First and last row of each strip, and the same with its halo."""
    most = max(SHORTEST, STRIP // (width * scale**2))
    count = -(-height // most)
    step = -(-height // count)
    for first in range(0, height, step):
        last = min(height, first + step)
        yield first, last, max(0, first - halo), min(height, last + halo)


def _reader(values: np.ndarray, alpha: np.ndarray | None, ink: bool) -> Callable[[int, int], Tensor]:
    """LR rows as the network sees them: light in [0, 1], premultiplied by alpha."""
    peak = int(np.iinfo(values.dtype).max)

    def read(top: int, bottom: int) -> Tensor:
        light = _tensor(values[top:bottom]) / peak
        light = 1 - light if ink else light
        return light if alpha is None else light * (_tensor(alpha[top:bottom, :, None]) / peak)

    return read


def _canvas(shape: tuple[int, ...], dtype, scratch: str | Path | None) -> np.ndarray:
    """In memory, or in a file that vanishes with it where that would take more than a fair part."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= free_memory(torch.device("cpu")) // 4:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _tensor(rows: np.ndarray) -> Tensor:
    """``(rows, width, channels)`` → ``(1, channels, rows, width)`` in float32."""
    rows = np.require(rows, requirements=("C", "W"))  # torch takes no view that goes backwards or may not be written to
    return torch.from_numpy(rows).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)[None]
