"""Every kind of file that Pillow reads becomes RGB; what is none is said in one line; writing is whole or not at all."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from sr_zoo.picture import PictureError, find_pictures, named_errors, open_picture, read_picture, write_picture


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_round_trip(suffix, tmp_path, picture):
    path = tmp_path / f"new/p.{suffix}"
    write_picture(path, picture)
    assert np.array_equal(read_picture(path), picture)
    write_picture(path, picture[..., 0])
    grey = read_picture(path, keep_grey=True)
    assert np.array_equal(grey if grey.ndim == 2 else grey[..., 0], picture[..., 0])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["jpg", "avif"])
def test_lossy_formats_are_read(suffix, tmp_path, picture):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    smooth = np.kron(picture[::8, ::8], np.ones((8, 8, 1), np.uint8))
    read = read_picture(save(tmp_path / f"p.{suffix}", smooth, quality=95, subsampling="4:4:4"))
    assert read.shape == smooth.shape and np.abs(read.astype(int) - smooth).mean() < 12


def test_modes(tmp_path, picture):
    grey16 = picture[..., 0].astype(np.uint16) * 257
    assert np.array_equal(read_picture(save(tmp_path / "16.png", grey16), keep_grey=True), picture[..., 0])
    assert np.array_equal(read_picture(save(tmp_path / "16.tif", grey16))[..., 2], picture[..., 0])
    assert np.abs(read_picture(save(tmp_path / "c.tif", picture, "CMYK")).astype(int) - picture).max() <= 1
    palette = read_picture(save(tmp_path / "p.png", picture, "P"))
    assert np.abs(palette.astype(int) - picture).mean() < 40
    assert read_picture(save(tmp_path / "1.png", picture[..., 0] > 128)).max() == 255
    assert read_picture(save(tmp_path / "l.png", picture[..., 0])).shape == picture.shape


def test_transparency_lies_over_white(tmp_path, picture):
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    rgba[:9, :, 3] = 0
    read = read_picture(save(tmp_path / "a.png", rgba))
    assert (read[:9] == 255).all() and np.array_equal(read[9:], picture[9:])


def test_exif_orientation_is_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    path = save(tmp_path / "r.png", picture, exif=exif)
    assert np.array_equal(read_picture(path), np.rot90(picture, -1))


def damaged(tmp_path, picture):
    png, jpeg = tmp_path / "whole.png", tmp_path / "whole.jpg"
    Image.fromarray(picture).save(png)
    Image.fromarray(picture).save(jpeg)
    chunk = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + chunk
        + struct.pack(">I", zlib.crc32(b"IHDR" + chunk))
        + struct.pack(">I", 64)
        + b"IDAT"
    )
    contents = {
        "text.png": b"this is not a picture\n", "cut.png": png.read_bytes()[:900], "short.jpg": jpeg.read_bytes()[:700],
        "empty.png": b"", "bomb.png": bomb + bytes(64),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "folder.png").mkdir()
    return {
        "text.png": "not a picture", "cut.png": "truncated", "short.jpg": "truncated", "empty.png": "empty",
        "bomb.png": "bombs", "float.tif": "floating-point", "folder.png": "directory", "missing.png": "no such file",
    }  # fmt: skip


def test_what_is_no_picture_is_named(tmp_path, picture):
    for name, reason in damaged(tmp_path, picture).items():
        with pytest.raises(PictureError) as error:
            read_picture(tmp_path / name)
        text = str(error.value)
        assert name in text and reason in text and "\n" not in text


def test_writing_fails_whole(tmp_path, picture):
    with pytest.raises(PictureError, match="losslessly"):
        write_picture(tmp_path / "p.jpg", picture)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PictureError, match="cannot be written"):
        write_picture(tmp_path / "file" / "p.png", picture)
    target = tmp_path / "p.png"
    target.write_bytes(b"old")
    with pytest.raises(PictureError):
        write_picture(target, picture[:0])
    assert target.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["file", "p.png"]


def test_find_pictures(folder):
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    assert [p.name for p in find_pictures(folder)] == ["a.png", "b.bmp", "c.png"]
    with pytest.raises(PictureError, match="no such folder"):
        find_pictures(folder / "nowhere")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_stays_grey_with_and_without_transparency(mode, tmp_path, picture):
    grey = picture[..., 0]
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "p.png")
    else:
        Image.fromarray(grey).convert(mode).save(tmp_path / "p.png")
    read = read_picture(tmp_path / "p.png", keep_grey=True)
    assert read.shape == grey.shape and (mode == "1" or np.array_equal(read, grey))


def test_a_name_or_a_picture_that_is_too_much_is_named(tmp_path, picture, monkeypatch):
    with pytest.raises(PictureError, match="n.png: damaged|n.png: .*name too long"):
        read_picture(tmp_path / ("n" * 300 + ".png"))

    def full(*_):
        raise MemoryError

    path = save(tmp_path / "p.png", picture)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(PictureError, match="p.png: not enough memory"):
        read_picture(path)


@pytest.mark.parametrize(
    "error, told",
    [
        (FileNotFoundError(2, "No such file or directory"), "no such file"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (MemoryError(), "not enough memory to decode it"),
        (OSError(40, "Too many levels of symbolic links"), "Too many levels of symbolic links"),
        (OSError("broken data stream"), "damaged or truncated (broken data stream)"),
        (struct.error("unpack requires 4 bytes"), "damaged or truncated (unpack requires 4 bytes)"),
        (PictureError("is empty"), "is empty"),
        (PictureError("a.png: is empty"), "is empty"),
    ],
)
def test_whatever_goes_wrong_with_a_file_is_one_line_that_names_it(error, told):
    with pytest.raises(PictureError) as raised, named_errors("a.png"):
        raise error
    assert str(raised.value) == f"a.png: {told}"


def test_few_colours_of_a_gif_are_not_told_as_few_bits(tmp_path):
    Image.fromarray(np.uint8([[0, 255], [255, 0]])).convert("RGB").quantize(2).save(tmp_path / "few.gif")
    assert not any("bit" in note for note in open_picture(tmp_path / "few.gif").notes)
