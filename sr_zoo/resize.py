"""Other sizes than a network's: which network, and MATLAB-bicubic from its picture to the size that was asked for.

Consistency then refers to the network's picture, of which the resized one is only a view.
"""

import dataclasses
import math
import re

import numpy as np

from sr_zoo.errors import UserError
from sr_zoo.raster import Picture

__all__ = ["default_model", "plan_outscale", "resize"]

BLOCK = 64  # rows and columns of the result that are made at a time
MAX_SIDE = 1 << 20


def plan_outscale(
    width: int,
    height: int,
    outscale: float | None = None,
    size: str | None = None,
    scales: tuple[int, ...] = (2, 3, 4),
) -> tuple[int, tuple[int, int]]:
    """The network's scale and the size of the result for a picture of ``width`` × ``height``.

    The network is the one of the smallest scale that reaches the size, so that details are made rather than blown up, else the
    largest.

    Args:
        outscale: factor of both sides, such as 3.3.
        size: ``"3840x2160"`` exactly, whatever becomes of the aspect; ``"3840x"`` or ``"x2160"`` keep it, to a pixel.
        scales: of the networks that there are.

    Returns:
        ``(scale, (width, height))``, sides in pixels.

    Raises:
        UserError: neither or both are given, or one makes no sense.
    """
    if (outscale is None) == (size is None):
        raise UserError("outscale and size: give one of them")
    if outscale is not None:
        if not 0 < outscale < math.inf:
            raise UserError(f"outscale: {outscale:g} is not a factor above 0")
        if outscale > MAX_SIDE:
            raise UserError(f"outscale: {outscale:g} is more than {MAX_SIDE:,}; give less")
        factor = outscale
        wanted = width * outscale, height * outscale
    else:
        across, down = _sides(size)
        if max(across or 0, down or 0) > MAX_SIDE:
            raise UserError(f"size: {size!r} is more than {MAX_SIDE:,} pixels a side; give less")
        factor = max((across or 0) / width, (down or 0) / height)
        wanted = across or width * factor, down or height * factor
    sides = tuple(max(1, math.floor(side + 0.5)) if side <= MAX_SIDE else side for side in wanted)
    if max(sides) > MAX_SIDE:
        asked = f"outscale {outscale:g}" if size is None else f"size {size}"
        raise UserError(f"{asked}: more than {MAX_SIDE:,} pixels a side for a picture of {width}×{height}; give less")
    reaching = [scale for scale in scales if scale >= factor]
    return min(reaching) if reaching else max(scales), sides


def default_model(scale: int) -> str:
    """Name of the shipped model that a size is reached with, where the user names none."""
    return f"affmse-x{scale}"


def resize(picture: Picture, width: int, height: int) -> Picture:
    """The picture in another size, as MATLAB's ``imresize(…, 'bicubic')``: without aliasing, mirrored at the border.

    Colours are weighed by their alpha, so that what is hidden does not show at edges. Values are rounded half up and clipped; all
    else that the picture carries is kept. Beside the result, a few rows are held in memory.

    Raises:
        ValueError: a side is not 1 or more.
    """
    if min(width, height) < 1:
        raise ValueError(f"{width}×{height} is not a size of 1×1 or more")
    if (width, height) == picture.size:
        return picture
    colours, alpha = picture.colours, picture.alpha
    wide, high, channels = *picture.size, colours.shape[2]
    # Single precision keeps the half levels of 8 bits apart, but not those of 16.
    dtype = np.float32 if colours.dtype == np.uint8 else np.float64
    columns = [_weights(wide, width, first, min(width, first + BLOCK), dtype) for first in range(0, width, BLOCK)]
    result = np.empty((height, width, channels), colours.dtype)
    transparency = None if alpha is None else np.empty((height, width), alpha.dtype)
    # Fewer rows where each depends on many.
    step = max(1, min(BLOCK, BLOCK * height // high))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        first, weights = _weights(high, height, top, bottom, dtype)
        rows = slice(first, first + weights.shape[1])
        planes = colours[rows].transpose(2, 0, 1).astype(dtype)
        if alpha is not None:
            cover = alpha[rows].astype(dtype)[None] / picture.peak
            planes = np.concatenate([planes * cover, cover])
        planes = weights @ planes
        planes = np.concatenate([planes[..., start : start + line.shape[1]] @ line.T for start, line in columns], -1)
        if alpha is not None:
            cover = planes[-1]
            transparency[top:bottom] = _rounded(cover * picture.peak, picture.peak)
            shown = cover * picture.peak >= 0.5  # what rounds to nothing has no colour
            planes = np.where(shown, planes[:-1] / np.where(shown, cover, 1), 0)
        result[top:bottom] = _rounded(planes, picture.peak).transpose(1, 2, 0)
    return dataclasses.replace(picture, colours=result, alpha=transparency)


def _weights(size: int, out: int, first: int, last: int, dtype) -> tuple[int, np.ndarray]:
    """What samples ``first`` to ``last`` of ``out`` are made of: the first of the inputs they need, and outputs × inputs.

    Written out, since the filters of numerical libraries repeat or cut the border, and begin only at whole strides.
    """
    scale = min(1.0, out / size)
    centre = (np.arange(first, last) + 0.5) * size / out - 0.5
    taps = np.floor(centre - 2 / scale).astype(int)[:, None] + np.arange(math.ceil(4 / scale) + 2)
    weights = _cubic(np.abs(centre[:, None] - taps) * scale)
    weights /= weights.sum(1, keepdims=True)
    taps = np.mod(taps, 2 * size)
    taps = np.where(taps < size, taps, 2 * size - 1 - taps)
    low = int(taps.min())
    matrix = np.zeros((last - first, int(taps.max()) + 1 - low))
    np.add.at(matrix, (np.arange(last - first)[:, None], taps - low), weights)
    return low, matrix.astype(dtype)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic, a = −0.5, at distances of 0 or more."""
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _rounded(values: np.ndarray, peak: int) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, peak)


def _sides(size: str) -> tuple[int | None, int | None]:
    found = re.fullmatch(r"\s*(\d{0,9})\s*[x×]\s*(\d{0,9})\s*", size, re.IGNORECASE)
    across, down = (int(side) if side else None for side in found.groups()) if found else (None, None)
    if across is down is None or 0 in (across, down):
        raise UserError(f"size: {size!r} is not WIDTHxHEIGHT in pixels, such as 3840x2160, 3840x or x2160")
    return across, down
