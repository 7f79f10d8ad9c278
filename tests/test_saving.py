"""What a container loses is said before and nothing else is lost; frames, depths and options come out as asked."""

import gc
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from sr_zoo import encoding
from sr_zoo.picture import Picture, PictureError, count_frames, losses, open_picture, save_picture, suffix_for
from tests.kinds import exif, profile, read_back


def make(channels: int = 3, bits: int = 8, alpha: bool = False, **rest) -> Picture:
    random = np.random.default_rng(3)
    dtype, peak = (np.uint8, 255) if bits == 8 else (np.uint16, 65535)
    colours = random.integers(0, peak + 1, (24, 36, channels)).astype(dtype)
    return Picture(colours, random.integers(0, peak + 1, (24, 36)).astype(dtype) if alpha else None, **rest)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_losses_are_all_that_is_lost(suffix, channels, bits, alpha, tmp_path):
    picture = make(channels, bits, alpha)
    lost = losses(suffix, picture)
    if alpha and suffix in (".jpg", ".bmp"):
        with pytest.raises(PictureError, match="holds no transparency; use .png, .tif, .tiff, .webp, .avif$"):
            save_picture(tmp_path / f"p{suffix}", picture)
        return
    save_picture(tmp_path / f"p{suffix}", picture)
    colours, read_alpha = read_back(tmp_path / f"p{suffix}")[:2]
    if channels == 1 and suffix in (".webp", ".avif"):
        assert (colours[..., 1:] == colours[..., :1]).all()
        colours = colours[..., :1]
    if suffix == ".avif" and bits == 16:
        colours, read_alpha = open_picture(tmp_path / f"p{suffix}").colours, None
    kept = colours.dtype == picture.colours.dtype and np.array_equal(colours, picture.colours)
    kept = kept and (read_alpha is None or np.array_equal(read_alpha, picture.alpha))
    assert kept == (lost is None), lost
    expected = [
        ("lossy", suffix == ".jpg"), ("holds no CMYK, which becomes sRGB", channels == 4 and suffix not in (".tif", ".jpg")),
        (f"holds {12 if suffix == '.avif' else 8} of 16 bits", bits == 16 and suffix not in (".png", ".tif")),
    ]  # fmt: skip
    assert [(text, text in (lost or "")) for text, _ in expected] == expected


def test_bits_are_rounded_not_cut(tmp_path):
    """Every one of the 65536 values, to 8 bits and to 12 and back."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    picture = Picture(values)
    save_picture(tmp_path / "p.bmp", picture)
    assert np.array_equal(open_picture(tmp_path / "p.bmp").colours[..., 0], np.round(values[..., 0] / 257))
    save_picture(tmp_path / "p.avif", picture)
    read = open_picture(tmp_path / "p.avif")
    assert read.colours.dtype == np.uint16 and read.notes == ("its 12-bit samples became 16-bit ones",)
    assert np.abs(read.colours[..., 0].astype(int) - values[..., 0]).max() <= 9
    levels = np.round(np.arange(4096) * (65535 / 4095))
    assert np.array_equal(np.unique(read.colours), levels)
    save_picture(tmp_path / "q.avif", read)
    assert np.array_equal(open_picture(tmp_path / "q.avif").colours, read.colours)


def test_cmyk_becomes_srgb_through_its_profile(tmp_path):
    """Black ink is dark and none is light, with a profile and without; with one, as Little CMS converts it."""
    from PIL import ImageCms

    ink = np.zeros((4, 4, 4), np.uint8)
    ink[:2, :, 3] = 255
    for icc in (None, profile(4)):
        save_picture(tmp_path / "p.png", Picture(ink, icc=icc))
        read = open_picture(tmp_path / "p.png")
        assert read.icc is not None and read.colours[:2].max() < 90 and read.colours[2:].min() > 200
    by_lcms = ImageCms.profileToProfile(
        Image.fromarray(ink, "CMYK"), ImageCms.ImageCmsProfile(io.BytesIO(profile(4))), ImageCms.createProfile("sRGB"),
        outputMode="RGB", renderingIntent=1,
    )  # fmt: skip
    assert np.abs(np.asarray(by_lcms).astype(int) - read.colours).max() <= 3


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".jpg"])
def test_quality_trades_size_for_accuracy(suffix, tmp_path, picture):
    colours, sizes, errors = np.tile(picture, (3, 3, 1)), [], []
    for quality in (20, 60, 95):
        assert "lossy" in losses(suffix, Picture(colours), quality)
        save_picture(tmp_path / f"p{suffix}", Picture(colours), quality)
        sizes.append((tmp_path / f"p{suffix}").stat().st_size)
        errors.append(np.square(open_picture(tmp_path / f"p{suffix}").colours - colours.astype(float)).mean())
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    save_picture(tmp_path / f"p{suffix}", Picture(colours))
    error = np.square(open_picture(tmp_path / f"p{suffix}").colours - colours.astype(float)).mean()
    assert error == errors[2] if suffix == ".jpg" else error == 0


def test_jpeg_colours_are_not_subsampled(tmp_path):
    save_picture(tmp_path / "p.jpg", make())
    with Image.open(tmp_path / "p.jpg") as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize(
    "name, size, quality, message",
    [
        ("p.gif", (4, 4), None, "cannot save as .gif; use .png, .tif"), ("p", (4, 4), None, "a file without suffix"),
        ("p.png", (4, 4), 90, "always lossless"), ("p.jpg", (4, 4), 0, "quality 0 is not in 1…100"),
        ("p.webp", (4, 16384), None, "WebP holds at most 16383 pixels a side, the picture has 16384×4; use .png or .tif"),
        ("p.png", (0, 4), None, "expected uint8 or uint16"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_before(name, size, quality, message, tmp_path):
    with pytest.raises(PictureError) as error:
        save_picture(tmp_path / name, Picture(np.zeros((*size, 3), np.uint8)), quality)
    assert str(error.value).startswith(f"{tmp_path / name}: ") and message in str(error.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PictureError, match="alpha is uint8"):
        save_picture(tmp_path / "p.png", Picture(np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4), np.uint8)))


def test_tiff_beyond_4_gb_has_all_that_a_small_one_has(tmp_path, monkeypatch):
    """The threshold is lowered; the tags go into directories of 64-bit offsets."""
    monkeypatch.setattr(encoding, "BIG_TIFF_BYTES", 100)
    picture = make(3, 8, True, icc=profile(3), exif=exif(6, (9, 9)).tobytes()[6:], dpi=(300.0, 200.0))
    save_picture(tmp_path / "p.tif", picture)
    with tifffile.TiffFile(tmp_path / "p.tif") as file:
        assert file.is_bigtiff and file.pages[0].predictor == 2 and len(file.pages) == 1
    colours, alpha, icc, tags, dpi = read_back(tmp_path / "p.tif")
    assert np.array_equal(colours, picture.colours) and np.array_equal(alpha, picture.alpha)
    assert icc == picture.icc and dpi == picture.dpi and tags["main", 0x010F].startswith("Camera")
    assert tags["gps", 1] == "N" and tags["photo", 0x8827] == 400
    assert open_picture(tmp_path / "p.tif").dpi == picture.dpi


def test_views_and_read_only_arrays_are_saved(tmp_path):
    picture = make(alpha=True)
    picture.colours.flags.writeable = False
    view = Picture(picture.colours[::-2, ::3], picture.alpha[::-2, ::3])
    save_picture(tmp_path / "p.png", view)
    colours, alpha = read_back(tmp_path / "p.png")[:2]
    assert np.array_equal(colours, view.colours) and np.array_equal(alpha, view.alpha)


def frames_of(suffix: str, path) -> list[np.ndarray]:
    frames = [np.roll(make().colours, 5 * i, 0) // 128 * 255 for i in range(3)]
    options = {"lossless": True} if suffix == ".webp" else {}
    first, *others = [Image.fromarray(f) for f in frames]
    first.save(path, save_all=True, append_images=others, **options)
    return frames


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_any_frame_can_be_had(suffix, tmp_path):
    path = tmp_path / f"p{suffix}"
    frames = frames_of(suffix, path)
    assert count_frames(path) == 3
    for i, frame in enumerate(frames):
        read = open_picture(path, frame=i)
        assert np.array_equal(read.colours, frame) and not any("frame" in note for note in read.notes)
    # The first picture of an animated PNG is one by itself.
    assert open_picture(path).notes[:1] == (() if suffix == ".png" else ("frame 1 of 3",))
    for missing in (3, -1):
        with pytest.raises(PictureError, match=f"has 3 frames, counted from 0; there is no frame {missing}"):
            open_picture(path, frame=missing)


def test_plain_pictures_have_one_frame(tmp_path):
    for suffix in (".png", ".jpg", ".tif", ".webp", ".avif", ".bmp"):
        save_picture(tmp_path / f"p{suffix}", make())
        assert count_frames(tmp_path / f"p{suffix}") == 1
    with pytest.raises(PictureError, match="no such file"):
        count_frames(tmp_path / "q.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(orientation, tmp_path, picture):
    """Pillow writes the turn into AVIF's own boxes; EXIF beside them must not turn the picture again."""
    Image.fromarray(picture).save(tmp_path / "p.avif", quality=100, subsampling="4:4:4", exif=exif(orientation, (56, 40)))
    with Image.open(tmp_path / "p.avif") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.abs(open_picture(tmp_path / "p.avif").colours.astype(int) - expected).max() <= 1


def test_exif_in_avif_turns_nothing(tmp_path, picture):
    """HEIF says so: only its own boxes turn. Pillow moves the tag there, so it is written under another number."""
    block = exif(1, (56, 40))
    block[0x0113] = 6
    del block[0x0112]
    path = tmp_path / "p.avif"
    Image.fromarray(picture).save(path, quality=100, subsampling="4:4:4", exif=block)
    before = open_picture(path).colours
    data, tag = path.read_bytes(), b"\x13\x01\x03\0\1\0\0\0\6"
    assert data.count(tag) == 1 and before.shape == picture.shape
    path.write_bytes(data.replace(tag, b"\x12" + tag[1:]))
    assert np.array_equal(open_picture(path).colours, before)


def test_animated_png_is_turned_too(tmp_path):
    frames = frames_of(".png", tmp_path / "p.png")
    turned = [Image.fromarray(np.rot90(frame)) for frame in frames]
    turned[0].save(tmp_path / "p.png", save_all=True, append_images=turned[1:], exif=exif(6, (24, 36)))
    for i, frame in enumerate(frames):
        assert np.array_equal(open_picture(tmp_path / "p.png", frame=i).colours, frame)


def test_whole_numbers_of_pixels_per_inch_stay_whole(tmp_path):
    for dpi in ((72, 300), (96, 150), (600, 1), (2400, 1200), (123, 7)):
        for suffix in (".png", ".tif", ".jpg", ".webp"):
            save_picture(tmp_path / f"p{suffix}", make(dpi=dpi))
            assert open_picture(tmp_path / f"p{suffix}").dpi == dpi


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".jpg", ".bmp"])
def test_no_resolution_is_made_up(suffix, tmp_path):
    save_picture(tmp_path / f"p{suffix}", make())
    assert open_picture(tmp_path / f"p{suffix}").dpi is None
    assert read_back(tmp_path / f"p{suffix}")[4] in (None, (1, 1) if suffix == ".jpg" else None)


def test_webp_announces_what_it_holds(tmp_path):
    """Transparency 16, EXIF 8, profile 32: the extended header's flags."""
    for alpha, icc, flags in ((True, None, 24), (False, None, 8), (True, profile(3), 56)):
        save_picture(tmp_path / "p.webp", make(alpha=alpha, icc=icc, dpi=(300.0, 300.0)))
        head = (tmp_path / "p.webp").read_bytes()[:21]
        assert head[12:16] == b"VP8X" and head[20] == flags


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted on Linux")
def test_files_are_closed(tmp_path):
    save_picture(tmp_path / "p.tif", make())
    (tmp_path / "bad.tif").write_bytes((tmp_path / "p.tif").read_bytes()[:100])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_picture(tmp_path / "p.tif")
        save_picture(tmp_path / "q.tif", make())
        with pytest.raises(PictureError):
            open_picture(tmp_path / "bad.tif")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from Linux' /proc")
def test_nothing_is_kept_of_pictures_that_were_read(tmp_path):
    def memory():
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    save_picture(tmp_path / "p.png", Picture(np.zeros((1500, 1500, 3), np.uint8)))
    open_picture(tmp_path / "p.png")
    before = memory()
    for _ in range(15):
        open_picture(tmp_path / "p.png")
    assert memory() - before < 30


@pytest.mark.parametrize(
    "carried, message",
    [({"dpi": (0.0, 300.0)}, "pixels per inch are not in 0.01…100000"), ({"dpi": (300.0, 1e9)}, "pixels per inch"),
     ({"exif": b"nonsense"}, "EXIF is damaged (no TIFF header)"), ({"exif": b"II+\0\x08" + bytes(40)}, "EXIF is damaged")],
)  # fmt: skip
def test_what_a_picture_carries_is_checked(carried, message, tmp_path):
    for suffix in (".png", ".tif", ".webp", ".avif", ".jpg"):
        with pytest.raises(PictureError) as error:
            save_picture(tmp_path / f"p{suffix}", make(**carried))
        assert message in str(error.value) and not list(tmp_path.iterdir())


def test_no_memory_for_libvips_is_not_called_damage(tmp_path, monkeypatch):
    from sr_zoo import decoding

    def full(*_):
        raise decoding.pyvips.Error("unable to fetch from region", "out of memory -- size == 3MB")

    save_picture(tmp_path / "p.png", make())
    monkeypatch.setattr(decoding, "_decoded", full)
    with pytest.raises(PictureError, match="p.png: not enough memory to decode it$"):
        open_picture(tmp_path / "p.png")


def test_a_file_is_known_by_its_bytes_and_read_anew(tmp_path):
    """Not by its suffix, nor as it was before it was written again; brackets in a name are no options."""
    path = tmp_path / "p[page=3].png"
    for i, channels in enumerate((3, 1)):
        picture = make(channels, icc=profile(channels))
        save_picture(tmp_path / "p.tif", picture)
        (tmp_path / "p.tif").replace(path)
        assert np.array_equal(open_picture(path).colours, picture.colours), i
        assert open_picture(path).icc == picture.icc and suffix_for(path) == ".tif"


def test_what_an_upscaled_picture_is_saved_as(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "c.jpg")
    for suffix in (".png", ".tif", ".webp", ".jpg", ".bmp"):
        save_picture(tmp_path / f"p{suffix}", make())
    names = {"p.png": ".png", "p.tif": ".tif", "p.webp": ".png", "p.jpg": ".png", "p.bmp": ".png", "c.jpg": ".tif",
             "missing.tif": ".png"}  # fmt: skip
    assert {name: suffix_for(tmp_path / name) for name in names} == names
