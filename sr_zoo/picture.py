"""A picture file ⇄ an array. What is not a picture is said in one line that names the file.

What others import; the types are in ``raster.py``, the work is in ``decoding.py``, ``encoding.py`` and ``fallback.py``. These are
imported when first used: libvips takes time to load, and plain pictures do without.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sr_zoo.errors import one_line
from sr_zoo.files import whole
from sr_zoo.raster import DPI, MAX_PIXELS, NOT_PICTURES, Picture, PictureError, named_errors

__all__ = [
    "DPI", "MAX_PIXELS", "NOT_PICTURES", "Picture", "PictureError", "count_frames", "find_pictures", "losses", "named_errors",
    "open_picture", "picture_size", "read_picture", "save_picture", "suffix_for", "to_array", "write_picture",
]  # fmt: skip


def open_picture(path: str | Path, frame: int | None = None, max_pixels: int | None = None) -> Picture:
    """Read a picture with all that must survive: the depth, alpha, CMYK, profile, EXIF and resolution of the file.

    Palettes become RGB or grey, 1-bit pictures and 10- and 12-bit ones the next of 8 or 16 bits, premultiplied colours
    straight ones; notes say so.

    Args:
        frame: of an animation or a file of several pages, counted from 0; None for the first, with a note if there are more.
        max_pixels: what the header may claim; :data:`MAX_PIXELS` by default.

    Raises:
        PictureError: missing, not a regular file, not a picture, truncated, of floating-point or 32-bit samples, of other
            colours than grey, RGB or CMYK, or larger than ``max_pixels``.
    """
    from sr_zoo import decoding

    return decoding.open_picture(path, frame, max_pixels)


def count_frames(path: str | Path) -> int:
    """How many frames or pages there are; 1 for a plain picture.

    Raises:
        PictureError: as :func:`open_picture`.
    """
    from sr_zoo import decoding

    return decoding.count_frames(path)


def from_pillow(image: Image.Image) -> Picture:
    """An open picture of Pillow's, 8-bit or 16-bit grey, with its alpha, profile and resolution.

    Raises:
        PictureError: floating-point samples, or integers beyond 16 bits.
    """
    from sr_zoo import fallback

    return fallback.from_pillow(image)


def to_pillow(picture: Picture) -> Image.Image:
    """As Pillow's ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` or ``I;16``; colours of 16 bits, which it has not, become 8-bit ones."""
    from sr_zoo import fallback

    return fallback.to_pillow(picture)


def save_picture(path: str | Path, picture: Picture, quality: int | None = None) -> None:
    """Write a picture with all that it carries; the file appears whole or not at all.

    Args:
        path: its suffix says the format: png, tif, tiff, webp, avif, jpg, jpeg or bmp.
        quality: 1…100 for lossy WebP, AVIF (both lossless by default) and JPEG (95 by default; colours are never
            subsampled in AVIF and JPEG).

    Raises:
        PictureError: the format is unknown or cannot hold the picture, or the place cannot be written.
    """
    from sr_zoo import encoding

    encoding.save_picture(path, picture, quality)


def losses(suffix: str, picture: Picture, quality: int | None = None) -> str | None:
    """What of a picture a file of this suffix would lose, in one line: ``"WebP holds 8 of 16 bits"``; None if it keeps all.

    Raises:
        PictureError: the format is unknown.
    """
    from sr_zoo import encoding

    return encoding.losses(suffix, picture, quality)


def suffix_for(path: str | Path) -> str:
    """What an upscaled picture is saved as by default: ``".tif"`` if it came as TIFF or in CMYK, otherwise ``".png"``.

    Only the header is read; a file that cannot be read gives ``".png"``.
    """
    from sr_zoo import decoding

    return ".tif" if decoding.is_tiff(path) or decoding.is_cmyk(path) else ".png"


def read_picture(path: str | Path, keep_grey: bool = False) -> np.ndarray:
    """Decode a picture to uint8 RGB ``(height, width, 3)``, turned upright by its EXIF orientation.

    Palettes and CMYK become RGB, 16 bits become 8, transparency is laid over white.

    Args:
        keep_grey: return a grey picture as ``(height, width)``.

    Raises:
        PictureError: missing, a directory, not a picture, truncated, or larger than Pillow deems safe.
    """
    path = Path(path)
    with named_errors(path):
        if path.is_dir():
            raise PictureError(f"{path}: is a directory, expected a picture file")
        with warnings.catch_warnings():
            # Between once and twice the limit Pillow only warns; what may be a bomb is refused by us all the same.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(path) as image:
                    image.load()
                    return to_array(image, keep_grey)
            except (Image.DecompressionBombWarning, Image.DecompressionBombError):
                raise PictureError(
                    f"more than {Image.MAX_IMAGE_PIXELS // 10**6} megapixels (Pillow's limit against decompression bombs); "
                    "cut it into smaller pictures"
                ) from None
            except UnidentifiedImageError:
                if path.stat().st_size:
                    raise
                raise PictureError("is empty") from None


def picture_size(path: str | Path) -> tuple[int, int] | None:
    """Two sides in pixels as the file's header says, in either order; None where it cannot be read. Nothing is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return image.size
        except Exception:  # as read_picture, which then says why
            return None


def to_array(image: Image.Image, keep_grey: bool = False) -> np.ndarray:
    """An open picture as :func:`read_picture` returns it.

    Raises:
        ValueError: floating-point samples, or integers beyond 16 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, in Pillow's several spellings
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer samples beyond 16 bits")
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point samples are not supported")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if keep_grey and grey:
        return np.array(image.convert("L"))
    return np.array(image.convert("RGB"))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Save a uint8 picture losslessly; the file appears whole or not at all.

    Raises:
        PictureError: the format is unknown or cannot hold every value exactly, or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    options = {".png": {}, ".bmp": {}, ".tif": {"compression": "tiff_deflate"}, ".tiff": {"compression": "tiff_deflate"},
               ".webp": {"lossless": True, "exact": True}}  # fmt: skip
    if suffix not in options:
        raise PictureError(
            f"{path}: cannot save losslessly as {suffix or 'a file without suffix'}; use {', '.join(options)}"
        )
    try:
        with whole(path) as beside:
            Image.fromarray(picture).save(beside, **options[suffix])
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{path}: cannot be written ({reason})") from None


def find_pictures(folder: str | Path) -> list[Path]:
    """All files below a folder whose suffix says a format that Pillow reads, sorted; hidden ones left out.

    Raises:
        PictureError: there is no such folder.
    """
    Image.init()
    suffixes = {s for s, f in Image.registered_extensions().items() if f in Image.OPEN and f not in NOT_PICTURES}
    folder = Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder}: no such folder")
    return sorted(
        p for p in folder.rglob("*")
        if p.suffix.lower() in suffixes and p.is_file() and not _hidden(p.relative_to(folder))
    )  # fmt: skip


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
