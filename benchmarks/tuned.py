"""What a fine-tuning changed, in pictures: ``python -m benchmarks.tuned BEFORE AFTER HELD_OUT --output FILE.png``.

A crop from the middle of the first pictures in HELD_OUT: as the models get it, from either model, and the truth. Beside it, as
FILE.json: PSNR on Y and the power above half the Nyquist frequency as a share of the truth's, means over all pictures (of the powers,
before their ratio), on the middle 512×512 pixels of each, how many of the input's samples the saved files give back, and the steps
that AFTER/finetune.json tells of.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import sr_zoo
from benchmarks.common import write_json
from benchmarks.experiment import sheet
from sr_zoo import metrics
from sr_zoo.engine import upscale_array
from sr_zoo.picture import find_pictures, read_picture

SIDE, CROP, ROWS = 512, 96, 4  # HR pixels that are measured, and shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL", help="before and after")
    parser.add_argument("held_out", metavar="HELD_OUT", help="folder of pictures that neither has seen")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.png")
    options = parser.parse_args()
    models = [sr_zoo.load(name) for name in options.models]
    scale, operator = models[1].scale, models[1].downsampler
    rows, figures = [], [{"model": Path(m).name, "psnr": [], "power": [], "given_back": []} for m in options.models]
    truth_power = []
    for path in find_pictures(options.held_out):
        hr = _middle(read_picture(path), SIDE // scale * scale, scale)
        truth = _tensor(hr)
        lr = metrics.round_clip(operator.A(truth))[0].permute(1, 2, 0).byte().numpy()
        truth_power.append(float(metrics.high_frequency_power(truth)))
        pictures = []
        for model, row in zip(models, figures):
            done = upscale_array(lr, model, "float32")
            sr = _tensor(done.array)
            row["psnr"].append(float(metrics.psnr_y(sr, truth, scale)))
            row["power"].append(float(metrics.high_frequency_power(sr)))
            row["given_back"].append(done.reproduced)
            pictures.append(done.array)
        crop = [_middle(p, CROP, scale) for p in (*pictures, hr)]
        rows.append([_middle(lr, CROP // scale, 1), *crop])
    means = [
        {"model": row["model"], "pictures": len(rows), "psnr": float(np.mean(row["psnr"])),
         "high_frequency": float(np.mean(row["power"]) / np.mean(truth_power)), "reproduced": float(np.mean(row["given_back"]))}
        for row in figures
    ]  # fmt: skip
    record = Path(options.models[1]) / "finetune.json"
    if record.is_file():
        means[1]["steps"] = json.loads(record.read_text())["steps"]
    write_json(options.output.with_suffix(".json"), means)
    sheet(rows[:ROWS], ["input", *(m["model"] for m in means), "truth"], options.output, 2 * CROP)
    for mean in means:
        print(mean)


def _middle(picture: np.ndarray, side: int, multiple: int) -> np.ndarray:
    top, left = (max(0, (n - side) // 2) // multiple * multiple for n in picture.shape[:2])
    cut = picture[top : top + side, left : left + side]
    height, width = (n // multiple * multiple for n in cut.shape[:2])
    return cut[:height, :width]


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()


if __name__ == "__main__":
    main()
