"""Resolution and EXIF in the bytes of PNG, JPEG, WebP and AVIF files, where a library would not keep them as they are."""

import os
import struct
import zlib
from typing import BinaryIO

__all__ = [
    "avif_with_exif",
    "has_profile",
    "is_apng",
    "jpeg_density",
    "jpeg_head",
    "png_density",
    "png_head",
    "webp_with_exif",
]


def _png_chunks(file: BinaryIO):
    """Names and contents of the chunks before the pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        yield head[4:], file.read(min(length, 64))
        file.seek(max(length - 64, 0) + 4, os.SEEK_CUR)


def png_density(file: BinaryIO) -> tuple[float, float] | None:
    """Pixels per inch as the pHYs chunk says, None where it does not."""
    content = dict(_png_chunks(file)).get(b"pHYs", b"")
    if len(content) != 9 or content[8] != 1:
        return None
    x, y = struct.unpack(">II", content[:8])
    return (_per_inch(x), _per_inch(y)) if x and y else None


def _per_inch(per_metre: int) -> float:
    """The whole number that would be written so, if there is one."""
    whole = round(per_metre * 0.0254)
    return float(whole) if round(whole / 0.0254) == per_metre else round(per_metre * 0.0254, 2)


def jpeg_density(file: BinaryIO) -> tuple[float, float] | None:
    """Pixels per inch as the JFIF segment says, None where it does not."""
    file.seek(0)
    head = file.read(18)
    if len(head) < 18 or head[6:11] != b"JFIF\0" or head[13] not in (1, 2):
        return None
    x, y = struct.unpack(">HH", head[14:18])
    unit = 1.0 if head[13] == 1 else 2.54
    return (round(x * unit, 2), round(y * unit, 2)) if x and y else None


def has_profile(file: BinaryIO) -> bool:
    """Whether a PNG has one, be it damaged."""
    return any(name == b"iCCP" for name, _ in _png_chunks(file))


def is_apng(file: BinaryIO) -> bool:
    """Whether a PNG is animated."""
    return any(name == b"acTL" for name, _ in _png_chunks(file))


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_head(head: bytes, block: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """What comes before the pixels, with our resolution and EXIF for libvips' own; None before it is all there."""
    at, kept = 8, [head[:8]]
    while len(head) >= at + 8:
        length, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name == b"IDAT":
            if dpi is not None:
                x, y = (round(side / 0.0254) for side in dpi)
                kept.append(_png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
            if block is not None:
                kept.append(_png_chunk(b"eXIf", block))
            return b"".join(kept) + head[at:]
        if name != b"pHYs":
            kept.append(head[at : at + length + 12])
        at += length + 12
    return None


def jpeg_head(head: bytes, block: bytes | None, dpi: tuple[float, float] | None, jfif: bool) -> bytes | None:
    """The first bytes with resolution (``jfif``: not for CMYK, which JFIF knows nothing of) and EXIF before all else."""
    if len(head) < 20:
        return None
    after = 20 if head[6:11] == b"JFIF\0" else 2
    x, y = (min(max(round(side), 1), 65535) for side in dpi or (1, 1))
    density = struct.pack(">4sH5sHBHHH", b"\xff\xd8\xff\xe0", 16, b"JFIF\0", 0x0102, dpi is not None, x, y, 0)
    segment = b"" if block is None else b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    return (density if jfif else head[:2]) + segment + head[after:]


def webp_with_exif(data: bytes, block: bytes | None, size: tuple[int, int], alpha: bool) -> bytes:
    """The RIFF file with an EXIF chunk behind its pixels, and the extended header that announces it."""
    if block is None:
        return data
    body = data[12:]
    if body[:4] == b"VP8X":
        body = body[:8] + bytes([body[8] | 8]) + body[9:]
    else:
        sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
        body = b"VP8X" + struct.pack("<II", 10, 8 | 16 * alpha) + sides + body
    body += b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def avif_with_exif(data: bytes, filler: bytes, block: bytes) -> bytes:
    """The file with a block in the place of one of at least its size that contains ``filler``.

    Its boxes count each other's bytes, so none may grow: what is left of the place is cut off by the item's own length, which
    stands behind its offset.

    Raises:
        ValueError: there is no such place.
    """
    end = data.find(filler) + len(filler)
    begin = data.rfind(b"Exif\0\0", 0, end) + 6
    # Four bytes say where in the item the block begins; the boxes before the pixels say: at this offset, one extent from its 0.
    item = struct.pack(">IHI", begin - 10, 1, 0) if begin >= 10 else b""
    length = data.find(item, data.find(b"iloc")) + len(item)
    if not item or end < len(filler) or end - begin < len(block) or not len(item) <= length < begin:
        raise ValueError("no place for its EXIF")
    count = struct.pack(">I", len(block) + 10)
    return data[:length] + count + data[length + 4 : begin] + block + bytes(end - begin - len(block)) + data[end:]
