""":class:`~sr_zoo.raster.Picture` → picture files, by libvips (BMP by Pillow), with profile, EXIF and resolution.

libvips encodes straight from the arrays, strip by strip, so that a mapped file of any size is saved at bounded memory. Profile
and pixels are left to it; EXIF and resolution are put into the container here, byte by byte as they are: through libexif
they would come out changed (see :mod:`sr_zoo.exif`).
"""

import dataclasses
import struct
from pathlib import Path

import numpy as np

from sr_zoo import exif
from sr_zoo.containers import avif_with_exif, jpeg_head, png_head, webp_with_exif
from sr_zoo.errors import one_line
from sr_zoo.files import whole
from sr_zoo.raster import DPI, Picture, PictureError

__all__ = ["losses", "save_picture"]


@dataclasses.dataclass(frozen=True)
class Format:
    """What a container holds.

    Attributes:
        bits: the most a sample may have.
        cmyk, alpha: whether it holds them.
        tags: whether it holds a profile and EXIF.
        lossy: whether it is lossy, ``"always"``, ``"on request"`` (with a quality) or ``"never"``.
        side: the most pixels a side may have.
        exif_bytes: the most an EXIF block may have.
    """

    name: str
    bits: int
    lossy: str
    side: int
    cmyk: bool = False
    alpha: bool = True
    tags: bool = True
    exif_bytes: int = 1 << 31


# JPEG's EXIF must fit a segment of 65535 bytes; libexif makes no larger one for AVIF.
TIFF = Format("TIFF", 16, "never", 2**31 - 1, cmyk=True)
JPEG = Format("JPEG", 8, "always", 65535, cmyk=True, alpha=False, exif_bytes=65527)
FORMATS = {
    ".png": Format("PNG", 16, "never", 2**31 - 1), ".tif": TIFF, ".tiff": TIFF,
    ".webp": Format("WebP", 8, "on request", 16383),
    ".avif": Format("AVIF", 12, "on request", 16384, exif_bytes=60000),
    ".jpg": JPEG, ".jpeg": JPEG, ".bmp": Format("BMP", 8, "never", 32767, alpha=False, tags=False),
}  # fmt: skip
# PNG and TIFF: a level further saves 3 % of the size and costs 30 % more time (enlarged photographs); of PNG's filters,
# this one gives the smallest files of those that are fast. WebP: more effort saved nothing. AVIF: the default of 4 saves a
# fifth of the size and takes nine times as long.
PNG_OPTIONS = {"compression": 3, "filter": "up"}
TIFF_OPTIONS = {"compression": "deflate", "predictor": "horizontal", "level": 3}
WEBP_EFFORT, AVIF_EFFORT = 2, 1
# libvips' names of what the samples are.
NAMES = {"uchar": {1: "b-w", 3: "srgb", 4: "cmyk"}, "ushort": {1: "grey16", 3: "rgb16", 4: "cmyk"}}
JPEG_QUALITY = 95
# From here on a TIFF needs offsets of 64 bits; deflate may make noise larger than it was.
BIG_TIFF_BYTES = 2**32 - 2**27


def save_picture(path: str | Path, picture: Picture, quality: int | None = None) -> None:
    """As :func:`sr_zoo.picture.save_picture`."""
    path = Path(path)
    format_ = _format(path.suffix, f"{path}: ")
    _check(path, format_, picture, quality)
    try:
        with whole(path) as beside, open(beside, "w+b") as file:
            if format_.name == "BMP":
                _write_bmp(file, picture)
            else:
                _write(file, format_, picture, quality)
    except MemoryError:
        raise PictureError(f"{path}: not enough memory to encode it") from None
    except (OSError, ValueError, _Failed) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{path}: cannot be written ({reason})") from None


def losses(suffix: str, picture: Picture, quality: int | None = None) -> str | None:
    """As :func:`sr_zoo.picture.losses`."""
    format_ = _format(suffix)
    lost = []
    if format_.lossy == "always" or (format_.lossy == "on request" and quality is not None):
        lost.append("changes samples (it is lossy)")
    if picture.colours.shape[2] == 4 and not format_.cmyk:
        lost.append("holds no CMYK, which becomes sRGB")
    if picture.peak > 255 and format_.bits < 16:
        lost.append(f"holds {format_.bits} of 16 bits")
    if not format_.tags and (picture.icc or picture.exif):
        lost.append("holds no profile and no EXIF")
    elif picture.exif and _block(picture, format_) is None:
        lost.append(f"holds no EXIF of {len(picture.exif):,} bytes")
    return f"{format_.name} {'; '.join(lost)}" if lost else None


def _format(suffix: str, where: str = "") -> Format:
    try:
        return FORMATS[suffix.lower()]
    except KeyError:
        raise PictureError(f"{where}cannot save as {suffix or 'a file without suffix'}; use {', '.join(FORMATS)}") from None


def _check(path: Path, format_: Format, picture: Picture, quality: int | None) -> None:
    colours, alpha = picture.colours, picture.alpha
    if (
        colours.dtype not in (np.uint8, np.uint16)
        or colours.ndim != 3
        or colours.shape[2] not in (1, 3, 4)
        or not colours.size
    ):
        raise PictureError(
            f"{path}: expected uint8 or uint16 (height, width, 1, 3 or 4), got {colours.dtype} {colours.shape}"
        )
    if alpha is not None and (alpha.dtype != colours.dtype or alpha.shape != colours.shape[:2]):
        raise PictureError(f"{path}: alpha is {alpha.dtype} {alpha.shape}, colours are {colours.dtype} {colours.shape}")
    if alpha is not None and not format_.alpha:
        able = ", ".join(suffix for suffix, other in FORMATS.items() if other.alpha)
        raise PictureError(f"{path}: {format_.name} holds no transparency; use {able}")
    if max(picture.size) > format_.side:
        raise PictureError(f"{path}: {format_.name} holds at most {format_.side} pixels a side, the picture has "
                           f"{picture.size[0]}×{picture.size[1]}; use .png or .tif")  # fmt: skip
    if quality is not None and format_.lossy == "never":
        raise PictureError(f"{path}: {format_.name} is always lossless and takes no quality; use .webp, .avif or .jpg")
    if quality is not None and not 1 <= quality <= 100:
        raise PictureError(f"{path}: quality {quality} is not in 1…100")
    if picture.dpi is not None and not all(DPI[0] <= side <= DPI[1] for side in picture.dpi):
        raise PictureError(f"{path}: {picture.dpi} pixels per inch are not in {DPI[0]:g}…{DPI[1]:g}")
    if picture.exif is not None:
        try:
            exif.check(picture.exif)
        except (ValueError, IndexError, struct.error) as error:
            raise PictureError(f"{path}: the picture's EXIF is damaged ({one_line(error)})") from None


class _Failed(Exception):
    """libvips' own words."""


class _Sink:
    """A target of libvips that writes to a file, and keeps the error that a callback must not raise."""

    def __init__(self, file, rewrite_head=None):
        from sr_zoo.vips import pyvips

        self.file, self.error = file, None
        self.head, self.rewrite_head = b"", rewrite_head
        self.target = pyvips.TargetCustom()
        self.target.on_write(lambda chunk: self._tried(self._write, bytes(chunk)))
        self.target.on_read(lambda size: self._tried(self.file.read, size, failed=b""))
        self.target.on_seek(lambda offset, whence: self._tried(self.file.seek, offset, whence))

    def _write(self, chunk: bytes) -> int:
        if self.rewrite_head is None:
            self.file.write(chunk)
        else:
            self.head += chunk
            if (head := self.rewrite_head(self.head)) is not None:
                self.file.write(head)
                self.head, self.rewrite_head = b"", None
        return len(chunk)

    def _tried(self, call, *arguments, failed=-1):
        try:
            return call(*arguments)
        except OSError as error:
            self.error = error
            return failed


def _write(file, format_: Format, picture: Picture, quality: int | None) -> None:
    from sr_zoo.vips import pyvips, reason

    block, sink = _block(picture, format_), None
    try:
        image = _as_image(picture, format_)
        if format_.name == "PNG":
            sink = _Sink(file, lambda head: png_head(head, block, picture.dpi))
            image.pngsave_target(sink.target, keep="icc", **PNG_OPTIONS)
        elif format_.name == "TIFF":
            size = picture.colours.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
            sink = _Sink(file)
            image.tiffsave_target(sink.target, keep="icc", bigtiff=size > BIG_TIFF_BYTES, **TIFF_OPTIONS)
            exif.into_tiff(file, block, picture.dpi)
        elif format_.name == "JPEG":
            sink = _Sink(file, lambda head: jpeg_head(head, block, picture.dpi, picture.colours.shape[2] != 4))
            image.jpegsave_target(sink.target, keep="icc", Q=quality or JPEG_QUALITY, subsample_mode="off")
        elif format_.name == "WebP":
            options = {"lossless": True, "exact": True, "effort": WEBP_EFFORT} if quality is None else {"Q": quality}
            data = image.webpsave_buffer(keep="icc", **options)
            file.write(webp_with_exif(data, block, picture.size, picture.alpha is not None))
        else:
            file.write(_avif(image, block, quality, 8 if picture.peak == 255 else 12))
    except pyvips.Error as error:
        if "out of memory" in str(error):
            raise MemoryError from None
        raise (sink.error if sink and sink.error else _Failed(reason(error))) from None


def _block(picture: Picture, format_: Format) -> bytes | None:
    """EXIF as it is written; None where there is none or it is too large."""
    # WebP, AVIF and JPEG in CMYK say their resolution nowhere else.
    own = format_.name in ("WebP", "AVIF") or (format_.name == "JPEG" and picture.colours.shape[2] == 4)
    block = exif.prepared(picture.exif, picture.size, picture.dpi, own)
    return block if block is None or len(block) <= format_.exif_bytes else None


def _as_image(picture: Picture, format_: Format):
    """The picture as libvips sees it: nothing is copied, what must change is computed as it is written."""
    from sr_zoo.vips import pyvips

    width, height = picture.size
    depth = "uchar" if picture.peak == 255 else "ushort"
    parts = [
        pyvips.Image.new_from_memory(np.ascontiguousarray(plane).data, width, height, plane[0, 0].size, depth)
        for plane in (picture.colours, picture.alpha) if plane is not None
    ]  # fmt: skip
    names = NAMES[depth]
    image = (parts[0].bandjoin(parts[1]) if parts[1:] else parts[0]).copy(interpretation=names[picture.colours.shape[2]])
    if picture.icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", picture.icc)
    if picture.colours.shape[2] == 4 and not format_.cmyk:
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=8 if depth == "uchar" else 16)
    if depth == "ushort" and format_.bits == 8:
        image = (image / 257).rint().cast("uchar").copy(interpretation=NAMES["uchar"][image.bands - bool(parts[1:])])
    elif depth == "ushort" and format_.bits == 12:
        # The encoder shifts the four bits away.
        image = ((image * (4095 / 65535)).rint() * 16).cast("ushort").copy(interpretation=image.interpretation)
    return image


def _avif(image, block: bytes | None, quality: int | None, bits: int) -> bytes:
    from sr_zoo.vips import pyvips

    options = {"compression": "av1", "effort": AVIF_EFFORT, "bitdepth": bits}
    options |= {"lossless": True} if quality is None else {"Q": quality, "subsample_mode": "off"}
    if block is None:
        return image.heifsave_buffer(keep="icc", **options)
    filler = "sr-zoo" * (len(block) // 6 + 1)
    image = image.copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd2-UserComment", filler)
    data = image.heifsave_buffer(keep="icc|exif", **options)
    return avif_with_exif(data, filler.encode(), block)


def _write_bmp(file, picture: Picture) -> None:
    from PIL import Image

    # The arrays are converted as for the others; Pillow then writes what it would for a plain uint8 picture.
    array = _as_image(picture, FORMATS[".bmp"]).numpy()
    Image.fromarray(array).save(file, "BMP", dpi=picture.dpi or (0, 0))
