"""Upscaling: pictures through a model, and saving to 8 bits without losing the proof of consistency."""

import dataclasses
import functools
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_zoo import metrics
from sr_zoo.operators import Downsampler
from sr_zoo.picture import Picture, PictureError, open_picture, to_array

__all__ = ["PRECISIONS", "Settings", "Spread", "Upscaled", "to_bytes", "upscale", "upscale_array", "upscale_pictures"]

PRECISIONS = ("auto", "bf16", "float32")
# Alternating projections end after so many rounds, or after PATIENCE rounds without fewer samples that are off: then the
# input has, as far as we can tell, no exact 8-bit pre-image. MENDS tries are made at the rounding.
ROUNDS, PATIENCE, MENDS = 300, 40, 12


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures go through a model.

    Attributes:
        precision: ``"bf16"``, ``"float32"``, or ``"auto"``: bf16 where the processor computes in it.
        seed: of the noise where the model takes any: another seed, another picture.
        tile: side in LR pixels of what goes through the network at once, 0 for whole pictures, None to have it chosen by
            the memory that is free.
    """

    precision: str = "auto"
    seed: int = 0
    tile: int | None = None


@dataclasses.dataclass(frozen=True)
class Upscaled:
    """An upscaled picture with the figures of its consistency.

    Attributes:
        picture: colours and alpha ``scale`` times as high and wide, with all else that the input carried.
        reproduced: share of the input's samples that ``picture`` gives back after downsampling and rounding.
        lr_psnr: dB between the downsampled float output and the input (200 at most).
        lr_psnr_8bit: the same for ``picture``.
        seconds: network, projection and the mending of what rounding would break.
    """

    picture: Picture
    reproduced: float
    lr_psnr: float
    lr_psnr_8bit: float
    seconds: float

    @property
    def array(self) -> np.ndarray:
        """The colours alone, ``(height, width, 3)``, or ``(height, width)`` for a grey picture."""
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
        ``PIL.Image.Image``, RGB or grey as the input, ``model.scale`` times as wide and high. Downsampled, it gives the
        input back wherever the model is consistent and the input has a pre-image in 0…255.

    Raises:
        PictureError: the picture cannot be read.
        CheckpointError: the model cannot be loaded.
    """
    from PIL import Image

    if isinstance(model, (str, Path)):
        model = _loaded(str(model), _stamp(model))
    if isinstance(image, (str, Path)):
        return Image.fromarray(upscale_pictures([open_picture(image)], model, Settings(precision, seed))[0].array)
    if isinstance(image, Image.Image):
        image = to_array(image, keep_grey=True)
    return Image.fromarray(upscale_array(image, model, precision, seed).array)


def upscale_array(picture: np.ndarray, model, precision: str = "auto", seed: int = 0) -> Upscaled:
    """Upscale a uint8 array ``(height, width, 3)`` or ``(height, width)`` and measure its consistency.

    A grey picture goes through the network as three equal colours, whose outputs are averaged.

    Raises:
        PictureError: another dtype or shape.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)) or not picture.size:
        raise PictureError(f"expected uint8 (height, width, 3) or (height, width), got {picture.dtype} {picture.shape}")
    return upscale_pictures([Picture(picture.reshape(*picture.shape[:2], -1))], model, Settings(precision, seed))[0]


def upscale_pictures(pictures: list[Picture], model, settings: Settings = Settings()) -> list[Upscaled]:
    """Upscale pictures of one size and kind together, and measure the consistency of each.

    Raises:
        MemoryError: there is not enough of it, however small the tiles.
    """
    return [_upscale(picture, model, settings) for picture in pictures]


def _upscale(picture: Picture, model, settings: Settings) -> Upscaled:
    lr = torch.from_numpy(picture.colours.copy()).permute(2, 0, 1)[None]
    started = time.perf_counter()
    sr = run_network(model, lr.float() / 255, settings.precision, settings.seed).cpu()
    saved = to_bytes(sr, lr, model.downsampler if model.exact else None)
    seconds = time.perf_counter() - started
    figures = {
        "reproduced": metrics.reproduced(saved, lr, model.downsampler),
        "lr_psnr": metrics.lr_psnr(sr, lr / 255, model.downsampler),
        "lr_psnr_8bit": metrics.lr_psnr_8bit(saved, lr, model.downsampler),
    }
    array = saved[0].permute(1, 2, 0).to(torch.uint8).numpy()
    return Upscaled(Picture(array), seconds=seconds, **{k: float(v) for k, v in figures.items()})


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


@torch.inference_mode()
def run_network(model, lr: Tensor, precision: str = "auto", seed: int = 0) -> Tensor:
    """ŷ in float32 for ``lr`` ``(batch, 3 or 1, h, w)`` in [0, 1]; grey comes back as one colour."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    lr = lr.to(getattr(model, "device", lr.device))
    grey = lr.shape[1] == 1
    low = precision == "bf16" or (precision == "auto" and bf16_is_fast())
    try:
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=low):
            noise = {"seed": seed} if getattr(model, "noise_channels", 0) else {}
            sr = model(lr.expand(-1, 3, -1, -1) if grey else lr, **noise)
    except RuntimeError as error:
        # torch has no class of its own for the processor's memory.
        if "allocate memory" in str(error) or isinstance(error, torch.cuda.OutOfMemoryError):
            raise MemoryError(f"not enough memory for a picture of {lr.shape[-1]}×{lr.shape[-2]}") from None
        raise
    return sr.mean(1, keepdim=True) if grey else sr


@torch.inference_mode()
def to_bytes(sr: Tensor, lr: Tensor, downsampler: Downsampler | None) -> Tensor:
    """Round to the 8-bit values 0…255 (as float32) such that A of them, rounded and clipped, is again ``lr``.

    Rounding alone moves A ŷ by far less than half a level, clamping to [0, 255] does not: the two constraints are met by
    alternating projections (POCS) onto {A y ≈ x} and [0, 255]. Samples of A y within SLACK of x count as met, and those
    of x at 0 or 255 bound A y from one side only, so only what would come out wrong is pulled. Where the rounding itself
    makes a sample wrong (at small scales a sample is the mean of few pixels), half its error shifts the rounding there.

    Args:
        sr: ``(1, colours, H, W)`` in about [0, 1].
        lr: ``(1, colours, h, w)`` in 0…255.
        downsampler: None for a model that promises no consistency: then plain rounding.
    """
    if downsampler is None:
        return metrics.quantize(sr)
    target = lr.float()
    y = (sr.float() * 255).contiguous()
    fewest, found = target.numel() + 1, 0
    for number in range(ROUNDS):
        y = y.clamp_(0, 255)
        missing = _missing(downsampler.A(y), target)
        count = int(missing.count_nonzero())
        if count < fewest:
            fewest, found = count, number
        if count == 0 or number - found == PATIENCE:
            break
        y = downsampler.pinv(RELAXATION * missing, onto=y)
    return _rounded(y, target, downsampler)


# Chosen on contrast-stretched validation pictures: without slack or relaxation it takes twice the rounds, with more of
# either some pictures never end.
SLACK, RELAXATION = 0.25, 1.8


def _missing(again: Tensor, target: Tensor) -> Tensor:
    """What A y lacks where it is not good enough."""
    missing = target - again
    free = ((target == 0) & (again <= SLACK)) | ((target == 255) & (again >= 255 - SLACK))
    return torch.where(free | (missing.abs() <= SLACK), 0.0, missing)


def _rounded(y: Tensor, target: Tensor, downsampler: Downsampler) -> Tensor:
    """Round; where that makes a sample of A y wrong, half its error shifts the rounding there. The best of a few tries."""
    best, best_share, shift = None, -1.0, torch.zeros_like(y)
    for _ in range(MENDS):
        saved = metrics.round_clip(y + shift)
        # In float64, as whoever checks the file would: a sample just at half a level must not depend on the precision.
        error = target - downsampler.A(saved.double())
        wrong = metrics.round_clip(target - error) != target
        share = 1 - float(wrong.double().mean())
        if share > best_share:
            best, best_share = saved, share
        if share == 1:
            break
        shift = downsampler.pinv(0.5 * torch.where(wrong, error.float(), 0.0), onto=shift)
    return best


@functools.cache
def bf16_is_fast() -> bool:
    """Whether the processor multiplies in bf16 (AVX-512-BF16 or AMX); elsewhere bf16 is emulated and slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@functools.lru_cache(maxsize=2)
def _loaded(name: str, stamp: int):
    from sr_zoo.hub import load

    return load(name)


def _stamp(source) -> int:
    """When the weights were written: a folder that was trained further is loaded anew."""
    from sr_zoo.hub import checkpoint_folder

    weights = checkpoint_folder(source) / "model.safetensors"
    return weights.stat().st_mtime_ns if weights.is_file() else 0
