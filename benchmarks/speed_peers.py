"""Seconds and memory beside others, as ratios measured in one run: ``python -m benchmarks.speed_peers [--quick]``.

Each contender upscales the same 8-bit picture to an 8-bit picture in a process of its own, in rounds, so that a machine that slows
down slows all alike: our engine; the same network as a plain float32 loop; super-image's EDSR-baseline and networks that spandrel
loads, where they are on this machine; bicubic. Then our generator alone, in each precision and backend, beside the time that its
convolutions need at the rate of one large bf16 convolution (the floor).

    pip install --target PEERS --no-deps super-image h5py
    python -m benchmarks.speed_peers --super-image PEERS --spandrel CRAFT=craft.pth --val PHOTOS

Figures of one run compare; those of two runs, or machines, do not. PSNR is that of the results tables, Set5 ×4.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, ROOT, named_file, parsed, spawn, write_json
from benchmarks.contenders import OURS, contenders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small picture, once: only to see that it runs")
    parser.add_argument("--side", type=int, default=256, help="of the LR picture (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contender (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="pictures per process (default: %(default)s)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: of one thread, on a busy machine")
    parser.add_argument("--val", type=Path, metavar="DIR", help="held-out photos; noise and no quality check otherwise")
    parser.add_argument("--super-image", metavar="DIR", help="where that package lies")
    parser.add_argument(
        "--spandrel", nargs="*", default=[], type=named_file, metavar="NAME=FILE", help="×4 weights that spandrel loads"
    )
    parser.add_argument("--only", nargs="*", metavar="NAME", help="of the contenders")
    parser.add_argument("--output", type=Path, default=RESULTS / "speed_peers.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--picture", help=argparse.SUPPRESS)
    options = parsed(parser)
    if options.child:
        print(json.dumps(child(options)))
        return
    if options.quick:
        options.side, options.rounds, options.repeats = 48, 1, 1
    results = run(options)
    print(table(results))
    write_json(options.output, results)


def run(options) -> dict:
    names = [n for n in contenders(options) if not options.only or n in options.only]
    samples: dict[str, list] = {name: [] for name in names}
    given = ["--repeats", str(options.repeats), "--clock", options.clock]
    given += ["--super-image", options.super_image] if options.super_image else []
    given += ["--spandrel", *options.spandrel] if options.spandrel else []
    with tempfile.TemporaryDirectory() as folder:
        picture = f"{folder}/picture.npy"
        np.save(picture, photo(options))
        for _ in range(options.rounds):
            for name in names:
                if not any("missing" in s for s in samples[name]):
                    samples[name].append(spawn("speed_peers", name, "--picture", picture, *given))
    megapixels = 16 * options.side**2 / 1e6
    rows = {n: summary(s, megapixels) for n, s in samples.items()}
    for name, row in rows.items():
        row["psnr"] = psnr(name)
    import torch

    results = {"torch": torch.__version__, "threads": torch.get_num_threads(), "side": options.side, "rows": rows}
    times = {n: r["seconds_per_megapixel"] for n, r in rows.items() if "missing" not in r}
    if "engine" in times:
        results["over_engine"] = {n: t / times["engine"] for n, t in times.items()}
    if options.val:
        results["psnr_lost_in_bf16"] = quality(options)
    return results


def child(options) -> dict:
    """Times and peak memory of one contender in this process; the first picture, with what is made for it, does not count."""
    import torch

    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    try:
        upscale = contenders(options)[options.child]()
    except ImportError as error:
        return {"missing": str(error).splitlines()[0]}
    picture, seconds = np.load(options.picture), []
    with torch.inference_mode():
        for i in range(options.repeats + 1):
            started = clock()
            out = upscale(picture)
            if i:
                seconds.append(clock() - started)
    assert out.dtype == np.uint8 and out.shape == (4 * picture.shape[0], 4 * picture.shape[1], 3), (out.dtype, out.shape)
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def summary(samples: list[dict], megapixels: float) -> dict:
    if "missing" in samples[-1]:
        return samples[-1]
    seconds = statistics.median(t for s in samples for t in s["seconds"])
    return {"seconds_per_megapixel": seconds / megapixels, "peak_mib": max(s["peak_mib"] for s in samples)}


def psnr(name: str) -> float | None:
    """Set5 ×4 as the tables say; None where no table does. Those of other networks were measured by ``benchmarks.peers``."""
    peers = json.loads((RESULTS / "peers.json").read_text())["rows"]
    if (peer := name.removeprefix("spandrel ")) in peers and peer != name:
        return peers[peer]["before"]["Set5"]["psnr"]
    model = "affmse-x4-fast" if "fast" in name else "affmse-x4"
    if name.startswith(("engine", "eager")):
        rows = json.loads((ROOT / "checkpoints" / model / "results.json").read_text())
        return next(r["psnr"] for r in rows if r["set"] == "Set5")
    return None


def photo(options) -> np.ndarray:
    if options.val is None:
        return np.random.default_rng(0).integers(0, 256, (options.side, options.side, 3), dtype=np.uint8)
    return crops(options.val, options.side, 1)[0]


def crops(folder: Path, side: int, count: int) -> list[np.ndarray]:
    from sr_zoo.picture import find_pictures, read_picture

    found = []
    for path in find_pictures(folder):
        picture = read_picture(path)
        if min(picture.shape[:2]) >= side:
            found.append(picture[:side, :side])
        if len(found) == count:
            return found
    raise SystemExit(f"--val {folder}: fewer than {count} pictures of {side}×{side}")


def quality(options) -> dict:
    """Y-PSNR of float32 less that of bf16, dB, per model: mean and largest over held-out pictures."""
    import torch

    import sr_zoo
    from sr_zoo import metrics
    from sr_zoo.backends import prepared

    out = {}
    for name in OURS:
        model, lost = sr_zoo.load(name), []
        for hr in crops(options.val, 4 * options.side // 2, 1 if options.quick else 8):
            hr = torch.from_numpy(hr).permute(2, 0, 1)[None]
            lr = model.degrade(hr / 255)
            psnrs = [
                float(
                    metrics.psnr_y(
                        metrics.quantize(model.consistency(prepared(model.inference_generator, p)(lr), lr)), hr, 4
                    )
                )
                for p in ("float32", "bf16")
            ]
            lost.append(psnrs[0] - psnrs[1])
        out[name] = {"mean": statistics.mean(lost), "most": max(lost)}
    return out


def table(results: dict) -> str:
    lines = [f"{'contender':<34}{'s/MP':>9}{'× engine':>10}{'MiB':>8}{'PSNR':>8}"]
    for name, row in results["rows"].items():
        if "missing" in row:
            lines.append(f"{name:<34}  skipped: {row['missing']}")
            continue
        ratio = results.get("over_engine", {}).get(name, float("nan"))
        figure = "" if row["psnr"] is None else f"{row['psnr']:.2f}"
        lines.append(f"{name:<34}{row['seconds_per_megapixel']:>9.4f}{ratio:>10.2f}{row['peak_mib']:>8.0f}{figure:>8}")
    lines += [f"PSNR lost in bf16, {n}: {v}" for n, v in results.get("psnr_lost_in_bf16", {}).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
