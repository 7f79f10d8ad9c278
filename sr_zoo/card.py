"""The model card: README.md of a checkpoint folder, from its config, recipe and results."""

import json
from pathlib import Path

import yaml

from sr_zoo.benchmark import PROTOCOL
from sr_zoo.consistency import CONSISTENCIES
from sr_zoo.errors import percent

__all__ = ["model_card", "results_table"]


def model_card(folder: str | Path, training: str, licence: str) -> str:
    """Markdown with the metadata that the Hub reads.

    Args:
        folder: a checkpoint folder with config.json, recipe.yaml and results.json.
        training: what the weights were trained on and under which terms, one paragraph.
        licence: identifier of the weights' licence, as the Hub spells it.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    rows = json.loads((folder / "results.json").read_text())
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    name, scale, options = folder.name, config["scale"], recipe["model"]["init_args"]
    generator = ", ".join(f"{k} {v}" for k, v in config["generator"].items() if k != "name")
    settings = ", ".join(f"{k} {_said(v)}" for k, v in config["objective"].items() if k != "name")
    part = CONSISTENCIES[config["consistency"]["name"]]
    return f"""---
library_name: sr_zoo
pipeline_tag: image-to-image
license: {licence}
tags: [super-resolution, image-upscaling, {config["method"].lower()}]
---

# {name}

{config["method"]} ×{scale}: generator *{config["generator"]["name"]}* ({generator}; {rows[0]["parameters"]:,} parameters),
consistency *{config["consistency"]["name"]}*, objective *{config["objective"]["name"]}*{f" ({settings})" * bool(settings)},
operator *{config["kernel"]}*. {part.promise}

```python
import sr_zoo

sr_zoo.upscale("photo.png", "{name}").save("photo_x{scale}.png")
```

## Results

{results_table(rows)}

{PROTOCOL}

## Training

{recipe["trainer"]["max_steps"]:,} steps of {recipe["data"]["batch_size"]} crops of {recipe["data"]["crop_size"]}×\
{recipe["data"]["crop_size"]} HR pixels, {options["optimizer"]} at {options["learning_rate"]} falling to 0 along a cosine,
averaged weights ({options["ema_decay"]}), {recipe["trainer"]["precision"]}, on a processor; `recipe.yaml` has every
setting.

{training}

## Limits

The operator is known to the model: it was trained on pictures that were downsampled by the *{config["kernel"]}* kernel
and then rounded, nothing else. JPEG artefacts, noise or another blur in the input are taken for evidence and kept.

## Citation

Sønderby, Caballero, Theis, Shi, Huszár: Amortised MAP Inference for Image Super-resolution, ICLR 2017, arXiv 1610.04490.
"""


def _said(value) -> str:
    """A part given by name and arguments, or a number, as words."""
    return (
        " ".join(f"{v}" if k == "name" else f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else f"{value}"
    )


def results_table(rows: list[dict], names: bool = False) -> str:
    """Rows of results.json as a Markdown table; ``names`` adds the model's."""
    head = [*(["model"] if names else []), "set", "PSNR", "SSIM", "LR-PSNR", "LR-PSNR, saved", "LR samples given back",
            "pictures given back whole", "detail"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        cells = [*([r["model"]] if names else []), r["set"], f"{r['psnr']:.2f}", f"{r['ssim']:.4f}", f"{r['lr_psnr']:.1f}",
                 f"{r['lr_psnr_8bit']:.1f}", f"{percent(r['reproduced'])}", f"{percent(r['images_reproduced'])}",
                 f"{r['high_frequency']:.2f}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
