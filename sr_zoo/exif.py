"""EXIF blocks, edited in place: what is not meant to change keeps its bytes and its offset.

A block begins at its TIFF header, without the ``Exif\\0\\0`` of JPEG. Pillow and libexif take a block apart and write another,
which costs letters beyond ASCII, types of tags and maker notes, whose own offsets count from the block's beginning. The same
directories make up a TIFF file, so that these functions also read and extend one.

Source: EXIF 2.32 (CIPA DC-008), TIFF 6.0 and the BigTIFF design.
"""

import contextlib
import struct
from fractions import Fraction

from sr_zoo.ifd import LONG, LONG8, ORIENTATION, RATIONAL, RESOLUTION_UNIT, SHORT, SIZES, X_RESOLUTION, Y_RESOLUTION, Block

__all__ = ["DESCRIPTIVE", "Block", "check", "edited", "from_tiff", "into_tiff", "minimal", "prepared", "without_prefix"]

WIDTH, HEIGHT, PIXEL_X, PIXEL_Y = 0x0100, 0x0101, 0xA002, 0xA003
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
# What a TIFF's first directory says of the picture rather than of how its pixels are stored: name, description, maker,
# model, page, software, date, artist, host, rating, copyright, Windows' titles; and the two directories below it.
DESCRIPTIVE = {
    0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298,
    0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, EXIF_IFD, GPS_IFD,
}  # fmt: skip
# Bytes of what turns around where the byte order changes: a rational is two numbers.
UNITS = {**SIZES, 5: 4, 10: 4}


def without_prefix(block: bytes) -> bytes:
    return block[6:] if block[:6] == b"Exif\0\0" else block


def edited(block: bytes, main: dict, photo: dict | None = None) -> bytes:
    """The block with tags of its first directory, and of the one on the photograph, set or (None) removed; no thumbnail.

    Args:
        main, photo: tag → ``(type, values)`` or None.

    Raises:
        ValueError: the block is damaged.
    """
    data = bytearray(block)
    source = Block(data)
    if source.big:
        raise ValueError("a BigTIFF header")
    # Blocks that end after their entries, without saying that no directory follows, are common enough.
    if source.end(source.first) + 4 > len(data):
        data.extend(bytes(4))
    _drop_thumbnail(source, source.following(source.first))
    entries = source.entries(source.first)
    if photo and EXIF_IFD in entries:
        below = source.numbers(entries[EXIF_IFD])[0]
        known = source.entries(below)
        photo = {tag: value for tag, value in photo.items() if tag in known}
        if photo:
            main = {**main, EXIF_IFD: (LONG, [_replaced(source, below, photo)])}
    struct.pack_into(source.order + "I", data, 4, _replaced(source, source.first, main))
    return bytes(data)


def prepared(block: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None, own: bool) -> bytes | None:
    """The block as it is written beside a picture of ``size`` and ``dpi``.

    Args:
        own: whether the block is the only place for the resolution: then one is made where there is none.
    """
    if block is None:
        if dpi is None or not own:
            return None
        block = minimal()
    tags = {WIDTH: (LONG, [size[0]]), HEIGHT: (LONG, [size[1]]), ORIENTATION: (SHORT, [1])}
    source = Block(block)
    known = source.entries(source.first)
    tags |= dict.fromkeys((X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)) | _resolution(dpi)
    add = {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT} if own or X_RESOLUTION in known else set()
    main = {tag: value for tag, value in tags.items() if tag in known or tag in add}
    return edited(block, main, {PIXEL_X: (LONG, [size[0]]), PIXEL_Y: (LONG, [size[1]])})


def check(block: bytes) -> None:
    """Whether the block can be edited and read.

    Raises:
        ValueError: it is damaged.
    """
    source = Block(prepared(block, (1, 1), (72.0, 72.0), own=True))
    _tree(source, source.first, source.order, DESCRIPTIVE)


def minimal() -> bytes:
    """A block that says nothing."""
    return b"II*\0" + struct.pack("<IHI", 8, 0, 0)


def from_tiff(source: Block, at: int) -> bytes | None:
    """What the TIFF directory at an offset says of the picture, as a block of the same byte order; None if nothing.

    Raises:
        ValueError: the directory is damaged.
    """
    tree = _tree(source, at, source.order, DESCRIPTIVE)
    if not tree:
        return None
    head = b"II*\0" if source.order == "<" else b"MM\0*"
    return head + struct.pack(source.order + "I", 8) + _laid_out(tree, source.order, False, 8)


def into_tiff(file, block: bytes | None, dpi: tuple[float, float] | None) -> None:
    """Give a TIFF file, open for reading and writing, the descriptive tags of a block and a resolution (None removes it).

    A new first directory is appended, with all that the old one says of the pixels.

    Raises:
        ValueError: the file or block is damaged.
    """
    import mmap

    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        target = Block(data)
        tree, length = _tree(target, target.first, target.order), len(data)
    for tag, value in (dict.fromkeys((X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)) | _resolution(dpi)).items():
        tree.pop(tag, None)
        if value is not None:
            tree[tag] = (value[0], _packed(target.order, *value))
    if block is not None:
        source = Block(block)
        tree |= _tree(source, source.first, target.order, DESCRIPTIVE)
    at = length + length % 2
    file.seek(length)
    file.write(bytes(at - length) + _laid_out(tree, target.order, target.big, at))
    file.seek(target.pointer)
    file.write(struct.pack(target.order + target.offset, at))


def _resolution(dpi: tuple[float, float] | None) -> dict:
    if dpi is None:
        return {}
    x, y = (Fraction(side).limit_denominator(10000) for side in dpi)
    return {
        X_RESOLUTION: (RATIONAL, [x.numerator, x.denominator]), Y_RESOLUTION: (RATIONAL, [y.numerator, y.denominator]),
        RESOLUTION_UNIT: (SHORT, [2]),
    }  # fmt: skip


def _packed(order: str, kind: int, values: list[int]) -> bytes:
    return struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)


def _drop_thumbnail(source: Block, at: int) -> None:
    if not at:
        return
    try:
        tags = source.entries(at)
        begin, length = (source.numbers(tags.get(tag)) for tag in (THUMBNAIL, THUMBNAIL_LENGTH))
    except ValueError:
        return
    if begin and length and 8 <= begin[0] < begin[0] + length[0] <= len(source.data):
        source.data[begin[0] : begin[0] + length[0]] = bytes(length[0])
        if begin[0] + length[0] == len(source.data):
            del source.data[begin[0] :]


def _replaced(source: Block, at: int, changes: dict) -> int:
    """Where the directory lies after its entries were changed: where it was, or at the block's end if it grew."""
    data, order, end = source.data, source.order, source.end(at)
    known = source.entries(at)
    raw = {source.unpack("H", i): bytes(data[i : i + 12]) for i in range(at + 2, end, 12)}
    for tag, value in changes.items():
        if value is None:
            raw.pop(tag, None)
            continue
        packed = _packed(order, *value)
        count = len(packed) // SIZES[value[0]]
        if len(packed) <= 4:
            raw[tag] = struct.pack(order + "HHI", tag, value[0], count) + packed.ljust(4, b"\0")
        elif tag in known and known[tag][:2] == (value[0], count):
            data[known[tag].at : known[tag].at + len(packed)] = packed
        else:
            data.extend(bytes(len(data) % 2))
            raw[tag] = struct.pack(order + "HHII", tag, value[0], count, len(data))
            data.extend(packed)
    body = struct.pack(order + "H", len(raw)) + b"".join(raw[tag] for tag in sorted(raw)) + bytes(4)
    if len(body) > end + 4 - at:
        data.extend(bytes(len(data) % 2))
        at = len(data)
    data[at : at + len(body)] = body
    return at


def _tree(source: Block, at: int, order: str, only: set | None = None, below: tuple = (EXIF_IFD, GPS_IFD)) -> dict:
    """A directory as tag → (type, bytes in ``order``), directories below it as tag → such a tree."""
    tree, total = {}, 0
    for tag, entry in source.entries(at).items():
        if only is not None and tag not in only:
            continue
        if tag in below:
            with contextlib.suppress(ValueError, IndexError):
                tree[tag] = _tree(source, source.numbers(entry)[0], order, None, (INTEROP_IFD,) if tag == EXIF_IFD else ())
            continue
        data, unit = source.bytes(entry), UNITS[entry.kind]
        total += len(data)
        if total > len(source.data):
            raise ValueError("a directory's values overlap")
        if order != source.order and unit > 1:
            data = b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))
        tree[tag] = entry.kind, data
    return tree


def _laid_out(tree: dict, order: str, big: bool, at: int) -> bytes:
    """A directory with all that it points to, as it lies at offset ``at``."""
    offset, number, inline = ("Q", "Q", 8) if big else ("I", "H", 4)
    head = struct.pack(order + number, len(tree))
    behind = at + len(head) + len(tree) * (2 * inline + 4) + inline
    extra = bytearray()
    for tag in sorted(tree):
        if isinstance(tree[tag], dict):
            extra.extend(bytes((behind + len(extra)) % 2))
            kind, data = (LONG8, struct.pack(order + "Q", behind + len(extra))) if big else (
                LONG, struct.pack(order + "I", behind + len(extra)))  # fmt: skip
            extra.extend(_laid_out(tree[tag], order, big, behind + len(extra)))
        else:
            kind, data = tree[tag]
        head += struct.pack(order + "HH" + offset, tag, kind, len(data) // SIZES[kind])
        if len(data) <= inline:
            head += data.ljust(inline, b"\0")
        else:
            extra.extend(bytes((behind + len(extra)) % 2))
            head += struct.pack(order + offset, behind + len(extra))
            extra.extend(data)
    return bytes(head + bytes(inline) + extra)
