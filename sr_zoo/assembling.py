"""What both ways of decoding a picture share: limits, the turn, and the checks of what comes with the pixels."""

import dataclasses
import io
import struct

import numpy as np

from sr_zoo import exif
from sr_zoo.raster import DPI, Picture, PictureError

__all__ = ["Said", "assembled", "check_frame", "check_size", "checked_exif", "less_if_grey", "turned"]


def check_frame(frame: int | None, pages: int, notes: list[str]) -> None:
    if frame is None and pages > 1:
        notes.append(f"frame 1 of {pages}")
    elif not 0 <= (frame or 0) < pages:
        raise PictureError(f"has {pages} frame{'s' * (pages > 1)}, counted from 0; there is no frame {frame}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(
            f"{width}×{height} are more than {max_pixels / 1e6:g} megapixels (a limit against decompression bombs); raise "
            "max_pixels (--max-pixels) if you trust the file"
        )


def turned(upright: np.ndarray, turn: int) -> np.ndarray:
    """A view of an upright array as its samples lie in a file of this EXIF orientation."""
    if turn >= 5:
        upright = upright.swapaxes(0, 1)
    if turn in (3, 4, 6, 7):
        upright = upright[::-1]
    return upright[:, ::-1] if turn in (2, 3, 7, 8) else upright


@dataclasses.dataclass(frozen=True)
class Said:
    orientation: int
    dpi: tuple[float, float] | None


def checked_exif(block: bytes | None, notes: list[str]) -> tuple[bytes | None, Said | None]:
    """The block without orientation and thumbnail, and what it says; None where it is damaged."""
    if block is None:
        return None, None
    try:
        source = exif.Block(block)
        said = Said(source.orientation(source.first), source.dpi(source.first))
        block = exif.edited(block, {exif.ORIENTATION: None})
        exif.check(block)
        return block, said
    except (ValueError, IndexError, struct.error):
        notes.append("its EXIF is damaged and was left out")
        return None, None


def less_if_grey(colours: np.ndarray) -> np.ndarray:
    """One channel where the three are equal everywhere."""
    if colours.shape[2] == 3 and all(np.array_equal(colours[..., 0], colours[..., i]) for i in (1, 2)):
        return np.ascontiguousarray(colours[..., :1])
    return colours


def assembled(colours, alpha, icc, block, dpi, turn: int, notes: list[str]) -> Picture:
    if dpi is not None:
        # Nobody prints so coarsely or finely: the file means something else, or nothing.
        dpi = None if not all(DPI[0] <= side <= DPI[1] for side in dpi) else dpi[::-1] if turn >= 5 else dpi
    icc = _checked_profile(icc, colours.shape[2], notes)
    return Picture(colours, alpha, icc, block, dpi, tuple(notes))


def _checked_profile(icc: bytes | None, samples: int, notes: list[str]) -> bytes | None:
    """The profile, if Little CMS can read it and it is one for such colours."""
    if not icc:
        return None
    from PIL import ImageCms

    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
    except (
        Exception
    ):  # Little CMS fails in many ways at a damaged profile; the picture is fine without, and the note says so
        notes.append("its colour profile is damaged and was left out")
        return None
    if space != {1: "GRAY", 3: "RGB", 4: "CMYK"}[samples]:
        notes.append(f"its colour profile is for {space}, not for its colours, and was left out")
        return None
    return icc
