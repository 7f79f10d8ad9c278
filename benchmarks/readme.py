"""Writes what is generated in README.md and the model cards: ``python -m benchmarks.readme [--check]``.

Everything comes from checkpoints/*/results.json and benchmarks/results/; with --check nothing is written and the exit code
says whether all is up to date.
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

from benchmarks import faces, grass, swiss_roll, tables
from benchmarks.common import RESULTS, ROOT
from sr_zoo.card import model_card, results_table
from sr_zoo.errors import percent

TWO_STAGES = """Before these, one stage of AffMSE that `affmse-x4` and `mse-x4` share (`recipe-1.yaml` of `affmse-x4`): 46,000
steps of 64 crops of 192×192 in eight minutes of a GPU (H200). From there two trainings, in which the two differ in nothing but the
projection: these steps, for which 40 drawn pages of text, tables, plots and shapes (`benchmarks/pages.py`) lay beside the
photographs, one crop in seven; and 1,500 of photographs alone (`{photos}`). The weights are the mean of what came of both."""
SCALED = """Head, body and join start from an earlier `affmse-x4`, which had seen half as much of a GPU; the body works in LR space at
every scale. The tail starts as that of ×4 averaged down."""
FORMER = "an earlier `{}`, trained on two cores alone"
DISCRIMINATOR = """The discriminator learns alone for the first 400 steps; its weights are in `prior.safetensors`, so that training
can go on. The generator takes noise: other seeds give other pictures (`--seed`, `--samples`); the table is seed 0."""
PRIOR = """It starts from {start} and follows a {prior} that was trained alone before, on the same pictures
(`recipe-prior.yaml`); its weights are in `prior.safetensors`."""
STORIES = {
    "mse-x4": TWO_STAGES.format(photos="recipe-1.yaml"), "affmse-x4": TWO_STAGES.format(photos="recipe-2.yaml"),
    "affmse-x2": SCALED, "affmse-x3": SCALED,
    "affmse-x4-fast": "From random weights. While it learned, each 3×3 convolution of the body was the sum of four branches "
    "(generator *reparameterised*); the weights here have them folded.",
    "softgan-x4": f"It starts from {FORMER.format('mse-x4')}. {DISCRIMINATOR}",
    "affgan-x4": f"It starts from {FORMER.format('affmse-x4')}, in three stages: `recipe.yaml` is the last one, `recipe-1.yaml` and "
    "`recipe-2.yaml` are those before, 7,000 steps together. At the end the weights went 3 % further along the way from that, with "
    f"half the noise (`benchmarks/blend.py`). {DISCRIMINATOR}",
    "affdae-x4": PRIOR.format(prior="denoiser", start=FORMER.format("affmse-x4")),
    "affll-x4": PRIOR.format(prior="density", start=FORMER.format("affmse-x4")),
}  # fmt: skip
PICTURES = """779 photographs, about 250 megapixels: CID22 and Ubuntu wallpapers (CC BY-SA), CLIC, deepin and Pop!_OS wallpapers
(Unsplash licence), Budgie wallpapers (CC0), and, for non-commercial research, 394 pictures of BSDS500 (*train* and *test*) and
91 of T91, of which those smaller than a crop are left out; 20 others of the same sources for validation. BSD100, Set5 and Set14 were
used for the table only. Because of BSDS500 and T91 the weights are for non-commercial use; the code is Apache-2.0."""
LICENCE = "cc-by-nc-4.0"
DATASETS = ("cid22", "clic", "bsds500", "t91")

# Y-PSNR / SSIM as their authors report them; most trained on DIV2K (800 pictures of 2K), SRCNN and VDSR on few
# small ones.
PUBLISHED = {4: [
    ("SRCNN", "57 k", "30.48 / 0.8628", "27.49 / 0.7503", "26.90 / 0.7101"),
    ("FSRCNN", "12 k", "30.71 / 0.8657", "27.59 / 0.7535", "26.98 / 0.7150"),
    ("VDSR", "665 k", "31.35 / 0.8838", "28.01 / 0.7674", "27.29 / 0.7251"),
    ("LapSRN", "813 k", "31.54 / 0.8850", "28.19 / 0.7720", "27.32 / 0.7280"),
    ("CARN-M", "412 k", "31.92 / 0.8903", "28.42 / 0.7762", "27.44 / 0.7304"),
    ("EDSR-baseline", "1518 k", "32.09 / 0.8938", "28.58 / 0.7813", "27.57 / 0.7357"),
    ("RLFN", "543 k", "32.24 / 0.8952", "28.62 / 0.7813", "27.60 / 0.7364"),
], 3: [
    ("VDSR", "", "33.66", "29.77", "28.82"),
    ("EDSR-baseline", "", "34.37", "30.28", "29.09"),
], 2: [
    ("VDSR", "", "37.53", "33.03", "31.90"),
    ("EDSR-baseline", "", "37.99", "33.57", "32.16"),
]}  # fmt: skip
# PSNR of the published networks that follow a discriminator; none of them promises consistency.
PUBLISHED_GANS = [("SRGAN", "29.40", "26.02", "25.16"), ("ESRGAN", "30.39", "26.20", "25.35")]
REGRESSION = {4: ("mse-x4", "affmse-x4", "affmse-x4-fast"), 3: ("affmse-x3",), 2: ("affmse-x2",)}
PRIORS = ("softgan-x4", "affgan-x4", "affdae-x4", "affll-x4")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is out of date")
    options = parser.parse_args()
    wanted = pages()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        print(f"{'out of date' if options.check else 'written'}: {path.relative_to(ROOT)}")
        if not options.check:
            path.write_text(wanted[path])
    return 1 if options.check and stale else 0


def pages() -> dict[Path, str]:
    """Path → text of every generated page."""
    out = {f / "README.md": model_card(f, PICTURES, LICENCE, STORIES[f.name], DATASETS) for f in folders()}
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, content in {
        "results": results(),
        "published": published(4),
        "published-x3": published(3),
        "published-x2": published(2),
        "learned": learned(),
        "adversarial": adversarial(),
        "samples": samples(),
        "swiss": swiss_roll.table(rows_of("swiss_roll")),
        "faces": faces.table(rows_of("faces")),
        "along": faces.along(rows_of("faces")),
        "grass": grass.table(rows_of("grass")),
        "tuned": tuned(),
        "speed": speed(),
        "folder": folder(),
        "large": large(),
        "peers": peers(),
        "weights": tables.weights_of_others(),
        "ensemble": tables.ensemble(),
        "generators": tables.generators(),
        "generators of base": tables.generators("base"),
        "settings": tables.settings(),
        "settings of base": tables.settings("base"),
        "curves": tables.curves(),
        "pages": tables.pages(),
    }.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert pattern.search(text), f"README.md has no place for {name}"
        text = pattern.sub(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
    return {**out, readme: text}


def folders() -> list[Path]:
    return sorted(p.parent for p in (ROOT / "checkpoints").glob("*/results.json"))


def results() -> str:
    rows = [r for r in json.loads((RESULTS / "baselines" / "results.json").read_text()) if r["scale"] == 4]
    return results_table(rows + [r for name in REGRESSION[4] + PRIORS for r in results_of(name)], names=True)


def results_of(name: str) -> list[dict]:
    return json.loads((ROOT / "checkpoints" / name / "results.json").read_text())


def published(scale: int) -> str:
    lines = [f"| ×{scale} | parameters | Set5 | Set14 | BSD100 |", "|---|---|---|---|---|"]
    for name in REGRESSION[scale]:
        rows = {r["set"]: r for r in results_of(name)}
        cells = [f"{rows[s]['psnr']:.2f} / {rows[s]['ssim']:.4f}" for s in ("Set5", "Set14", "BSD100")]
        lines.append(f"| **{name}** | {rows['Set5']['parameters'] // 1000} k | " + " | ".join(cells) + " |")
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in PUBLISHED[scale]])


def adversarial() -> str:
    """The methods that follow a prior, with AffMSE, beside the published networks that follow a discriminator."""
    sets = ("Set5", "Set14", "BSD100")
    lines = ["| ×4 | PSNR Set5 | Set14 | BSD100 | detail, BSD100 | LR samples given back, BSD100 |", "|" + "---|" * 6]
    for name in ("affmse-x4", *PRIORS):
        rows = {r["set"]: r for r in results_of(name)}
        cells = [f"{rows[s]['psnr']:.2f}" for s in sets] + [f"{rows['BSD100']['high_frequency']:.2f}"]
        lines.append(f"| **{name}** | " + " | ".join(cells) + f" | {percent(rows['BSD100']['reproduced'])} |")
    return "\n".join(lines + ["| " + " | ".join(row) + " | | |" for row in PUBLISHED_GANS])


def samples() -> str:
    r = json.loads((RESULTS / "samples.json").read_text())
    return (
        f"{r['samples']} seeds of `affgan-x4` on one picture differ by {r['deviation']:.1f} of 255 levels (mean standard deviation of "
        f"a pixel), and each gives back {percent(r['reproduced'])} of the input's samples."
    )


def tuned() -> str:
    before, after = json.loads((RESULTS / "grass_tuned.json").read_text())
    text = (
        f"Before and after {after['steps']:,} steps on the left three quarters of {before['pictures']} lawns, measured on their right "
        "quarters: "
        f"PSNR {before['psnr']:.2f} → {after['psnr']:.2f} dB, detail {before['high_frequency']:.2f} → "
        f"{after['high_frequency']:.2f} of the truth's; {percent(before['reproduced'])} and {percent(after['reproduced'])} of the "
        "input's samples given back."
    )
    return textwrap.fill(text, 125)


def learned() -> str:
    lines = ["| A⁺ | error of A A⁺ = I | idempotence | asymmetry | seconds |", "|---|---|---|---|---|"]
    for r in json.loads((RESULTS / "learned_pinv.json").read_text())["rows"]:
        seconds = f"{r['seconds']:.1f}" if r["seconds"] else ""
        lines.append(f"| {r['inverse']} | {r['error']:.1e} | {r['idempotence']:.1e} | {r['asymmetry']:.1e} | {seconds} |")
    return "\n".join(lines)


def rows_of(experiment: str) -> dict:
    return json.loads((RESULTS / f"{experiment}.json").read_text())["rows"]


def speed() -> str:
    r = json.loads((RESULTS / "speed.json").read_text())
    p = r["projection"]
    text = (
        f"The projection costs {100 * p['bf16']['ratio']:.1f} % of the generator's time in bf16 and "
        f"{100 * p['float32']['ratio']:.1f} % in float32 (one 512×512 LR picture); reading crops and making their LR side "
        f"costs {100 * r['data']['ratio']:.1f} % of a training step; float32 takes {p['float32_over_bf16']:.2f} times as long "
        f"as bf16 ({r['threads']} threads, torch {r['torch']})."
    )
    return textwrap.fill(text, 125)


def folder() -> str:
    r = json.loads((RESULTS / "folder.json").read_text())
    text = (
        f"{r['pictures']} pictures of {r['width']}×{r['height']} as one folder take {100 / r['command_line']['ratio']:.1f} % of the "
        f"time of a call for each ({r['model']}, {r['threads']} thread{'s' * (r['threads'] > 1)}; `python -m benchmarks.folder`)."
    )
    return textwrap.fill(text, 125)


def large() -> str:
    r = json.loads((RESULTS / "large.json").read_text())
    return textwrap.fill(
        f"{r['size'][0]}×{r['size'][1]} → {r['saved_size'][0]}×{r['saved_size'][1]} with {r['model']} takes at most "
        f"{r['peak_bytes'] / 1e9:.1f} GB of memory, of which {r['saved_samples_bytes'] / 1e9:.1f} GB are the saved samples; "
        f"{percent(r['reproduced'])} of the input's samples are given back by the file (`python -m benchmarks.large`).",
        125,
    )


def peers() -> str:
    r = json.loads((RESULTS / "speed_peers.json").read_text())
    lines = ["| | time, × ours | peak memory, MiB | PSNR, Set5 |", "|---|---|---|---|"]
    for name, row in r["rows"].items():
        if "missing" not in row:
            label = {"engine": "**sr_zoo, affmse-x4**", "engine (fast)": "**sr_zoo, affmse-x4-fast**"}.get(name, name)
            psnr = "" if row["psnr"] is None else f"{row['psnr']:.2f}"
            lines.append(f"| {label} | {r['over_engine'][name]:.2f} | {row['peak_mib']:.0f} | {psnr} |")
    text = (
        f"One {r['side']}×{r['side']} photo, {r['threads']} threads, torch {r['torch']}; bf16 instead of float32 costs at most "
        f"{max(q['most'] for q in r['psnr_lost_in_bf16'].values()):.3f} dB on held-out photos (`python -m benchmarks.speed_peers`)."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 125)])


if __name__ == "__main__":
    sys.exit(main())
