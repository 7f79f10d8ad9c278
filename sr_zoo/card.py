"""The model card: README.md of a checkpoint folder, from its config, recipe and results."""

import json
import re
from pathlib import Path

import yaml

from sr_zoo.consistency import CONSISTENCIES
from sr_zoo.errors import percent
from sr_zoo.metrics import PROTOCOL
from sr_zoo.operators import named

__all__ = ["BEFORE_AFTER", "DATA_HEADING", "addressed", "model_card", "results_table"]

DATA_HEADING = "## Training data"  # what is published says it
BEFORE_AFTER = "before_after.png"  # in the folder of a checkpoint, where there is one


def model_card(folder: str | Path, training: str, licence: str, story: str = "", datasets: tuple[str, ...] = ()) -> str:
    """Markdown with the metadata that the Hub reads.

    Args:
        folder: a checkpoint folder with config.json, recipe.yaml and results.json; a picture before_after.png is shown.
        training: what the weights were trained on and under which terms, one paragraph.
        licence: identifier of the weights' licence, as the Hub spells it.
        story: what the recipe does not say of how they were trained.
        datasets: names of what they were trained on, for the metadata.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    rows = _own(json.loads((folder / "results.json").read_text()), folder.name)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    name, scale, options = folder.name, config["scale"], recipe["model"]["init_args"]
    generator = _generator(config["generator"], f"{rows[0]['parameters']:,} parameters")
    settings = ", ".join(f"{k} {_said(v)}" for k, v in config["objective"].items() if k != "name")
    kernel, base = named(config["kernel"]), config["consistency"].get("base")
    consistency = f"*{config['consistency']['name']}*" + (f" on A⁺ of *{named(base)}*" if base else "")
    part = CONSISTENCIES[config["consistency"]["name"]]
    picture = f"\n![before and after]({BEFORE_AFTER})\n" if (folder / BEFORE_AFTER).is_file() else ""
    story = f"{story}\n\n" if story else ""
    rate = "constant" if options.get("schedule") == "constant" else "falling to 0 along a cosine"
    averaged = f"averaged weights ({options['ema_decay']}), " if options.get("ema_decay") else ""
    place = {"cpu": ", on a processor", "gpu": ", on a GPU", "cuda": ", on a GPU"}.get(
        recipe["trainer"].get("accelerator"), ""
    )
    return f"""---
{_metadata(name, config, rows, licence, datasets)}---

# {name}

{config["method"]} ×{scale}: generator {generator},
consistency {consistency}, objective *{config["objective"]["name"]}*{f" ({settings})" * bool(settings)},
operator *{kernel}*. {part.promise}

```python
import sr_zoo

model = sr_zoo.load("{name}")
sr_zoo.upscale("photo.png", model).save("photo_x{scale}.png")
```
{picture}
## Results

{results_table(rows)}

{PROTOCOL}

## Training

{recipe["trainer"]["max_steps"]:,} steps of {recipe["data"]["batch_size"]} crops of {recipe["data"]["crop_size"]}×\
{recipe["data"]["crop_size"]} HR pixels, {options["optimizer"]} at {options["learning_rate"]} {rate},
{averaged}{recipe["trainer"]["precision"]}{place}; `recipe.yaml` has every
setting.

{story}{DATA_HEADING}

{training}

## Limits

The operator is known to the model: it was trained on pictures that were downsampled by the *{kernel}* kernel
and then rounded, nothing else. JPEG artefacts, noise or another blur in the input are taken for evidence and kept.

## Citation

Sønderby, Caballero, Theis, Shi, Huszár: Amortised MAP Inference for Image Super-resolution, ICLR 2017, arXiv 1610.04490.
"""


def _own(rows: list[dict], name: str) -> list[dict]:
    """Those of the model, where others were measured beside it: by its name, or else it is the first."""
    names = [row.get("model") for row in rows]
    return [row for row in rows if row.get("model") == (name if name in names else names[0])]


def addressed(card: str, repo: str) -> str:
    """The card as it is published: its example loads the model from there."""
    return re.sub(r'sr_zoo\.load\("[^"]*"\)', f'sr_zoo.load("{repo}")', card)


def _metadata(name: str, config: dict, rows: list[dict], licence: str, datasets: tuple[str, ...]) -> str:
    """YAML for the Hub; model-index holds PSNR and SSIM of each set."""
    task = {"type": "image-to-image", "name": f"Super-resolution ×{config['scale']}"}
    results = [
        {"task": task, "dataset": {"type": row["set"].lower(), "name": row["set"]},
         "metrics": [{"type": k, "name": f"{k.upper()} (Y)", "value": round(row[k], 4)} for k in ("psnr", "ssim")]}
        for row in rows
    ]  # fmt: skip
    data = {
        "library_name": "sr_zoo",
        "pipeline_tag": "image-to-image",
        "license": licence,
        **({"datasets": list(datasets)} if datasets else {}),
        "tags": ["super-resolution", "image-upscaling", config["method"].lower()],
        "model-index": [{"name": name, "results": results}],
    }

    class Plain(yaml.SafeDumper):  # what occurs twice is written twice, not as a reference
        def ignore_aliases(self, data):
            return True

    return yaml.dump(data, Dumper=Plain, sort_keys=False, allow_unicode=True)


def _generator(spec: str | dict, *more: str) -> str:
    """``*residual* (width 64, depth 16)``; ``more`` stands in the brackets, too."""
    spec = {"name": spec} if isinstance(spec, str) else spec
    shown = {"generator": lambda v: f"of {_generator(v)}", "kernel": lambda v: f"kernel {named(v)}"}
    parts = [shown[k](v) if k in shown else f"{k} {_said(v)}" for k, v in spec.items() if k != "name"]
    return f"*{spec['name']}* ({'; '.join([', '.join(parts), *more])})"


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
