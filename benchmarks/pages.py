"""Pages to learn from: text, tables, plots and flat drawings, as on screens and in print, of which photos hold too few.

    python -m benchmarks.pages FOLDER                  # for training, beside photos
    python -m benchmarks.pages --held-out FOLDER       # other fonts, other pages: to judge by

The same pages every time: fonts are those that matplotlib brings along, text is Python's own documentation; with other
versions of these, other pages.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sr_zoo.cli._common import positive
from sr_zoo.files import expanded, whole_folder

SIZE = (1200, 912)  # of a page, in pixels: a multiple of 2, 3 and 4
FINER = 2  # drawn so many times larger and reduced: Pillow's lines and shapes have no smooth edges
HELD_OUT = ("DejaVuSerif", "DejaVuSansMono")  # fonts that are not learned from


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=expanded, help="new, for the pages as PNG")
    parser.add_argument("--pages", type=positive, default=40, help="how many")
    parser.add_argument("--held-out", action="store_true", help="pages to judge by, in fonts that training does not see")
    options = parser.parse_args(argv)
    try:
        with whole_folder(options.folder) as beside:
            for number in range(options.pages):
                page(number, options.held_out).save(beside / f"page{number:03}.png")
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def page(number: int, held_out: bool = False) -> Image.Image:
    """Page ``number``, always the same: an RGB picture of ``SIZE``."""
    rng = np.random.default_rng([int(held_out), number])
    paper, ink = _colours(rng)
    sheet = Image.new("RGB", [n * FINER for n in SIZE], paper)
    fonts, words = _fonts(held_out), _words()
    # A page is two to six bands, each of one kind.
    height, top = sheet.height, 0
    while top < height - 60:
        band = min(int(rng.uniform(0.15, 0.5) * height), height - top)
        columns = int(rng.integers(1, 4))
        for column in range(columns):
            left, right = (sheet.width * i // columns for i in (column, column + 1))
            panel = Image.new("RGB", (right - left, band), paper)
            draw = rng.choice([_text, _text, _text, _plot, _shapes, _table])
            draw(panel, rng, fonts, words, ink)
            sheet.paste(panel, (left, top))
        top += band
    return sheet.resize(SIZE, Image.Resampling.BOX)


def _colours(rng) -> tuple[tuple, tuple]:
    light = (255, 255, 255) if rng.random() < 0.5 else tuple(map(int, rng.integers(200, 256, 3)))
    dark = (0, 0, 0) if rng.random() < 0.5 else tuple(map(int, rng.integers(0, 90, 3)))
    return (dark, light) if rng.random() < 0.35 else (light, dark)


def _colour(rng) -> tuple:
    return tuple(map(int, rng.integers(0, 256, 3)))


def _fonts(held_out: bool) -> list[Path]:
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    names = re.compile(r"(DejaVuS|STIXGeneral(?!BolIta)|cm(r|ss|tt|ti|b)10).*(?<!Display)\.ttf")
    found = sorted(f for f in folder.iterdir() if names.fullmatch(f.name))
    return [f for f in found if f.name.startswith(HELD_OUT) == held_out]


def _words() -> list[str]:
    from pydoc_data.topics import topics

    return re.findall(r"[A-Za-z0-9.,;:()'=+-]+", " ".join(topics[name] for name in sorted(topics)))


def _font(rng, fonts: list[Path], smallest: int = 9, largest: int = 72) -> ImageFont.FreeTypeFont:
    size = np.exp(rng.uniform(np.log(smallest), np.log(largest)))  # small letters are more frequent
    return ImageFont.truetype(fonts[rng.integers(len(fonts))], int(size * FINER))


def _line(rng, words: list[str], count: int) -> str:
    start = rng.integers(len(words) - count)
    return " ".join(words[start : start + count])


def _text(panel, rng, fonts, words, ink) -> None:
    draw, margin = ImageDraw.Draw(panel), int(rng.integers(2, 40)) * FINER
    font, top = _font(rng, fonts), margin
    while top < panel.height:
        if rng.random() < 0.15:  # the next heading, the next kind of letter
            font = _font(rng, fonts)
        draw.text((margin, top), _line(rng, words, 30), font=font, fill=ink if rng.random() < 0.85 else _colour(rng))
        top += int(font.size * rng.uniform(1.1, 1.4))
    draw.rectangle((panel.width - margin, 0, panel.width, panel.height), fill=panel.getpixel((0, 0)))


def _table(panel, rng, fonts, words, ink) -> None:
    draw, font, shade = ImageDraw.Draw(panel), _font(rng, fonts, 9, 24), _between(panel.getpixel((0, 0)), ink, 0.1)
    step, width, line = int(font.size * 1.7), int(font.size * rng.uniform(4, 9)), int(rng.integers(1, 4))
    for row, top in enumerate(range(0, panel.height, step)):
        if row % 2 and rng.random() < 0.8:
            draw.rectangle((0, top, panel.width, top + step), fill=shade)
        for left in range(0, panel.width, width):
            draw.text((left + font.size // 2, top + font.size // 4), _line(rng, words, 1)[:8], font=font, fill=ink)
            draw.line((left, 0, left, panel.height), fill=ink, width=line)
        draw.line((0, top, panel.width, top), fill=ink, width=line)


def _plot(panel, rng, fonts, words, ink) -> None:
    draw, font, line = ImageDraw.Draw(panel), _font(rng, fonts, 9, 20), int(rng.integers(1, 4)) * FINER
    shade = _between(panel.getpixel((0, 0)), ink, 0.25)
    left, bottom = 4 * font.size, panel.height - 2 * font.size
    x = np.linspace(left, panel.width - font.size, 200)
    for i in range(5):
        level = bottom - i * (bottom - font.size) // 5
        draw.line((left, level, panel.width - font.size, level), fill=shade)
        draw.text((font.size // 2, level - font.size // 2), f"{i * rng.uniform(0.1, 9):.1f}", font=font, fill=ink)
        draw.text((x[i * 40], bottom + font.size // 3), _line(rng, words, 1)[:6], font=font, fill=ink)
    for _ in range(rng.integers(1, 6)):
        y = np.cumsum(rng.normal(size=200)) if rng.random() < 0.5 else np.sin(np.arange(200) * rng.uniform(0.02, 0.6))
        y = bottom - (y - y.min()) / np.ptp(y) * rng.uniform(0.2, 1) * max(bottom - font.size, 1)
        draw.line([*zip(x, y, strict=True)], fill=_colour(rng), width=line)
    draw.line((left, 0, left, bottom, panel.width, bottom), fill=ink, width=line)


def _shapes(panel, rng, fonts, words, ink) -> None:
    """Flat colours within dark outlines, now and then hatched, as comics and diagrams have them."""
    draw = ImageDraw.Draw(panel)
    for _ in range(rng.integers(6, 40)):
        centre, radius = rng.uniform(0, 1, 2) * panel.size, rng.uniform(0.03, 0.3) * panel.height
        outline, fill = int(rng.integers(0, 6)) * FINER, _colour(rng)
        box = (*(centre - radius), *(centre + radius * rng.uniform(0.3, 1, 2)))
        kind = rng.integers(4)
        if kind == 0:
            draw.ellipse(box, fill=fill, outline=ink, width=outline)
        elif kind == 1:
            draw.rounded_rectangle(box, radius=radius * 0.2, fill=fill, outline=ink, width=outline)
        elif kind == 2:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
            points = centre + radius * rng.uniform(0.4, 1, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
            draw.polygon([*map(tuple, points)], fill=fill, outline=ink, width=max(outline, 1))
        else:
            slope, gap = rng.uniform(-1, 1), int(rng.integers(3, 12)) * FINER
            for shift in range(-int(radius), int(radius), gap):
                ends = centre + np.outer((-1, 1), (radius, radius * slope)) + (0, shift)
                draw.line([*map(tuple, ends)], fill=ink, width=max(1, gap // 3))
        if rng.random() < 0.2:
            draw.text(tuple(centre - radius), _line(rng, words, 2), font=_font(rng, fonts), fill=ink)


def _between(a: tuple, b: tuple, share: float) -> tuple:
    return tuple(int(p + share * (q - p)) for p, q in zip(a, b, strict=True))


if __name__ == "__main__":
    main()
