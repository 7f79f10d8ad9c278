"""Networks of others with their own weights, beside ours: ``python -m benchmarks.peers --data SETS --val PHOTOS --imdn DIR …``.

Quality and consistency of each by the protocol of the published tables, as it is and with our projection behind it; then seconds per
megapixel of one photo, for the network and, of ours, the projection, in float32 and in whatever each does best. Everything runs in
a process of its own, in rounds, so that a machine that slows down slows all alike. It downloads nothing and holds no code of others:
say where their checkouts and weights are.

    --imdn DIR        a checkout of Zheng222/IMDN
    --rlfn DIR        a checkout of bytedance/RLFN
    --spandrel CRAFT=team34_craft.pth DCTLSA=X4.pt
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import sr_zoo
from benchmarks.common import RESULTS, named_file, spawn, write_json
from benchmarks.contenders import OURS
from benchmarks.speed_peers import photo
from sr_zoo.backends import prepared
from sr_zoo.benchmark import SETS, Bicubic, benchmark

WAYS = ("float32", "float32, channels last", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the benchmark sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--val", type=Path, metavar="DIR", help="held-out photos, one of which is timed; noise otherwise")
    parser.add_argument("--imdn", type=Path, metavar="DIR", help="checkout of Zheng222/IMDN")
    parser.add_argument("--rlfn", type=Path, metavar="DIR", help="checkout of bytedance/RLFN")
    parser.add_argument(
        "--spandrel", nargs="*", default=[], type=named_file, metavar="NAME=FILE", help="×4 weights that spandrel loads"
    )
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--side", type=int, default=256, help="of the LR picture that is timed (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each timing (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="pictures per process (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    parser.add_argument("--redraw", action="store_true", help="only the picture, from what is in --output")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--picture", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(timed(options) if options.way else measured(options)))
        return
    if not options.redraw:
        write_json(options.output, run(options))
    draw(json.loads(options.output.read_text()), options.output.with_suffix(".png"))


def run(options) -> dict:
    names = [n for n in networks(options) if not options.only or n in options.only]
    where = [x for k in ("imdn", "rlfn", "data") if getattr(options, k) for x in (f"--{k}", str(getattr(options, k)))]
    where += ["--sets", *options.sets] + (["--spandrel", *options.spandrel] if options.spandrel else [])
    rows = {}
    for name in names:
        print(f"{name}: quality", file=sys.stderr, flush=True)
        rows[name] = spawn("peers", name, *where)
    with tempfile.TemporaryDirectory() as folder:
        picture, samples = f"{folder}/picture.npy", {}
        np.save(picture, photo(options))
        for _ in range(options.rounds):
            for name in names:
                for way in ways(name):
                    print(f"{name}: seconds, {way}", file=sys.stderr, flush=True)
                    done = spawn(
                        "peers", name, "--way", way, "--picture", picture, "--repeats", str(options.repeats), *where
                    )
                    samples.setdefault(name, {}).setdefault(way, []).extend(done["seconds"])
    megapixels = 16 * options.side**2 / 1e6
    for name, taken in samples.items():
        rows[name]["seconds_per_megapixel"] = {w: statistics.median(s) / megapixels for w, s in taken.items() if s}
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "side": options.side, "rows": rows}


def networks(options) -> dict:
    """Name → what makes a module of it: RGB in [0, 1] → the same, four times as large."""
    found = {"bicubic": lambda: Bicubic(4), **{name: lambda n=name: sr_zoo.load(n) for name in OURS}}
    if options.imdn:
        found["IMDN"] = lambda: imdn(options.imdn)
    if options.rlfn:
        found["RLFN"] = lambda: rlfn(options.rlfn)
    for text in options.spandrel:
        name, _, file = text.partition("=")
        found[name] = lambda f=file: spandrel_model(f)
    return found


def ways(name: str) -> tuple[str, ...]:
    """Ours prepares itself for what it is given."""
    return ("float32", "bf16") if name in OURS else ("float32",) if name == "bicubic" else WAYS


def imdn(folder: Path) -> nn.Module:
    sys.path.insert(0, str(folder))
    from model.architecture import IMDN

    return restored(IMDN(upscale=4), folder / "checkpoints" / "IMDN_x4.pth")


def rlfn(folder: Path) -> nn.Module:
    sys.path.insert(0, str(folder))
    from model.rlfn import RLFN

    return Scaled(restored(RLFN(upscale=4), folder / "model_zoo" / "rlfn_x4.pth"), 255)


def spandrel_model(file: str) -> nn.Module:
    import spandrel

    return spandrel.ModelLoader("cpu").load_from_file(file).eval().model


def restored(network: nn.Module, weights: Path) -> nn.Module:
    state = torch.load(weights, map_location="cpu", weights_only=True)
    # Trained on several GPUs, some carry the name of what spread them.
    network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    return network.eval()


class Scaled(nn.Module):
    """A network that was trained on values of another range."""

    def __init__(self, network: nn.Module, peak: float):
        super().__init__()
        self.network, self.peak = network, peak

    def forward(self, lr: Tensor) -> Tensor:
        return self.network(lr * self.peak) / self.peak


class AsItIs(nn.Module):
    """A network as the benchmark takes it, which promises nothing."""

    exact, scale = False, 4

    def __init__(self, network: nn.Module):
        super().__init__()
        self.inference_generator, self.downsampler = network, sr_zoo.operators.Downsampler("bicubic", 4)

    def forward(self, lr: Tensor) -> Tensor:
        return self.inference_generator(lr)


class Remembered(nn.Module):
    """Runs once on each picture, though the benchmark asks several times."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.outputs = network, {}

    def forward(self, lr: Tensor) -> Tensor:
        key = (tuple(lr.shape), lr.double().sum().item(), lr.double().square().sum().item())
        if key not in self.outputs:
            self.outputs[key] = self.network(lr)
        return self.outputs[key]


@torch.inference_mode()
def measured(options) -> dict:
    """Rows of the benchmark for a network as it is and with the projection behind it; ours has it always."""
    name, network = options.child, networks(options)[options.child]()
    if name in OURS:
        stages = {"after": network}
    else:
        network = Remembered(network)
        stages = {"before": AsItIs(network), "after": sr_zoo.consistent(network, 4)}
    out = {
        stage: {
            row["set"]: {k: row[k] for k in ("psnr", "ssim", "lr_psnr", "lr_psnr_8bit", "reproduced", "parameters")}
            for row in benchmark([(name, model)], options.sets, options.data)
        }
        for stage, model in stages.items()
    }
    return {"parameters": out["after"][options.sets[0]]["parameters"], **out}


@torch.inference_mode()
def timed(options) -> dict:
    """Seconds from floats to floats, of the network and, of ours, the projection; none where it does not run that way."""
    lr = torch.from_numpy(np.load(options.picture)).permute(2, 0, 1)[None].float() / 255
    network, low = networks(options)[options.child](), options.way == "bf16"
    if options.child in OURS:
        runner, consistency = prepared(network.inference_generator, options.way), network.consistency

        def upscale() -> Tensor:
            return consistency(runner(lr), lr)
    else:
        if options.way != "float32":
            network, lr = (x.to(memory_format=torch.channels_last) for x in (network, lr))

        def upscale() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                return network(lr).float()

    try:
        upscale()
    except RuntimeError as error:
        return {"seconds": [], "why": str(error).splitlines()[0]}
    seconds = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        upscale()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds}


def draw(results: dict, path: Path) -> None:
    """PSNR on Set5 against seconds per megapixel of the best way, the colour saying how far the saved file is from the input."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {name: row for name, row in results["rows"].items() if "Set5" in row["after"]}
    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for number, (name, row) in enumerate(rows.items()):
        quality = row.get("before", row["after"])["Set5"]
        seconds = min(row["seconds_per_megapixel"].values())
        dots = axes.scatter(
            seconds, quality["psnr"], c=[quality["lr_psnr_8bit"]], cmap="viridis", vmin=35, vmax=75, s=90, edgecolors="black"
        )
        axes.annotate(
            name,
            (seconds, quality["psnr"]),
            xytext=(0, -17 if number % 2 else 9),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    figure.colorbar(dots, label="saved file, downsampled, against the input (dB)")
    axes.set(xscale="log", xlabel=f"seconds per megapixel, {results['threads']} threads", ylabel="PSNR on Set5 ×4 (dB)")
    axes.margins(x=0.25, y=0.1)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
