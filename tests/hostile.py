"""Files that are no pictures, are damaged, or mean harm: each with what a user shall be told, or how it shall be read."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from tests.kinds import exif, profile

PNG = b"\x89PNG\r\n\x1a\n"


class Hostile(NamedTuple):
    """A file to be made.

    Attributes:
        make: writes it at a path.
        reason: a part of the error; None where the picture can be read all the same.
        note: a part of a note that the picture then has.
    """

    make: Callable[[Path], None]
    reason: str | None
    note: str | None = None


def pixels() -> np.ndarray:
    """The picture behind all of them, 48×64: noise, so that no file can be shorter by much."""
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def encoded(suffix: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return stream.getvalue()


def written(content) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content() if callable(content) else content)


def cut(suffix: str, share: float, **options) -> Hostile:
    def make(path: Path) -> None:
        data = encoded(suffix, **options)
        path.write_bytes(data[: int(len(data) * share)])

    return Hostile(make, "damaged or truncated")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, colour: int = 2, data: bytes | None = None) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    if data is None:
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels()))
    return PNG + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def rows_of_zeros(width: int, height: int) -> bytes:
    """What that many black rows are packed to, without ever being in memory."""
    packer = zlib.compressobj(9)
    rows = bytes(1 + 3 * width) * 64
    return b"".join(packer.compress(rows) for _ in range(height // 64)) + packer.flush()


def tiff(path: Path, **tags: int) -> None:
    """An uncompressed TIFF of the picture in which values of tags are overwritten."""
    tifffile.imwrite(path, pixels(), photometric="rgb", metadata=None, rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            tag = file.pages[0].tags[name]
            tag.overwrite([value] * tag.count if tag.count > 1 else value)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def ifd_loop(path: Path) -> None:
    """A second directory that says that the first one follows."""
    tifffile.imwrite(path, np.stack([pixels()] * 2), photometric="rgb", metadata=None)
    data = path.read_bytes()
    first = struct.unpack("<I", data[4:8])[0]

    def pointer(at):
        return at + 2 + 12 * struct.unpack("<H", data[at : at + 2])[0]

    second = struct.unpack("<I", data[pointer(first) : pointer(first) + 4])[0]
    path.write_bytes(changed(data, pointer(second), struct.pack("<I", first)))


def links(path: Path) -> None:
    other = path.with_name("other-" + path.name)
    other.symlink_to(path.name)
    path.symlink_to(other.name)


def jpeg_of_size(width: int, height: int) -> bytes:
    data = encoded("jpg")
    return changed(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def with_icc(profile: bytes) -> bytes:
    return png(64, 48, chunk(b"iCCP", b"x\0\0" + zlib.compress(profile, 1)))


def odd_profile() -> bytes:
    """The name is not UTF-8 and the first tag lies outside: libpng names both in a warning."""
    broken = changed(profile(3), 128 + 4 + 4, b"\x7f\xff\xff\xff")
    return png(64, 48, chunk(b"iCCP", b"\xda\xfb\0\0" + zlib.compress(broken)))


def float_with_nan(path: Path) -> None:
    array = np.full((4, 4), 0.5, np.float32)
    array[1, 1] = np.nan
    tifffile.imwrite(path, array)


def lossless_jpeg(**options) -> bytes:
    """Lossless but for rounding."""
    return encoded("jpg", quality=100, subsampling=0, **options)


def extraneous() -> bytes:
    data = lossless_jpeg()
    at = data.index(b"\xff\xc0")
    return data[:at] + bytes(9) + data[at:]


def exif_of(block: bytes) -> bytes:
    return lossless_jpeg(exif=b"Exif\0\0" + block)


def gif_of_size(width: int, height: int) -> bytes:
    """The size is claimed by the file and by its frame."""
    data, size = encoded("gif"), struct.pack("<HH", width, height)
    return changed(changed(data, 6, size), data.index(b",\0\0\0\0") + 5, size)


OUTSIDE_EXIF = b"II*\0" + struct.pack("<IH HHII I", 8, 1, 0x8769, 4, 1, 9999, 0)
LOOPED_EXIF = b"II*\0" + struct.pack("<IH HHII HHII I", 8, 2, 0x8769, 4, 1, 8, 0x8825, 4, 1, 8, 8)

HOSTILE = {
    "missing.png": Hostile(lambda path: None, "no such file"),
    "directory.png": Hostile(Path.mkdir, "is a directory"),
    "empty.png": Hostile(written(b""), "is empty"),
    "one-byte.jpg": Hostile(written(b"\xff"), "is not a picture"),
    "text.png": Hostile(written(b"this is not a picture\n"), "is not a picture"),
    "page.jpg": Hostile(written(b"<!doctype html><html><body>404 Not Found</body></html>"), "is not a picture"),
    "drawing.svg": Hostile(written(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), "is not a picture"),
    "script.eps": Hostile(written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), "is not a picture"),
    "pipe.png": Hostile(os.mkfifo, "is not a regular file"),
    "device.png": Hostile(lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "loop.png": Hostile(links, "symbolic links"),
    "dangling.png": Hostile(lambda path: path.symlink_to("nowhere.png"), "no such file"),
    "long" * 70 + ".png": Hostile(lambda path: None, "name too long"),
    "unreadable.png": Hostile(lambda path: (path.write_bytes(png(64, 48)), path.chmod(0)), "permission denied"),
    # What is right behind another suffix
    "jpeg-called.png": Hostile(written(lambda: encoded("png")), None),
    # Cut short
    "half.png": cut("png", 0.5),
    "nearly-whole.png": cut("png", 0.98),
    "half.jpg": cut("jpg", 0.5),
    "header-only.jpg": cut("jpg", 0.1),
    "half.webp": cut("webp", 0.5, lossless=True),
    "half.avif": cut("avif", 0.5),
    "header-only.avif": cut("avif", 0.02),
    "half.gif": cut("gif", 0.5),
    "half.tif": cut("tif", 0.5),
    "half-deflated.tif": cut("tif", 0.5, compression="tiff_deflate"),
    "half.bmp": cut("bmp", 0.5),
    "half.ppm": cut("ppm", 0.5),
    # PNG
    "signature-only.png": Hostile(written(PNG), "damaged or truncated"),
    "no-end.png": Hostile(written(lambda: png(64, 48)[:-12]), None),
    "wrong-sum.png": Hostile(written(lambda: changed(png(64, 48), len(png(64, 48)) - 20, b"\1\2")), "damaged or truncated"),
    "header-sum.png": Hostile(written(lambda: changed(png(64, 48), 29, b"\1\2\3\4")), "damaged or truncated"),
    "no-width.png": Hostile(written(lambda: png(0, 48)), "damaged or truncated"),
    "claims-60000.png": Hostile(written(lambda: png(60000, 60000, data=b"")), "decompression bombs"),
    "claims-20000.png": Hostile(written(lambda: png(20000, 20000, data=b"")), "damaged or truncated"),
    "bomb-30000.png": Hostile(written(lambda: png(30000, 30016, data=rows_of_zeros(30000, 64))), "decompression bombs"),
    "bomb-in-profile.png": Hostile(written(lambda: with_icc(bytes(10**8))), None),
    "bomb-in-text.png": Hostile(
        written(lambda: png(64, 48, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**8), 1)))), None
    ),
    "odd-chunk.png": Hostile(written(lambda: png(64, 48, chunk(b"\xda\xdb\xff\xfe", b"x"))), "damaged or truncated"),
    "odd-profile.png": Hostile(written(odd_profile), None, "profile"),
    "garbage-profile.png": Hostile(written(lambda: with_icc(b"garbage" * 40)), None, "profile"),
    "other-profile.png": Hostile(written(lambda: with_icc(profile(4))), None, "profile"),
    # JPEG
    "claims-65500.jpg": Hostile(written(lambda: jpeg_of_size(65500, 65500)), "decompression bombs"),
    "claims-9000.jpg": Hostile(written(lambda: jpeg_of_size(9000, 9000)), "damaged or truncated"),
    "no-height.jpg": Hostile(written(lambda: jpeg_of_size(64, 0)), "damaged or truncated"),
    "garbage-profile.jpg": Hostile(written(lambda: lossless_jpeg(icc_profile=b"garbage" * 40)), None, "profile"),
    "extraneous.jpg": Hostile(written(extraneous), None, "extraneous"),
    "other-profile.jpg": Hostile(written(lambda: lossless_jpeg(icc_profile=profile(4))), None, "profile is for CMYK"),
    "exif-pointing-outside.jpg": Hostile(written(lambda: exif_of(OUTSIDE_EXIF)), None, "EXIF"),
    "garbage-exif.jpg": Hostile(written(lambda: exif_of(b"\xff" * 200)), None, "EXIF"),
    "looped-exif.jpg": Hostile(written(lambda: exif_of(LOOPED_EXIF)), None),
    "cut-exif.jpg": Hostile(written(lambda: exif_of(exif(6, (64, 48)).tobytes()[6:40])), None, "EXIF"),
    "wild-orientation.jpg": Hostile(written(lambda: exif_of(exif(77, (64, 48)).tobytes()[6:])), None),
    # TIFF
    "no-rows.tif": Hostile(lambda path: tiff(path, ImageLength=0), "damaged or truncated"),
    "no-columns.tif": Hostile(lambda path: tiff(path, ImageWidth=0), "damaged or truncated"),
    "claims-2-billion.tif": Hostile(lambda path: tiff(path, ImageWidth=2**31 - 1, ImageLength=2**31 - 1), "damaged|bombs"),
    "claims-a-line.tif": Hostile(lambda path: tiff(path, ImageWidth=100_663_352), "bombs"),
    "claims-40000.tif": Hostile(lambda path: tiff(path, ImageWidth=40000, ImageLength=40000), "bombs"),
    "beyond.tif": Hostile(lambda path: tiff(path, StripOffsets=2**31), "damaged or truncated"),
    "bits.tif": Hostile(lambda path: tiff(path, BitsPerSample=77), "damaged or truncated"),
    "samples.tif": Hostile(lambda path: tiff(path, SamplesPerPixel=60000), "damaged or truncated|expected grey"),
    "codec.tif": Hostile(lambda path: tiff(path, Compression=60001), "damaged or truncated"),
    "header-only.tif": Hostile(written(b"II*\0\xff\xff\xff\x7f"), "damaged or truncated"),
    "loop.tif": Hostile(ifd_loop, None, "frame 1 of 2"),
    "nan.tif": Hostile(float_with_nan, "floating-point"),
    "complex.tif": Hostile(lambda path: tifffile.imwrite(path, np.ones((4, 4), np.complex64)), "complex"),
    "32-bit.tif": Hostile(lambda path: tifffile.imwrite(path, np.ones((4, 4), np.uint32)), "32-bit"),
    "signed.tif": Hostile(lambda path: tifffile.imwrite(path, np.ones((4, 4), np.int16)), "signed"),
    "lab.tif": Hostile(lambda path: tifffile.imwrite(path, pixels(), photometric="cielab"), "LAB"),
    "seven-bands.tif": Hostile(
        lambda path: tifffile.imwrite(
            path, np.ones((4, 4, 7), np.uint8), photometric="minisblack", planarconfig="contig"), "7 samples"
    ),
    # Others
    "length.webp": Hostile(written(lambda: changed(encoded("webp"), 4, b"\xff\xff\xff\x7f")), "damaged or truncated"),
    "claims.gif": Hostile(written(lambda: gif_of_size(60000, 60000)), "bombs"),
    "no-frames.gif": Hostile(written(b"GIF89a\x04\0\x04\0\0\0\0;"), "damaged or truncated"),
    "claims.bmp": Hostile(written(lambda: changed(encoded("bmp"), 18, struct.pack("<ii", 60000, 60000))), "bombs"),
    "claims.ppm": Hostile(written(b"P6 60000 60000 255\n123"), "bombs"),
}  # fmt: skip
