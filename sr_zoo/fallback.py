"""Picture files that libvips does not read (BMP, PPM, TGA, ICO, JPEG 2000 …) → :class:`~sr_zoo.raster.Picture`, by Pillow."""

import contextlib
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image

from sr_zoo import exif
from sr_zoo.assembling import assembled, check_frame, check_size, checked_exif, less_if_grey, turned
from sr_zoo.raster import NOT_PICTURES, Picture, PictureError

__all__ = ["from_pillow", "opened", "read", "to_pillow"]


def read(file: BinaryIO, frame: int | None, max_pixels: int) -> Picture:
    """As :func:`sr_zoo.picture.open_picture`, from an open file."""
    notes = []
    with opened(file) as image:
        check_frame(frame, getattr(image, "n_frames", 1), notes)
        check_size(*image.size, max_pixels)
        if frame:
            image.seek(frame)
        return from_pillow(image, notes)


def from_pillow(image: Image.Image, notes: list[str] | None = None) -> Picture:
    """See :func:`sr_zoo.picture.from_pillow`; what a user should know is added to ``notes``."""
    notes = [] if notes is None else notes
    image.load()
    block, said = checked_exif(exif.without_prefix(image.info.get("exif") or b"") or None, notes)
    turn = said.orientation if said else 1
    dpi = image.info.get("dpi")
    dpi = tuple(round(float(side), 2) for side in dpi) if dpi and all(side > 0 for side in dpi) else None
    lying = _samples(image, notes)
    samples = {2: 1, 4: 3}.get(lying.shape[2], lying.shape[2]) if image.mode != "CMYK" else 4
    upright = np.empty((*(lying.shape[:2] if turn < 5 else lying.shape[1::-1]), lying.shape[2]), lying.dtype)
    turned(upright, turn)[:] = lying
    colours, alpha = upright[..., :samples], upright[..., samples] if samples < lying.shape[2] else None
    if image.mode in ("P", "PA"):
        colours = less_if_grey(colours)
    return assembled(colours, alpha, image.info.get("icc_profile"), block, dpi, turn, notes)


def to_pillow(picture: Picture) -> Image.Image:
    """See :func:`sr_zoo.picture.to_pillow`."""
    array = picture.colours if picture.alpha is None else np.dstack([picture.colours, picture.alpha])
    if array.dtype == np.uint16 and array.shape[2] > 1:
        array = np.uint8((array * np.uint32(255) + 32767) // 65535)
    if picture.colours.shape[2] == 4:
        image = Image.fromarray(np.ascontiguousarray(array[..., :4]), "CMYK")
    else:
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    kept = {"icc_profile": picture.icc, "dpi": picture.dpi, "exif": picture.exif and b"Exif\0\0" + picture.exif}
    image.info.update({key: value for key, value in kept.items() if value})
    return image


@contextlib.contextmanager
def opened(file: BinaryIO):
    """The picture as Pillow sees it, nothing decoded."""
    Image.init()
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=[name for name in Image.OPEN if name not in NOT_PICTURES]) as image:
                yield image
        except Image.DecompressionBombError:
            raise PictureError(
                f"more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} megapixels (Pillow's limit against decompression bombs); "
                "convert it to PNG or TIFF if you trust it"
            ) from None


def _samples(image: Image.Image, notes: list[str]) -> np.ndarray:
    """``(height, width, samples)``, alpha last."""
    mode = image.mode
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PictureError("samples beyond 16 bits are not supported; save it with 8 or 16 bits")
        return values.astype(np.uint16)[..., None]
    if mode in ("F", "LAB"):
        raise PictureError(f"{'floating-point samples' if mode == 'F' else 'LAB colours'} are not supported; save it as RGB "
                           "with 8 or 16 bits")  # fmt: skip
    if mode == "1":
        notes.append("its 1-bit samples became 8-bit ones")
    if mode in ("P", "PA"):
        notes.append("its palette became colours")
    if image.has_transparency_data:
        image = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    elif mode != "CMYK":
        image = image.convert("L" if mode in ("1", "L") else "RGB")
    array = np.array(image)
    return array if array.ndim == 3 else array[..., None]
