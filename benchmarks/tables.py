"""Tables of README.md about networks: others' beside ours, ours turned eight ways, those that were compared, hours of training."""

import json
import textwrap

from benchmarks.common import RESULTS
from benchmarks.contenders import OURS
from sr_zoo.errors import percent

__all__ = ["curves", "ensemble", "generators", "settings", "weights_of_others"]

SETS = ("Set5", "Set14", "BSD100")


def weights_of_others() -> str:
    """Each network as it is and, in the next line, with our projection; seconds as a multiple of affmse-x4's in float32."""
    results = json.loads((RESULTS / "peers.json").read_text())
    unit = results["rows"]["affmse-x4"]["seconds_per_megapixel"]["float32"]
    lines = [
        "| ×4 | parameters | PSNR / SSIM, Set5 | Set14 | BSD100 | LR-PSNR, saved, BSD100 | LR samples given back, BSD100 | time, "
        "float32 | time, best |",
        "|" + "---|" * 9,
    ]
    for name, row in results["rows"].items():
        taken = row["seconds_per_megapixel"]
        best = min(taken, key=taken.get)
        plain = min(seconds for way, seconds in taken.items() if way.startswith("float32"))
        times = f"{plain / unit:.2f} | {taken[best] / unit:.2f} ({best})"
        for stage in ("before", "after"):
            if stage not in row:
                continue
            rows, own = row[stage], name in OURS
            title = f"**{name}**" if own else name if stage == "before" else f"{name}, with Π"
            cells = [f"{rows[s]['psnr']:.2f} / {rows[s]['ssim']:.4f}" for s in SETS]
            held = f"{rows['BSD100']['lr_psnr_8bit']:.1f} | {percent(rows['BSD100']['reproduced'])}"
            shown = times if own or stage == "before" else "| "
            size = f"{row['parameters'] // 1000} k" if row["parameters"] else ""
            lines.append(f"| {title} | {size} | {' | '.join(cells)} | {held} | {shown} |")
    text = (
        f"Times are multiples of affmse-x4's in float32, network and, of ours, projection, on one photo of {results['side']}×"
        f"{results['side']}, those of others in channels-last where that is faster ({results['threads']} threads, torch "
        f"{results['torch']}; `python -m benchmarks.peers`)."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 125)])


def ensemble() -> str:
    rows = json.loads((RESULTS / "ensemble" / "results.json").read_text())
    found = {(r["model"], r["set"]): r for r in rows}
    lines = [
        "| ×4, `--ensemble` | Set5 | Set14 | BSD100 | LR samples given back, BSD100 | time |",
        "|" + "---|" * 6,
    ]
    for name in OURS:
        plain, eight = ([found[n, s] for s in SETS] for n in (name, f"{name}, ensemble"))
        cells = [f"{b['psnr']:.2f} ({b['psnr'] - a['psnr']:+.2f})" for a, b in zip(plain, eight)]
        times = sum(r["seconds"] for r in eight) / sum(r["seconds"] for r in plain)
        lines.append(f"| {name} | {' | '.join(cells)} | {percent(eight[-1]['reproduced'])} | ×{times:.1f} |")
    return "\n".join(lines)


def pages() -> str:
    rows = {r["model"]: r for r in json.loads((RESULTS / "pages" / "results.json").read_text())}
    fast, base = (rows[name]["psnr"] for name in ("affmse-x4-fast", "affmse-x4"))
    return textwrap.fill(
        f"On {rows['affmse-x4']['images']} pages of text, tables, plots and shapes, in fonts that it has not seen, `affmse-x4` has "
        f"{base:.2f} dB, `affmse-x4-fast`, which learned from photos alone, {fast:.2f} and bicubic {rows['bicubic']['psnr']:.2f} "
        f"(Y-PSNR, ×4; `python -m benchmarks.pages --held-out --pages 20 runs/held/pages && sr-zoo benchmark bicubic affmse-x4 "
        "affmse-x4-fast --data runs/held --sets pages`).",
        125, break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def generators(networks: str = "fast") -> str:
    results = json.loads((RESULTS / "generators" / f"{networks}.json").read_text())
    lines = ["| | parameters | multi-adds, 1280×720 | s/MP bf16 | float32 | s/step | PSNR |", "|" + "---|" * 7]
    for name, row in results["rows"].items():
        lines.append(
            f"| {name} | {row['parameters'] // 1000} k | {row['multi_adds'] / 1e9:.1f} G | "
            f"{row['seconds_per_megapixel_bf16']:.3f} | {row['seconds_per_megapixel_float32']:.3f} | "
            f"{row['seconds_per_step']:.{4 if _on_gpu(results) else 3}f} | {_psnr(row)} |"
        )
    text = (
        f"Each trained for {results['seconds_each']:g} seconds{_trained_by(results)}, PSNR on held-out photos; s/MP on the processor, "
        f"thread{'s' * (results['threads'] > 1)}: {results['threads']} "
        f"(`python -m benchmarks.generators{_options(networks, results)}`)"
    )
    text += ": so short a time favours what learns fast." if results["seconds_each"] < 600 else "."
    return "\n".join([*lines, "", textwrap.fill(text, 125, break_on_hyphens=False)])


def settings(networks: str = "fast") -> str:
    results = json.loads((RESULTS / "settings" / f"{networks}.json").read_text())
    (first, base), *others = results["rows"].items()
    digits = 4 if _on_gpu(results) else 3
    lines = ["| | s/step | steps | PSNR |", "|---|---|---|---|"]
    lines += [f"| {first} | {base['seconds_per_step']:.{digits}f} | {base['steps']} | {base['psnr']:.2f} |"]
    for name, row in others:
        gain = "" if row["psnr"] is None else f" ({row['psnr'] - base['psnr']:+.2f})"
        lines.append(f"| {name} | {row['seconds_per_step']:.{digits}f} | {row['steps']} | {_psnr(row)}{gain} |")
    threads = "" if _on_gpu(results) else f", thread{'s' * (results['threads'] > 1)}: {results['threads']}"
    text = (
        f"*{results['network']}*, {results['seconds_each']:g} seconds each{_trained_by(results)}, PSNR on held-out photos{threads} "
        f"(`python -m benchmarks.settings{_options(networks, results)}`)."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 125, break_on_hyphens=False)])


def _on_gpu(results: dict) -> bool:
    return results.get("accelerator") == "gpu"


def _trained_by(results: dict) -> str:
    return " of a GPU" if _on_gpu(results) else ""


def _options(networks: str, results: dict) -> str:
    return ("" if networks == "fast" else f" --networks {networks}") + (" --accelerator gpu" if _on_gpu(results) else "")


def _psnr(row: dict) -> str:
    return "diverged" if row["psnr"] is None else f"{row['psnr']:.2f}"


def curves() -> str:
    lines = ["| | hours | PSNR, held-out | a doubling brings | ten times the hours would give |", "|" + "---|" * 5]
    for name, row in json.loads((RESULTS / "curves.json").read_text()).items():
        hours, psnr = row["ends"][-1]
        more = f"{row['per_doubling']:+.3f} dB | {row['at_ten_times']:.2f}" if "per_doubling" in row else " | "
        lines.append(f"| {name} | {hours:.2f} | {psnr:.3f} | {more} |")
    return "\n".join(lines)
