"""Upscaling: pictures through a model, and into the integers of a file without losing the proof of consistency.

A picture is worked off in strips of rows, so that only its integers are ever held whole: ỹ from tiles of the network, ŷ from the
consistency on the strip with a halo on which A⁺ no longer depends, then the rounding that keeps A of the result.
"""

import dataclasses
import functools
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_zoo.picture import Picture, PictureError, open_picture
from sr_zoo.strips import Errors, measure, saved_alpha, saved_planes, strips

__all__ = [
    "Settings", "Spread", "Upscaled", "measure", "super_resolve", "upscale", "upscale_array", "upscale_pictures",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures go through a model.

    Attributes:
        precision: ``"bf16"``, ``"float32"``, or ``"auto"``: bf16 where the processor computes in it.
        seed: of the noise where the model takes any: another seed, another picture.
        tile: side in LR pixels of what goes through the network at once, 0 for whole pictures, None to have it chosen by
            the memory that is free.
        backend: what computes the network: ``"torch"``, ``"compile"`` (``torch.compile``) or ``"onnxruntime"`` (in float32).
        scratch: folder for the rows of a picture that is too large for the memory; that of temporary files if None.
    """

    precision: str = "auto"
    seed: int = 0
    tile: int | None = None
    backend: str = "torch"
    scratch: str | Path | None = None


@dataclasses.dataclass(frozen=True)
class Upscaled:
    """An upscaled picture with the figures of its consistency.

    Attributes:
        picture: colours and alpha ``scale`` times as high and wide, with all else that the input carried.
        samples: number of the input's samples: colours where it is not wholly transparent, and alpha.
        reproduced: share of them that ``picture`` gives back after downsampling and rounding. With alpha, a colour is given back
            where the premultiplied picture, downsampled, has it at the downsampled alpha.
        lr_psnr: dB between the downsampled float output and the input (200 at most); of a large picture, in parts of it.
        lr_psnr_8bit: the same for ``picture``.
        seconds: network, projection and the mending of what rounding would break.
    """

    picture: Picture
    samples: int
    reproduced: float
    lr_psnr: float
    lr_psnr_8bit: float
    seconds: float

    @property
    def array(self) -> np.ndarray:
        """The colours alone, ``(height, width, channels)``, or ``(height, width)`` for a grey picture."""
        colours = self.picture.colours
        return colours[..., 0] if colours.shape[2] == 1 else colours


def upscale(image, model="affmse-x4", precision: str = "auto", seed: int = 0):
    """Upscale one picture: ``sr_zoo.upscale("photo.png").save("large.png")``.

    Args:
        image: a path, a ``PIL.Image.Image`` or a uint8 array ``(height, width, 3)`` or ``(height, width)``.
        model: a name, a checkpoint folder, a Hub repository or a model from :func:`sr_zoo.load`.
        precision: ``"bf16"``, ``"float32"``, or ``"auto"``: bf16 where the processor computes in it.
        seed: of the noise where the model takes any: another seed, another picture.

    Returns:
        ``PIL.Image.Image``, RGB or grey, with alpha, as the input, ``model.scale`` times as wide and high. Downsampled, it
        gives the input back wherever the model is consistent and the input has a pre-image in 0…255. Pillow has no colours
        of 16 bits; the command line and :func:`upscale_pictures` keep them.

    Raises:
        PictureError: the picture cannot be read.
        CheckpointError: the model cannot be loaded.
    """
    from sr_zoo.picture import from_pillow, to_pillow

    if isinstance(model, (str, Path)):
        model = _loaded(str(model), _stamp(model))
    if isinstance(image, np.ndarray):
        return to_pillow(upscale_array(image, model, precision, seed).picture)
    picture = open_picture(image) if isinstance(image, (str, Path)) else from_pillow(image)
    return to_pillow(upscale_pictures([picture], model, Settings(precision, seed))[0].picture)


def upscale_array(picture: np.ndarray, model, precision: str = "auto", seed: int = 0) -> Upscaled:
    """Upscale a uint8 or uint16 array ``(height, width, 3)`` or ``(height, width)`` and measure its consistency.

    A grey picture goes through the network as three equal colours, whose outputs are averaged.

    Raises:
        PictureError: another dtype or shape.
    """
    known = picture.dtype in (np.uint8, np.uint16) and picture.ndim in (2, 3) and picture.shape[2:] in ((), (3,))
    if not known or not picture.size:
        raise PictureError(
            f"expected uint8 or uint16 (height, width, 3) or (height, width), got {picture.dtype} {picture.shape}"
        )
    return upscale_pictures([Picture(picture.reshape(*picture.shape[:2], -1))], model, Settings(precision, seed))[0]


def upscale_pictures(pictures: list[Picture], model, settings: Settings = Settings()) -> list[Upscaled]:
    """Upscale pictures and measure the consistency of each.

    Raises:
        PictureError: a picture without pixels.
        MemoryError: there is not enough of it, however small the tiles.
        NotANumber: the network's output is not finite.
    """
    return [_upscale(picture, model, settings) for picture in pictures]


def super_resolve(model, lr: Tensor, settings: Settings = Settings(precision="float32")) -> Tensor:
    """ŷ in float32 for one picture ``(1, 3 or 1, h, w)`` in [0, 1], from tiles and strips; on the CPU, before any rounding."""
    made = strips(model, lambda top, bottom: lr[..., top:bottom, :], lr.shape[-2:], settings)
    return torch.cat([strip.sr[..., strip.inside(model.scale), :] for strip in made], -2)


def _upscale(picture: Picture, model, settings: Settings) -> Upscaled:
    if not picture.colours.size:
        raise PictureError(f"a picture of {picture.size[0]}×{picture.size[1]} has no pixels")
    started, errors, alpha = time.perf_counter(), Errors(), None
    if picture.alpha is not None:
        alpha = saved_alpha(picture.alpha, model, settings, errors)
    colours = saved_planes(picture.colours, model, settings, errors, picture.alpha, alpha)
    seconds = time.perf_counter() - started
    done = dataclasses.replace(picture, colours=colours, alpha=alpha)
    samples, reproduced, psnr = measure(done, picture, model)
    return Upscaled(done, samples, reproduced, errors.psnr, psnr, seconds)


class Spread:
    """How much pictures of one size differ: ``add`` each, then read ``deviation``; two pictures are held, whatever their number."""

    def __init__(self):
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, picture: np.ndarray) -> None:
        self.count += 1
        away = picture.astype(np.float32) - self.mean
        self.mean = self.mean + away / self.count
        self.squares = self.squares + away * (picture - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation of a sample of the picture over all that were added, mean over pixels and colours."""
        return float(np.sqrt(self.squares / self.count).mean())


@functools.lru_cache(maxsize=2)
def _loaded(name: str, stamp: int):
    from sr_zoo.hub import load

    return load(name)


def _stamp(source) -> int:
    """When the weights were written: a folder that was trained further is loaded anew."""
    from sr_zoo.checkpoint import WEIGHTS
    from sr_zoo.hub import checkpoint_folder, foreign_weights

    weights = foreign_weights(source) or checkpoint_folder(source) / WEIGHTS
    return weights.stat().st_mtime_ns if weights.is_file() else 0
