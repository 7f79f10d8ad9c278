"""The README's picture: a crop of the example, upscaled by each model, beside the truth: ``python -m benchmarks.figure``."""

from PIL import Image, ImageDraw, ImageFont

import sr_zoo
from benchmarks.common import RESULTS, ROOT
from sr_zoo.benchmark import Bicubic
from sr_zoo.engine import upscale_array
from sr_zoo.errors import percent
from sr_zoo.picture import read_picture

BOX, ZOOM = (136, 24, 296, 184), 2


def main() -> None:
    lr = read_picture(ROOT / "examples" / "astronaut.png")
    panels = {"input": Image.fromarray(lr).resize((512, 512), Image.Resampling.NEAREST)}
    for name, model in (("bicubic", Bicubic(4)), *((n, sr_zoo.load(n)) for n in ("mse-x4", "affmse-x4"))):
        done = upscale_array(lr, model, "float32")
        panels[f"{name}: {percent(done.reproduced)} given back"] = Image.fromarray(done.picture)
    panels["truth"] = Image.fromarray(read_picture(ROOT / "examples" / "astronaut_truth.webp"))
    side = (BOX[2] - BOX[0]) * ZOOM
    sheet = Image.new("RGB", (len(panels) * (side + 6) - 6, side + 26), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (title, panel) in enumerate(panels.items()):
        crop = panel.crop(BOX).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(crop, (i * (side + 6), 26))
        draw.text((i * (side + 6), 4), title, fill="black", font=font)
    sheet.save(RESULTS / "astronaut.png", optimize=True)


if __name__ == "__main__":
    main()
