"""Kinds of picture files (mode × depth × alpha × container), written and read back by others than the library under test.

Pillow, tifffile and pypng write each kind, with a profile, EXIF that says to turn the picture, and a resolution wherever the
container holds them; ``read_back`` gives what they find in a file again, upright.
"""

import dataclasses
import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import png
import tifffile
from PIL import Image, ImageCms

DPI = (300.0, 150.0)
MAKER_NOTE = b"Nikon\0\2\x10\0\0" + bytes(range(64))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a file holds.

    Attributes:
        mode: Pillow's name: 1, P, PA (a palette with a transparent colour), L, LA, RGB, RGBA, CMYK, CMYKA; a small a for
            premultiplied.
        bits: of a sample.
        suffix: of the file.
        orientation: in EXIF, 1…8; 0 where the file has none.
        lossy: whether the samples differ from those that were given.
        frames: more than one: animated or of several pages.
    """

    mode: str
    bits: int
    suffix: str
    orientation: int
    lossy: bool = False
    frames: int = 1

    def __str__(self) -> str:
        return f"{self.mode}-{self.bits}{self.suffix}" + "-lossy" * self.lossy + f"-{self.frames}-frames" * (self.frames > 1)

    @property
    def channels(self) -> int:
        """Of the colours: 1, 3 or 4. WebP, AVIF and GIF hold no grey."""
        grey = self.mode in ("1", "L", "LA") and self.suffix not in (".webp", ".avif", ".gif")
        return 1 if grey else 4 if self.mode.startswith("CMYK") else 3

    @property
    def transparent(self) -> bool:
        return self.mode[-1] in "Aa"

    @property
    def tagged(self) -> bool:
        """Whether it has a profile and EXIF."""
        return self.suffix not in (".bmp", ".gif", ".pgm")


KINDS = [
    Kind("1", 1, ".png", 2), Kind("L", 8, ".png", 3), Kind("LA", 8, ".png", 4), Kind("RGB", 8, ".png", 5),
    Kind("RGBA", 8, ".png", 6), Kind("P", 8, ".png", 7), Kind("PA", 8, ".png", 8), Kind("L", 16, ".png", 6),
    Kind("LA", 16, ".png", 7), Kind("RGB", 16, ".png", 8), Kind("RGBA", 16, ".png", 1),
    Kind("1", 1, ".tif", 2), Kind("P", 8, ".tif", 3), Kind("L", 8, ".tif", 4), Kind("RGB", 8, ".tif", 5),
    Kind("RGBA", 8, ".tif", 6), Kind("CMYK", 8, ".tif", 7), Kind("L", 16, ".tif", 8), Kind("LA", 16, ".tif", 6),
    Kind("RGB", 16, ".tif", 5), Kind("RGBA", 16, ".tif", 4), Kind("CMYK", 16, ".tif", 3), Kind("CMYKA", 8, ".tif", 2),
    Kind("RGBa", 8, ".tif", 6, lossy=True), Kind("RGB", 8, ".tif", 6, frames=3),
    Kind("RGB", 8, ".webp", 6), Kind("RGBA", 8, ".webp", 5), Kind("RGB", 8, ".webp", 8, lossy=True),
    Kind("RGB", 8, ".avif", 1, lossy=True), Kind("RGBA", 8, ".avif", 1, lossy=True),
    Kind("L", 8, ".jpg", 6, lossy=True), Kind("RGB", 8, ".jpg", 8, lossy=True), Kind("CMYK", 8, ".jpg", 3, lossy=True),
    Kind("L", 8, ".bmp", 0), Kind("RGB", 8, ".bmp", 0), Kind("P", 8, ".bmp", 0), Kind("L", 16, ".pgm", 0),
    Kind("P", 8, ".gif", 0), Kind("PA", 8, ".gif", 0), Kind("P", 8, ".gif", 0, frames=2),
]  # fmt: skip


def source(kind: Kind, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright colours and alpha of a kind, of its depth, from uint8 RGB ``(height, width, 3)``."""
    if kind.mode[0] == "P":
        # Sixteen colours, so that any palette holds them; the transparent one has its own.
        picture = picture // 128 * 255
    samples = {1: picture[..., :1], 3: picture, 4: np.dstack([picture, picture[::-1, :, :1]])}[kind.channels]
    if kind.suffix in (".webp", ".avif", ".gif") and kind.mode[0] == "L":
        samples = np.repeat(picture[..., :1], 3, 2)
    if kind.bits == 1:
        samples = (samples > 127).astype(np.uint8) * 255
    alpha = np.roll(picture[..., 1], 7, 0) // 2 + 128 if kind.transparent else None
    if kind.mode == "PA":
        alpha = np.where((samples == 255).all(2), 0, 255).astype(np.uint8)
    if kind.bits == 16:
        low = np.random.default_rng(1).integers(0, 256, samples.shape, np.uint16)
        samples = samples.astype(np.uint16) * 256 + low
        alpha = None if alpha is None else alpha.astype(np.uint16) * 256 + low[..., 0]
    return samples, alpha


def write_kind(folder: Path, kind: Kind, picture: np.ndarray) -> Path:
    """Write a picture, uint8 RGB ``(height, width, 3)``, as a kind; the samples lie in the file as its orientation says."""
    path = Path(folder) / f"{kind}{kind.suffix}"
    colours, alpha = source(kind, picture)
    colours = lying(colours, kind.orientation)
    alpha = None if alpha is None else lying(alpha, kind.orientation)
    array = colours if alpha is None else np.dstack([colours, alpha])
    if kind.suffix == ".tif" and (kind.bits == 16 or kind.mode in ("CMYKA", "RGBa", "1") or kind.frames > 1):
        _write_tifffile(path, kind, array)
    elif kind.suffix == ".png" and kind.bits == 16:
        _write_pypng(path, kind, array)
    else:
        _write_pillow(path, kind, array)
    return path


def read_back(path: Path) -> tuple[np.ndarray, np.ndarray | None, bytes | None, dict, tuple[float, float] | None]:
    """Upright colours and alpha, profile, EXIF as (directory, tag) → value, and pixels per inch, of the first frame."""
    if path.suffix in (".tif", ".tiff"):
        array, icc, exif, dpi = _read_tifffile(path)
    else:
        with Image.open(path) as image:
            icc, exif, dpi = image.info.get("icc_profile"), _flat(image.getexif()), image.info.get("dpi")
            array = _pixels(image)
        if path.suffix == ".png" and _bits_of_png(path) == 16:
            width, height, rows, info = png.Reader(str(path)).read()
            array = np.vstack([np.asarray(row, np.uint16) for row in rows]).reshape(height, width, info["planes"])
        if dpi is None and ("main", 0x011A) in exif:
            dpi = tuple(float(exif["main", tag]) for tag in (0x011A, 0x011B))
    orientation = exif.pop(("main", 0x0112), 1)
    # A whole number of pixels per metre is not one per inch.
    dpi = None if dpi is None or not all(dpi) else tuple(round(float(side), 1) for side in dpi)
    array = upright(array, orientation)
    channels = {1: 1, 2: 1, 3: 3, 5: 4}.get(array.shape[2], 3)
    if array.shape[2] == 4 and _is_cmyk(path):
        channels = 4
    alpha = array[..., channels] if array.shape[2] > channels else None
    return array[..., :channels], alpha, icc, exif, dpi if orientation < 5 or dpi is None else dpi[::-1]


def lying(array: np.ndarray, orientation: int) -> np.ndarray:
    """An upright array as its rows and columns lie in a file of this orientation."""
    return {
        2: lambda a: a[:, ::-1], 3: lambda a: np.rot90(a, 2), 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: lambda a: np.rot90(a, -1),
    }.get(orientation, lambda a: a)(array)  # fmt: skip


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    return lying(array, {6: 8, 8: 6}.get(orientation, orientation))


def exif(orientation: int, size: tuple[int, int], dpi: tuple[float, float] | None = None) -> Image.Exif:
    """Camera, date, place, photographer (not in ASCII), rights, comment and maker's note."""
    block = Image.Exif()
    block.endian = "<" if orientation % 2 else ">"
    block[0x010E], block[0x010F], block[0x0110] = "a lily", "Camera & Søns".encode(), "Model 5"
    block[0x0112], block[0x0132], block[0x013B] = orientation, "2026:05:04 10:11:12", "Åse Ångström".encode()
    block[0x8298] = "© 2026 Åse".encode()
    block.get_ifd(0x8769).update({
        0x829A: (1, 125), 0x829D: 2.8, 0x8827: 400, 0x9003: "2026:05:04 10:11:12", 0x927C: MAKER_NOTE,
        0x9286: b"ASCII\0\0\0a comment", 0xA002: size[0], 0xA003: size[1], 0xA434: "35mm F2",
    })  # fmt: skip
    block.get_ifd(0x8825).update({0: b"\2\3\0\0", 1: "N", 2: (60.0, 10.0, 30.5), 3: "E", 4: (24.0, 56.0, 6.25)})
    if dpi:
        block[0x011A], block[0x011B], block[0x0128] = *dpi, 2
    return block


@functools.cache  # its date is in it
def profile(channels: int) -> bytes:
    """A small ICC profile for grey, RGB or CMYK."""
    if channels == 3:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = b"text\0\0\0\0a test\0\0"
    tags = {b"cprt": text, b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78 + 3)
    if channels == 1:
        tags[b"kTRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0233) + b"\0\0"
    else:
        ramp = bytes(range(256))
        corners = b"".join(
            bytes([max(0, 255 - 70 * (c + m + y) - 200 * k), (128 + 40 * (m - c)) & 255, (128 + 40 * (y - c)) & 255])
            for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
        )  # fmt: skip
        identity = struct.pack(">9i", *[65536 * (i % 4 == 0) for i in range(9)])
        tags[b"A2B0"] = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * ramp + corners + 3 * ramp
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    space, kind, pcs = (b"GRAY", b"mntr", b"XYZ ") if channels == 1 else (b"CMYK", b"prtr", b"Lab ")
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4s8sI12s48x", at + len(body), b"test", 0x02400000, kind, space, pcs,
        struct.pack(">6H", 2026, 5, 4, 0, 0, 0), b"acsp", b"APPL", 0, b"none", b"none", bytes(8), 0,
        struct.pack(">3i", 63190, 65536, 54061),
    )  # fmt: skip
    return head + struct.pack(">I", len(tags)) + table + body


def _write_pillow(path: Path, kind: Kind, array: np.ndarray) -> None:
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array, "CMYK" if kind.mode == "CMYK" else None)
    if kind.mode == "1":
        image = image.convert("1")
    elif kind.mode == "P":
        image = image.quantize(16)
    elif kind.mode == "PA":
        image, clear = image.convert("RGB").quantize(16), array[..., 3] == 0
        indices = np.asarray(image).copy()
        indices[clear] = 20
        colours = [*(image.getpalette() + 768 * [0])[:60], 255, 255, 255]
        image = Image.fromarray(indices, "P")
        image.putpalette(colours)
    options = {"dpi": DPI} if kind.suffix in (".png", ".tif", ".jpg", ".bmp") else {}
    if kind.tagged:
        options["icc_profile"] = profile(kind.channels)
        options["exif"] = exif(kind.orientation, image.size, DPI)
    options |= {
        ".webp": {"quality": 90} if kind.lossy else {"lossless": True, "exact": True},
        ".avif": {"quality": 95, "subsampling": "4:4:4"}, ".jpg": {"quality": 95, "subsampling": 0},
    }.get(kind.suffix, {})  # fmt: skip
    if kind.mode == "PA":
        options["transparency"] = 20
    if kind.frames > 1:
        options |= {"save_all": True, "append_images": [image.rotate(180)] * (kind.frames - 1)}
    image.save(path, **options)


def _write_tifffile(path: Path, kind: Kind, array: np.ndarray) -> None:
    photometric = {1: "minisblack", 3: "rgb", 4: "separated"}[kind.channels]
    options = {"photometric": photometric, "planarconfig": "contig", "metadata": None, "software": False,
               "resolution": DPI, "resolutionunit": "INCH", "iccprofile": profile(kind.channels)}  # fmt: skip
    if kind.transparent:
        options["extrasamples"] = ["assocalpha" if kind.mode == "RGBa" else "unassalpha"]
    if kind.mode == "RGBa":
        array = array.copy()
        array[..., :3] = np.round(array[..., :3] * (array[..., 3:] / 255.0))
    if kind.bits == 1:
        array, options["bitspersample"] = array > 0, 1
    array = array[..., 0] if array.shape[2] == 1 else array
    tags = [(0x010F, 2, 0, "Camera & Søns".encode(), True), (0x0112, 3, 1, kind.orientation, True),
            (0x013B, 2, 0, "Åse Ångström".encode(), True), (0x8298, 2, 0, "© 2026 Åse".encode(), True)]  # fmt: skip
    with tifffile.TiffWriter(path, byteorder="<" if kind.orientation % 2 else ">") as file:
        for i in range(kind.frames):
            file.write(np.roll(array, 5 * i, 0), extratags=tags, **options)


def _write_pypng(path: Path, kind: Kind, array: np.ndarray) -> None:
    height, width, planes = array.shape
    stream = io.BytesIO()
    writer = png.Writer(width, height, greyscale=planes < 3, alpha=planes in (2, 4), bitdepth=16)
    writer.write(stream, array.reshape(height, -1))
    stream.seek(0)
    chunks = list(png.Reader(stream).chunks())
    dense = struct.pack(">IIB", *[round(side / 0.0254) for side in DPI], 1)
    icc = b"test\0\0" + zlib.compress(profile(kind.channels))
    chunks[1:1] = [(b"iCCP", icc), (b"pHYs", dense), (b"eXIf", exif(kind.orientation, (width, height), DPI).tobytes()[6:])]
    with open(path, "wb") as file:
        png.write_chunks(file, chunks)


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]


def _read_tifffile(path: Path):
    with tifffile.TiffFile(path) as file, open(path, "rb") as raw:
        page = file.pages[0]
        array = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            array = (page.colormap[:, array] >> 8).astype(np.uint8).transpose(1, 2, 0)
        if array.dtype == bool:
            array = array.astype(np.uint8) * 255
        if page.extrasamples == (tifffile.EXTRASAMPLE.ASSOCALPHA,):
            straight = array[..., :3] / np.maximum(array[..., 3:] / 255.0, 1e-9)
            array = np.dstack([np.round(straight).clip(0, 255), array[..., 3]]).astype(np.uint8)
        if file.is_bigtiff:
            with Image.open(path) as image:
                exif = _flat(image.getexif())
        else:  # also for samples that Pillow cannot open
            block = Image.Exif()
            block.load_from_fp(raw)
            exif = _flat(block)
        dpi = page.get_resolution("INCH") if 0x011A in page.tags else None
        return array if array.ndim == 3 else array[..., None], page.iccprofile, exif, dpi


def _flat(block: Image.Exif) -> dict:
    """Every tag that says something of the picture; sizes, resolution and orientation stay, for those who look at them."""
    stored = {0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x013D, 0x0140, 0x014C,
              0x0152, 0x0153, 0x00FE, 0x010A, 0x8773, 0x8769, 0x8825, 0x0129, 0x0141, 0x0142}  # fmt: skip
    flat = {("main", tag): value for tag, value in block.items() if tag not in stored}
    for name, pointer in (("photo", 0x8769), ("gps", 0x8825)):
        flat |= {(name, tag): value for tag, value in block.get_ifd(pointer).items()}
    return flat


def _bits_of_png(path: Path) -> int:
    return path.read_bytes()[24]


def _is_cmyk(path: Path) -> bool:
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            return file.pages[0].photometric == tifffile.PHOTOMETRIC.SEPARATED
    with Image.open(path) as image:
        return image.mode == "CMYK"
