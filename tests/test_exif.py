"""EXIF is edited where it is: nothing moves or changes that should not, whatever the byte order."""

import struct

import numpy as np
import pytest
from PIL import Image

from sr_zoo import exif
from sr_zoo.picture import Picture, open_picture, save_picture
from tests.kinds import MAKER_NOTE, read_back
from tests.kinds import exif as written

ORDERS = pytest.mark.parametrize("orientation", [5, 6], ids=["little-endian", "big-endian"])
THUMBNAIL = b"\xff\xd8 a small picture of what was cut away \xff\xd9"


def with_thumbnail(orientation: int) -> bytes:
    block = bytearray(written(orientation, (70, 30), (72.0, 72.0)).tobytes()[6:])
    order = "<" if block[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", block, 4)[0]
    struct.pack_into(order + "I", block, first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0], len(block))
    at = len(block) + 2 + 24 + 4
    entries = struct.pack(order + "HHIIHHIII", 0x0201, 4, 1, at, 0x0202, 4, 1, len(THUMBNAIL), 0)
    return bytes(block) + struct.pack(order + "H", 2) + entries + THUMBNAIL


def tags(block: bytes) -> dict:
    parsed = Image.Exif()
    parsed.load(b"Exif\0\0" + block)
    return {**parsed, **parsed.get_ifd(0x8769), **{("gps", tag): value for tag, value in parsed.get_ifd(0x8825).items()}}


@ORDERS
def test_what_is_not_edited_keeps_its_place(orientation):
    block = with_thumbnail(orientation)
    new = exif.edited(block, {exif.ORIENTATION: None})
    before, after = tags(block), tags(new)
    assert 0x0112 not in after and before.pop(0x0112) == orientation
    assert before == after and 0x0201 not in after
    assert new.index(MAKER_NOTE) == block.index(MAKER_NOTE)
    assert THUMBNAIL in block and THUMBNAIL not in new and len(new) < len(block)


@ORDERS
def test_sizes_and_resolution_follow_the_picture(orientation):
    block = written(orientation, (70, 30), (72.0, 72.0)).tobytes()[6:]
    after = tags(exif.prepared(block, (280, 70000), (300.0, 1187.5), own=False))
    assert (after[0xA002], after[0xA003], after[0x0112]) == (280, 70000, 1)
    assert (after[0x011A], after[0x011B], after[0x0128]) == (300, 1187.5, 2)
    none = tags(exif.prepared(block, (280, 70000), None, own=True))
    assert not {0x011A, 0x011B, 0x0128} & set(none)
    changed = {0xA002, 0xA003, 0x0112, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825}
    assert {t: v for t, v in none.items() if t not in changed} == {t: v for t, v in tags(block).items() if t not in changed}


def test_a_block_is_made_only_where_it_is_the_only_place():
    assert exif.prepared(None, (4, 4), (300.0, 300.0), own=False) is None
    assert exif.prepared(None, (4, 4), None, own=True) is None
    assert tags(exif.prepared(None, (4, 4), (300.0, 299.99), own=True)) == {0x011A: 300, 0x011B: 299.99, 0x0128: 2}


def test_editing_twice_changes_nothing_more():
    block = exif.prepared(written(1, (70, 30)).tobytes()[6:], (280, 120), (300.0, 300.0), own=True)
    assert exif.prepared(block, (280, 120), (300.0, 300.0), own=True) == block


def test_damaged_blocks_raise_or_are_edited_but_never_more():
    """Any byte may be wrong: there is no other exception, no endless loop, and what comes out is not much larger."""
    block, random = with_thumbnail(6), np.random.default_rng(0)
    raised = 0
    for _ in range(3000):
        data = np.frombuffer(block, np.uint8).copy()
        data[random.integers(0, 120, 3)] = random.integers(0, 256, 3)
        data = data.tobytes()[: random.integers(1, len(block))]
        try:
            source = exif.Block(data)
            source.dpi(source.first), source.orientation(source.first)
            assert len(exif.edited(data, {exif.ORIENTATION: None})) <= len(data) + 2000
            exif.from_tiff(source, source.first)
        except ValueError:
            raised += 1
    assert 300 < raised < 2900


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".jpg"])
@ORDERS
def test_saved_and_opened_again_in_every_container(suffix, orientation, tmp_path):
    """Letters beyond ASCII, maker's note, place: as others read them, and as we do."""
    colours = np.random.default_rng(0).integers(0, 256, (30, 70, 3), np.uint8)
    block = exif.edited(written(orientation, (70, 30)).tobytes()[6:], {exif.ORIENTATION: None})
    save_picture(tmp_path / f"p{suffix}", Picture(colours, exif=block, dpi=(300.0, 150.5)))
    read = read_back(tmp_path / f"p{suffix}")
    Image.fromarray(colours).save(tmp_path / "other.png", exif=b"Exif\0\0" + block)
    own = {0x011A, 0x011B, 0x0128, 0xA005}
    said, expected = ({k: v for k, v in r[3].items() if k[1] not in own} for r in (read, read_back(tmp_path / "other.png")))
    assert said == expected and len(said) > 15
    assert read[4] == pytest.approx((300, 150.5), abs=0.5 if suffix == ".jpg" else 0.1)
    again = open_picture(tmp_path / f"p{suffix}")
    assert again.dpi == ((300.0, 150.0) if suffix == ".jpg" else pytest.approx((300.0, 150.5), abs=0.02)) and not again.notes
    save_picture(tmp_path / f"q{suffix}", again)
    assert open_picture(tmp_path / f"q{suffix}").exif == again.exif


def test_a_block_that_is_too_large_is_left_out_and_said(tmp_path):
    from sr_zoo.picture import losses

    for size in (40000, 80000):
        parsed = written(1, (4, 4))
        parsed.get_ifd(0x8769)[0x927C] = bytes(range(250)) * (size // 250)
        picture = Picture(np.zeros((4, 4, 3), np.uint8), exif=parsed.tobytes()[6:])
        for suffix in (".png", ".tif", ".webp", ".avif", ".jpg"):
            save_picture(tmp_path / f"p{suffix}", picture)
            kept = size == 40000 or suffix in (".png", ".tif", ".webp")
            assert (("photo", 0x927C) in read_back(tmp_path / f"p{suffix}")[3]) == kept
            assert ("no EXIF" in (losses(suffix, picture) or "")) != kept


def test_values_that_overlap_do_not_multiply():
    """Each of a thousand entries may say that it is as long as the whole block."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + i, 7, 12000, 0) for i in range(1000))
    block = b"II*\0" + struct.pack("<IH HHII I", 8, 1, 0x8769, 4, 1, 26, 0) + struct.pack("<H", 1000) + entries + bytes(4)
    source = exif.Block(block)
    assert len(source.entries(26)) == 1000
    assert len(exif.from_tiff(source, source.first) or b"") < 2 * len(block)
