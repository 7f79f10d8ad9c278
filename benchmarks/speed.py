"""Speed as ratios measured in one run: ``python -m benchmarks.speed [--quick]``; writes benchmarks/results/speed.json.

- the projection beside the generator it follows, on one 512×512 LR picture, in each precision;
- the data pipeline beside the training step that it feeds, with the recipe of affmse-x4;
- bf16 beside float32, and blocks beside one dense matrix, which settle the defaults.

Ratios of medians; seconds are given for orientation only and mean nothing on another machine.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml

import sr_zoo
from benchmarks.common import RESULTS, ROOT, parsed, write_json
from sr_zoo import SRDataModule, _bands
from sr_zoo.crops import Crops
from sr_zoo.optimizers import make_optimizers
from sr_zoo.picture import write_picture
from sr_zoo.tiles import bf16_is_fast, run_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small pictures, few repetitions: only to see that it runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "speed.json")
    options = parsed(parser)
    side, repeats = (64, 2) if options.quick else (512, 7)
    model = sr_zoo.load("affmse-x4")
    results = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bf16_instructions": bf16_is_fast(),
        "projection": projection(model, side, repeats),
        "data": data(model, repeats if options.quick else 30),
        "blocks": blocks(model, (32, 64) if options.quick else (32, 64, 128, 256), repeats),
    }
    for name, value in results.items():
        print(f"{name}: {value}")
    write_json(options.output, results)


@torch.inference_mode()
def projection(model, side: int, repeats: int) -> dict:
    lr = torch.rand(1, 3, side, side)
    out = {}
    for precision, enabled in (("bf16", True), ("float32", False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            inputs = lr.contiguous(memory_format=torch.channels_last)
            raw = model.generator(inputs)
            network, project = medians(repeats, lambda i=inputs: model.generator(i), lambda r=raw: model.consistency(r, lr))
        out[precision] = {"generator_seconds": network, "projection_seconds": project, "ratio": project / network}
    whole = medians(repeats, lambda: run_network(model, lr, "bf16"), lambda: run_network(model, lr, "float32"))
    out["float32_over_bf16"] = whole[1] / whole[0]
    return out


def data(model, repeats: int) -> dict:
    """Cutting a batch, making its LR side, and the whole step they feed, with the batch and optimiser of affmse-x4's recipe."""
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        for i in range(4):
            write_picture(Path(folder) / f"photos/{i}.png", random.integers(0, 256, (720, 1080, 3), dtype=np.uint8))
        recipe = yaml.safe_load((ROOT / "checkpoints" / "affmse-x4" / "recipe.yaml").read_text())["data"]
        recipe["also"] = None  # it takes as long whichever pictures are cut
        module = SRDataModule(f"{folder}/photos", cache_dir=f"{folder}/cache", **recipe)
        module.setup("fit")
        crops = Crops(module.train_pictures, module.crop_size, module.draw, 0, module.augment, module.reduced)
        numbers = iter(range(10**9))

        def cut() -> torch.Tensor:
            return torch.stack([crops[next(numbers)]["hr"] for _ in range(module.batch_size)])

        hr = cut().float() / 255
        model.train()
        optimizers = make_optimizers(model.generator, "muon", 1e-6)

        def step() -> None:
            batch = cut().float() / 255
            lr = model.degrade(batch)
            model.generator.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
                sr = model(lr)
            model.objective(sr, batch, lr).backward()
            for optimizer in optimizers:
                optimizer.step()

        cutting, degrading, whole = medians(repeats, cut, lambda: model.degrade(hr), step)
        model.eval()
    return {
        "cut_seconds": cutting, "degrade_seconds": degrading, "step_seconds": whole, "ratio": (cutting + degrading) / whole,
    }  # fmt: skip


def blocks(model, sides, repeats: int) -> dict:
    """A projection by blocks over one by dense matrices, per LR side; above 1, dense is faster."""
    out = {}
    for side in sides:
        raw, lr = torch.rand(16, 3, 4 * side, 4 * side), torch.rand(16, 3, side, side)
        seconds = {}
        for name, limit in (("blocks", 0), ("dense", 10**6)):
            _bands.DENSE, before = limit, _bands.DENSE
            model.downsampler.project(raw, lr)
            (seconds[name],) = medians(repeats, lambda r=raw, x=lr: model.downsampler.project(r, x))
            _bands.DENSE = before
        out[side] = seconds["blocks"] / seconds["dense"]
    return out


def medians(repeats: int, *functions) -> list[float]:
    """Median seconds of each, run in turn so that a machine that slows down slows all alike."""
    times = [[] for _ in functions]
    for i in range(repeats + 1):
        for function, taken in zip(functions, times):
            started = time.perf_counter()
            function()
            if i:
                taken.append(time.perf_counter() - started)
    return [statistics.median(t) for t in times]


if __name__ == "__main__":
    main()
