"""PSNR on held-out pictures against hours of training: ``python -m benchmarks.curves NAME=RUN[+RUN…][,RUN…] …``, one NAME per model.

RUN is a folder with the metrics.csv and the log of a training, or with the points.json ([[hours, PSNR], …]) that one elsewhere left.
Runs joined by + follow each other; those between commas are trainings of different length from the same start. Only where a training
ends, with the learning rate at zero, does PSNR say what so much of it is worth; from these ends, what each doubling of the hours
brings. Hours are those of an undisturbed run on this machine: steps times the median seconds of one.
"""

import argparse
import csv
import itertools
import json
import math
import re
import statistics
from pathlib import Path

from benchmarks.common import RESULTS, write_json

STEP = re.compile(r"(\d+)/\d+ \[(?:(\d+):)?(\d+):(\d+)<")
STRIDE = 100  # steps between the times that are compared, as the log has whole seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=RUN[+RUN…][,RUN…]")
    parser.add_argument("--output", type=Path, default=RESULTS / "curves.json")
    options = parser.parse_args()
    models = {}
    for text in options.models:
        name, _, runs = text.partition("=")
        models[name] = curve([[Path(run) for run in training.split("+")] for training in runs.split(",")])
    write_json(options.output, models)
    draw(models, options.output.with_suffix(".png"))


def curve(trainings: list[list[Path]]) -> dict:
    """Hours and PSNR at each validation of each training, and at its end; from the longest two, what a doubling of the hours brings,
    in dB, and what ten times the hours would then give."""
    lines = [line(runs) for runs in trainings]
    ends = sorted(points[-1] for points in lines)
    out = {"lines": lines, "ends": ends}
    (before, low), (after, high) = (ends[0], *ends)[-2:]
    if after > before:
        out["per_doubling"] = (high - low) / math.log2(after / before)
        out["at_ten_times"] = high + out["per_doubling"] * math.log2(10)
    return out


def line(runs: list[Path]) -> list[tuple[float, float]]:
    """Hours and PSNR of runs that follow each other."""
    hours, points = 0.0, []
    for run in runs:
        if (run / "points.json").is_file():
            points += [(hours + spent, psnr) for spent, psnr in json.loads((run / "points.json").read_text())]
            hours = points[-1][0]
            continue
        each = seconds_per_step(run / "log") / 3600
        rows = [r for f in run.glob("version_*/metrics.csv") for r in csv.DictReader(f.open()) if r.get("val/psnr")]
        points += sorted((hours + (int(r["step"]) + 1) * each, float(r["val/psnr"])) for r in rows)
        hours = points[-1][0]
    return points


def seconds_per_step(log: Path) -> float:
    """The median, so that pauses do not count."""
    times = {}
    for step, hours, minutes, seconds in STEP.findall(log.read_text(errors="replace")):
        times.setdefault(int(step), 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds))
    steps = sorted(s for s in times if s % STRIDE == 0)
    taken = [(times[b] - times[a]) / (b - a) for a, b in itertools.pairwise(steps) if times[b] > times[a]]
    if not taken:
        raise SystemExit(f"{log}: no progress of {2 * STRIDE} steps or more in it")
    return statistics.median(taken)


def draw(models: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, len(models), figsize=(4.2 * len(models), 3.4), layout="constrained", squeeze=False)
    for axes, (name, model) in zip(panes[0], models.items()):
        for points in model["lines"]:
            axes.plot(*zip(*points), ".-", color="tab:blue", alpha=0.6)
        axes.plot(*zip(*model["ends"]), "o", color="tab:blue", label="end of a training")
        if "at_ten_times" in model:
            hours, psnr = model["ends"][-1]
            axes.plot([hours, 10 * hours], [psnr, model["at_ten_times"]], "--", color="tab:orange", label="if it goes on so")
        axes.set(title=name, xscale="log", xlabel="hours", ylabel="PSNR (dB)")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
