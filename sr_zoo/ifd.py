"""Directories of an EXIF block or a TIFF file, which is made of the same, as they are read: tags and where their values lie.

Source: EXIF 2.32 (CIPA DC-008), TIFF 6.0 and the BigTIFF design.
"""

import struct
from fractions import Fraction
from typing import NamedTuple

__all__ = [
    "LONG",
    "LONG8",
    "ORIENTATION",
    "RATIONAL",
    "RESOLUTION_UNIT",
    "SHORT",
    "SIZES",
    "X_RESOLUTION",
    "Y_RESOLUTION",
    "Block",
]

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
# Bytes of one value.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
NUMBERS = {1: "B", SHORT: "H", LONG: "I", 13: "I", LONG8: "Q", 18: "Q"}


class Entry(NamedTuple):
    """A tag's type, its number of values, and where they lie."""

    kind: int
    count: int
    at: int


class Block:
    """The directories of an EXIF block or TIFF file.

    Args:
        data: bytes, bytearray or a mapped file.

    Raises:
        ValueError: there is no TIFF header; :meth:`entries` also where a directory lies outside the data.
    """

    def __init__(self, data):
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
        magic = self.unpack("H", 2) if self.order and len(data) >= 8 else None
        if magic not in (42, 43):
            raise ValueError("no TIFF header")
        self.big = magic == 43
        self.offset, self.number, self.inline = ("Q", "Q", 8) if self.big else ("I", "H", 4)
        self.pointer = 8 if self.big else 4
        self.first = self.unpack(self.offset, self.pointer)

    def unpack(self, letter: str, at: int) -> int:
        try:
            return struct.unpack_from(self.order + letter, self.data, at)[0]
        except struct.error:
            raise ValueError("a directory lies outside the data") from None

    def entries(self, at: int) -> dict[int, Entry]:
        """The entries of the directory at an offset; those of unknown type, or outside the data, are left out."""
        found, head = {}, struct.calcsize("=" + self.number)
        for place in range(at + head, self.end(at), 2 * self.inline + 4):
            tag, kind = self.unpack("H", place), self.unpack("H", place + 2)
            count = self.unpack(self.offset, place + 4)
            value, size = place + 4 + self.inline, SIZES.get(kind, 0) * count
            where = value if size <= self.inline else self.unpack(self.offset, value)
            if size and where + size <= len(self.data):
                found[tag] = Entry(kind, count, where)
        return found

    def end(self, at: int) -> int:
        """Where the entries of the directory at an offset end."""
        head = struct.calcsize("=" + self.number)
        end = at + head + self.unpack(self.number, at) * (2 * self.inline + 4)
        if not 8 <= at < len(self.data) or end > len(self.data):
            raise ValueError("a directory lies outside the data")
        return end

    def following(self, at: int) -> int:
        """Where the next directory lies, 0 for none."""
        return self.unpack(self.offset, self.end(at))

    def page(self, number: int) -> int:
        """Where the directory of a page lies."""
        at = self.first
        for _ in range(number):
            at = self.following(at)
        return at

    def numbers(self, entry: Entry | None) -> list:
        """Integers, or fractions for rationals; none where the tag is missing or of another type."""
        if entry is None or entry.count > 64:
            return []
        if entry.kind == RATIONAL:
            pairs = struct.unpack_from(f"{self.order}{2 * entry.count}I", self.data, entry.at)
            return [Fraction(a, b) for a, b in zip(pairs[::2], pairs[1::2]) if b]
        if entry.kind not in NUMBERS:
            return []
        return list(struct.unpack_from(f"{self.order}{entry.count}{NUMBERS[entry.kind]}", self.data, entry.at))

    def bytes(self, entry: Entry) -> bytes:
        return bytes(self.data[entry.at : entry.at + SIZES[entry.kind] * entry.count])

    def orientation(self, at: int) -> int:
        """1…8 as in EXIF; 1, upright, where nothing is said."""
        said = self.numbers(self.entries(at).get(ORIENTATION))
        return said[0] if said and 1 <= said[0] <= 8 else 1

    def dpi(self, at: int) -> tuple[float, float] | None:
        """Pixels per inch horizontally and vertically, None where not said."""
        tags = self.entries(at)
        sides = [self.numbers(tags.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION)]
        unit = {2: 1.0, 3: 2.54}.get((self.numbers(tags.get(RESOLUTION_UNIT)) or [2])[0])
        if unit is None or not all(sides):
            return None
        return round(float(sides[0][0]) * unit, 4), round(float(sides[1][0]) * unit, 4)
