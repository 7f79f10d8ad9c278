"""Picture files → :class:`~sr_zoo.raster.Picture`: libvips where it reads the format, Pillow for the others.

Samples go in strips from the decoder to where they stay, already turned upright: what it takes is one picture, and what the
decoder itself holds (all of it for WebP, AVIF, interlaced PNG and progressive JPEG).
"""

import contextlib
import mmap
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_zoo import exif, fallback
from sr_zoo.assembling import assembled, check_frame, check_size, checked_exif, less_if_grey, turned
from sr_zoo.containers import has_profile, is_apng, jpeg_density, png_density
from sr_zoo.raster import MAX_PIXELS, Picture, PictureError, named_errors
from sr_zoo.vips import pyvips, reason

__all__ = ["count_frames", "is_cmyk", "is_tiff", "open_picture"]

STRIP_BYTES = 1 << 22
# How many of a pixel's samples are colours, by libvips' name for them.
COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "cmyk": 4}
PAGED = {"tiff", "gif", "webp", "heif"}
PHOTOMETRIC, EXTRA_SAMPLES, SAMPLE_FORMAT = 0x0106, 0x0152, 0x0153
PALETTE, LAB, COMPLEX = 3, (8, 9, 10), (5, 6)


def open_picture(path: str | Path, frame: int | None = None, max_pixels: int | None = None) -> Picture:
    """As :func:`sr_zoo.picture.open_picture`."""
    with _opened(path) as file:
        kind = _kind(file)
        if kind == "png" and frame and is_apng(file):
            kind = None
        most = MAX_PIXELS if max_pixels is None else max_pixels
        return fallback.read(file, frame, most) if kind is None else _through_vips(file, kind, frame, most)


def count_frames(path: str | Path) -> int:
    """As :func:`sr_zoo.picture.count_frames`."""
    with _opened(path) as file:
        kind = _kind(file)
        if kind in PAGED:
            return _pages(_loaded(file, kind))
        if kind == "jpeg" or (kind == "png" and not is_apng(file)):
            return 1
        with fallback.opened(file) as image:
            return getattr(image, "n_frames", 1)


def is_tiff(path: str | Path) -> bool:
    """Whether a file is a TIFF; False where it cannot be read."""
    try:
        with _opened(path) as file:
            return _kind(file) == "tiff"
    except PictureError:
        return False


def is_cmyk(path: str | Path) -> bool:
    """Whether a picture's header says CMYK; False where it cannot be read."""
    try:
        with _opened(path) as file:
            if _kind(file) in ("jpeg", "tiff"):
                return _loaded(file, _kind(file)).interpretation == "cmyk"
    except PictureError:
        pass
    return False


@contextlib.contextmanager
def _opened(path: str | Path):
    """The file, open; whatever goes wrong until the block ends is a PictureError that names it."""
    with named_errors(path):
        # Before opening: a pipe without a writer would never open.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise PictureError("is a directory, expected a picture file")
        if not stat.S_ISREG(mode):
            raise PictureError("is not a regular file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise PictureError("is empty")
            try:
                yield file
            except pyvips.Error as error:
                if "out of memory" in str(error):
                    raise MemoryError from None
                raise PictureError(f"damaged or truncated ({reason(error)})") from None


def _kind(file: BinaryIO) -> str | None:
    """By its first bytes, which of libvips' loaders reads the file; None for none of them."""
    file.seek(0)
    head = file.read(16)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    brands = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
    return "heif" if head[4:8] == b"ftyp" and head[8:12] in brands else None


def _loaded(file: BinaryIO, kind: str, frame: int | None = None, fail_on: str | None = None):
    """The picture as libvips sees it, its header read and nothing decoded."""
    file.seek(0)
    # libjpeg only warns where it fills what is missing with grey; the others warn of trifles.
    options = {"access": "sequential", "fail_on": fail_on or ("warning" if kind == "jpeg" else "error")}
    if kind in PAGED:
        options["page"] = frame or 0
    return getattr(pyvips.Image, f"{kind}load_source")(pyvips.Source.new_from_descriptor(file.fileno()), **options)


def _pages(image) -> int:
    return image.get("n-pages") if "n-pages" in image.get_fields() else 1


def _through_vips(file: BinaryIO, kind: str, frame: int | None, max_pixels: int) -> Picture:
    notes = []
    if kind == "tiff":
        _check_tiff(file, max_pixels)
    image = _loaded(file, kind)
    pages = _pages(image)
    check_frame(frame, pages, notes)
    if frame:
        image = _loaded(file, kind, frame)
    check_size(image.width, image.height, max_pixels)
    fields = set(image.get_fields())
    block = exif.without_prefix(image.get("exif-data")) if "exif-data" in fields else None
    dpi, turn, palette = None, 1, kind == "png" and "palette" in fields
    if kind == "tiff":
        block, dpi, turn, palette = _tiff_header(file, frame or 0, notes)
    samples = COLOURS.get(image.interpretation)
    if image.format not in ("uchar", "ushort"):
        raise PictureError(f"{_sample_name(image.format)} samples are not supported; save it with 8 or 16 bits")
    if samples is None or not 0 <= image.bands - samples <= 1:
        raise PictureError(f"{image.bands} samples a pixel ({image.interpretation}), expected grey, RGB or CMYK with or "
                           "without alpha")  # fmt: skip
    block, said = checked_exif(block, notes)
    if kind != "tiff":
        # libheif turns the picture itself.
        turn, dpi = said.orientation if said and kind != "heif" else 1, said.dpi if said else None
    own = {"png": png_density, "jpeg": jpeg_density}[kind](file) if kind in ("png", "jpeg") else None
    # The container's is what other programs read; EXIF has it in more digits.
    if own is not None and (dpi is None or max(abs(a - b) for a, b in zip(own, dpi)) > 1):
        dpi = own
    bits = image.get("bits-per-sample") if "bits-per-sample" in fields else 8
    try:
        colours, alpha = _decoded(image, samples, turn, bits if kind == "heif" else 16)
    except pyvips.Error as error:
        if kind != "jpeg" or "extraneous bytes" not in str(error):
            raise
        # Some cameras write them, and nothing is missing.
        notes.append("it has extraneous bytes among its data")
        colours, alpha = _decoded(_loaded(file, kind, fail_on="error"), samples, turn, 16)
    if bits < 8 and not palette and kind != "gif":  # a GIF's are of its palette's indices
        notes.append(f"its {bits}-bit samples became 8-bit ones")
    elif 8 < bits < 16:
        notes.append(f"its {bits}-bit samples became 16-bit ones")
    if palette:
        colours = less_if_grey(colours)
        notes.append(f"its palette became {'grey' if colours.shape[2] == 1 else 'RGB'}")
    if kind == "gif" and alpha is not None and alpha.min() == 255:
        alpha = None  # frames are laid over one another, transparent or not
    icc = image.get("icc-profile-data") if "icc-profile-data" in fields else None
    if icc is None and kind == "png" and has_profile(file):
        notes.append("its colour profile is damaged or not for its colours, and was left out")
    return assembled(colours, alpha, icc, block, dpi, turn, notes)


def _decoded(image, samples: int, turn: int, bits: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours and alpha, upright."""
    dtype = np.uint8 if image.format == "uchar" else np.uint16
    height, width = (image.height, image.width) if turn < 5 else (image.width, image.height)
    colours = np.empty((height, width, samples), dtype)
    alpha = np.empty((height, width), dtype) if image.bands > samples else None
    lying = turned(colours, turn), None if alpha is None else turned(alpha, turn)
    rows = max(1, STRIP_BYTES // (image.width * image.bands * dtype().itemsize))
    region = pyvips.Region.new(image)
    for top in range(0, image.height, rows):
        count = min(rows, image.height - top)
        strip = np.frombuffer(region.fetch(0, top, image.width, count), dtype).reshape(count, image.width, image.bands)
        if dtype == np.uint16 and bits < 16:
            # libvips moves 10 and 12 bits to the left, so that white would be darker than white.
            levels = (1 << bits) - 1
            strip = (((strip >> (16 - bits)).astype(np.uint32) * 65535 + levels // 2) // levels).astype(np.uint16)
        lying[0][top : top + count] = strip[..., :samples]
        if alpha is not None:
            lying[1][top : top + count] = strip[..., samples]
    return colours, alpha


def _sample_name(format_: str) -> str:
    return {"float": "floating-point", "double": "floating-point", "char": "signed", "short": "signed"}.get(
        format_, "32-bit integer")  # fmt: skip


def _check_tiff(file: BinaryIO, max_pixels: int) -> None:
    """Refuse what libvips would only call damaged, or print a warning of."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            source = exif.Block(data)
            tags = source.entries(source.first)
        except ValueError:
            return
        wanted = PHOTOMETRIC, SAMPLE_FORMAT, exif.WIDTH, exif.HEIGHT
        photometric, samples, width, height = (source.numbers(tags.get(tag)) for tag in wanted)
    if width and height:
        check_size(width[0], height[0], max_pixels)
    if photometric and photometric[0] in LAB:
        raise PictureError("LAB colours are not supported; save it as RGB")
    if samples and samples[0] in COMPLEX:
        raise PictureError("complex samples are not supported; save it with 8 or 16 bits")


def _tiff_header(file: BinaryIO, page: int, notes: list[str]):
    """EXIF block, pixels per inch, orientation and whether there is a palette: what libvips does not read, or hides."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            source = exif.Block(data)
            at = source.page(page)
            tags = source.entries(at)
            photometric, extra = (source.numbers(tags.get(tag)) for tag in (PHOTOMETRIC, EXTRA_SAMPLES))
            header = exif.from_tiff(source, at), source.dpi(at), source.orientation(at), photometric == [PALETTE]
        except ValueError:
            notes.append("its tags are damaged and were left out")
            return None, None, 1, False
    if extra == [1]:
        notes.append("its colours, premultiplied with alpha, were divided by it")
    return header
