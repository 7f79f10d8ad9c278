"""The published benchmark: sets, runs, table, results.json. One protocol, printed under every table."""

import json
import shutil
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sr_zoo import metrics
from sr_zoo.errors import one_line, percent
from sr_zoo.files import expanded, whole
from sr_zoo.hub import load, model_names
from sr_zoo.metrics import PROTOCOL
from sr_zoo.operators import Downsampler
from sr_zoo.picture import PictureError, read_picture
from sr_zoo.rounding import to_bytes
from sr_zoo.tiles import run_network

__all__ = ["PROTOCOL", "SETS", "benchmark", "format_table", "open_set", "write_results"]

SETS = {"Set5": 5, "Set14": 14, "BSD100": 100}


def benchmark(
    models: list, sets=tuple(SETS), data=None, scales=(4,), precision: str = "float32", progress=None
) -> list[dict]:
    """Measure models on benchmark sets by :data:`PROTOCOL`.

    Args:
        models: names, checkpoint folders, Hub repositories, ``"bicubic"``, ``"pinv"`` (A⁺x alone), or pairs of a name and a
            loaded model.
        sets: folder names; Set5, Set14 and BSD100 are downloaded where ``data`` is None.
        data: folder that holds a folder of PNG files for each set.
        scales: factors for bicubic and pinv; a trained model runs at its own, where that is among them.
        precision: of the network, see :func:`sr_zoo.upscale`.
        progress: called with a line of text now and then.

    Returns:
        Rows with model, scale, set, images, psnr, ssim, lr_psnr, lr_psnr_8bit, reproduced, images_reproduced (share of
        pictures that give back every LR sample), high_frequency (power above half of Nyquist, set's mean, as a share of the
        truth's), seconds, megapixels_per_second, parameters (the generator's),
        precision.

    Raises:
        CheckpointError, PictureError: a model or picture cannot be read.
        ValueError: no model runs at any of the scales.
    """
    names = model_names([m[0] if isinstance(m, tuple) else m for m in models])
    named = list(map(_named, names, models))
    runs = [(name, model, scale) for name, model in named for scale in scales if _runs_at(model, scale)]
    if not runs:
        raise ValueError(f"scale: none of these models runs at {', '.join(map(str, scales))}")
    pictures = {name: open_set(name, data) for name in sets}
    rows = []
    for name, model, scale in runs:
        network = model if isinstance(model, nn.Module) else model(scale)
        if progress and network.downsampler.kernel != "bicubic":
            progress(f"{name} ×{scale}: is for inputs of another kernel; these are bicubic ones, as for all models")
        for set_name, paths in pictures.items():
            if progress:
                progress(f"{name} ×{scale} on {set_name}: {len(paths)} pictures")
            rows.append({"model": name, "scale": scale, "set": set_name, **_measure(network, scale, paths, precision)})
    return rows


def format_table(rows: list[dict]) -> str:
    """The rows as aligned text."""
    columns = [
        ("model", lambda r: r["model"]), ("scale", lambda r: f"×{r['scale']}"), ("set", lambda r: r["set"]),
        ("PSNR", lambda r: f"{r['psnr']:.2f}"), ("SSIM", lambda r: f"{r['ssim']:.4f}"),
        ("LR-PSNR", lambda r: f"{r['lr_psnr']:.1f}"), ("LR-PSNR-8bit", lambda r: f"{r['lr_psnr_8bit']:.2f}"),
        ("reproduced", lambda r: percent(r['reproduced'])),
        ("detail", lambda r: f"{r['high_frequency']:.2f}"), ("seconds", lambda r: f"{r['seconds']:.2f}"),
        ("MP/s", lambda r: f"{r['megapixels_per_second']:.2f}"),
    ]  # fmt: skip
    cells = [[title for title, _ in columns]] + [[show(r) for _, show in columns] for r in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = []
    for line in cells:
        words = [c.ljust(w) if i in (0, 2) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        lines.append("  ".join(words).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def write_results(rows: list[dict], folder: str | Path) -> Path:
    """Write rows to ``folder/results.json``, whole or not at all."""
    path = Path(folder) / "results.json"
    with whole(path) as beside:
        beside.write_text(json.dumps(rows, indent=1) + "\n")
    return path


def open_set(name: str, data: str | Path | None) -> list[Path]:
    """The PNG files of a set in name order; downloaded from the Hub into a cache where ``data`` is None.

    Raises:
        PictureError: no such folder or nothing in it, or a download that failed.
    """
    folder = expanded(data) / name if data is not None else _download(name)
    files = sorted(folder.glob("*.png"))
    if not files:
        raise PictureError(f"{folder}: no PNG files; --data must hold the folders {', '.join(SETS)}")
    return files


def extract_pictures(archive: str | Path, folder: Path) -> None:
    """Unpack the PNG files of a tar archive flat into ``folder``.

    Only regular files are read and only their base names used, so that no entry (``..``, absolute, link, device) can write
    or read elsewhere.

    Raises:
        PictureError: damaged archive, two pictures of one name, or an entry beyond 64 MB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                name = Path(entry.name.replace("\\", "/")).name
                if not entry.isreg() or not name.lower().endswith(".png") or name.startswith("."):
                    continue
                if entry.size > 64 << 20:
                    raise PictureError(f"{archive}: {entry.name} claims {entry.size} bytes, not a benchmark picture")
                if (folder / name).exists():
                    raise PictureError(f"{archive}: two pictures are called {name}")
                (folder / name).write_bytes(tar.extractfile(entry).read())
    except PictureError:
        raise
    except Exception as error:  # each compression has errors of its own
        raise PictureError(f"{archive}: damaged archive ({one_line(error)})") from None


class Bicubic(nn.Module):
    """MATLAB's imresize upwards: Keys' cubic, which is scale² times the transpose of the antialiased one downwards."""

    exact = False

    def __init__(self, scale: int):
        super().__init__()
        self.downsampler = Downsampler("bicubic", scale)

    def forward(self, lr: Tensor) -> Tensor:
        return self.downsampler.scale**2 * self.downsampler.adjoint(lr)


class PseudoInverse(Bicubic):
    """A⁺x alone: the consistent baseline that the methods start from."""

    exact = True

    def forward(self, lr: Tensor) -> Tensor:
        return self.downsampler.pinv(lr)


BASELINES = {"bicubic": Bicubic, "pinv": PseudoInverse}


def _named(name: str, model) -> tuple:
    if isinstance(model, tuple):
        return model
    if model in BASELINES:
        return model, BASELINES[model]
    return name, load(model)


def _runs_at(model, scale: int) -> bool:
    return not isinstance(model, nn.Module) or model.scale == scale


def _timed(network, lr: Tensor, precision: str) -> tuple[Tensor, float]:
    """The output, and the median seconds of three runs after a first one that is not counted."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        sr = run_network(network, lr, precision).cpu()
        times.append(time.perf_counter() - started)
    return sr, statistics.median(times[1:])


def _measure(network, scale: int, paths: list[Path], precision: str) -> dict:
    means = {
        "psnr": metrics.PictureMean(metrics.psnr_y, border=scale),
        "ssim": metrics.PictureMean(metrics.ssim_y, border=scale),
        "lr_psnr": metrics.PictureMean(metrics.lr_psnr, downsampler=network.downsampler),
        "lr_psnr_8bit": metrics.PictureMean(metrics.lr_psnr_8bit, downsampler=network.downsampler),
        "reproduced": metrics.PictureMean(metrics.reproduced, downsampler=network.downsampler),
    }
    power, true_power = 0.0, 0.0
    seconds, complete, pixels = 0.0, 0, 0
    degrade = Downsampler("bicubic", scale)
    for path in paths:
        hr = _as_tensor(read_picture(path, keep_grey=True))
        hr = hr[..., : hr.shape[-2] // scale * scale, : hr.shape[-1] // scale * scale]
        if min(hr.shape[-2:]) < (least := 2 * scale + metrics.WINDOW):
            raise PictureError(f"{path}: too small to be measured at ×{scale}, which takes {least} pixels of either side")
        lr = metrics.round_clip(degrade.A(hr.double())).float()
        sr, taken = _timed(network, lr / 255, precision)
        seconds += taken
        saved = to_bytes(sr, lr, network.downsampler if network.exact else None)
        for name, (picture, target) in {
            "psnr": (saved, hr), "ssim": (saved, hr), "lr_psnr": (sr, lr.double() / 255), "lr_psnr_8bit": (saved, lr),
            "reproduced": (saved, lr),
        }.items():  # fmt: skip
            means[name].update(picture, target)
        power += float(metrics.high_frequency_power(saved))
        true_power += float(metrics.high_frequency_power(hr))
        complete += bool(metrics.reproduced(saved, lr, network.downsampler) == 1)
        pixels += hr.shape[-2] * hr.shape[-1]
    return {
        "images": len(paths),
        **{name: float(mean.compute()) for name, mean in means.items()},
        "images_reproduced": complete / len(paths),
        "high_frequency": power / true_power if true_power else 1.0,
        "seconds": seconds,
        "megapixels_per_second": pixels / 1e6 / seconds,
        # Of what upscales; a discriminator or another prior is not needed for that.
        "parameters": sum(p.numel() for p in getattr(network, "inference_generator", network).parameters()),
        "precision": precision,
    }


def _as_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).reshape(*picture.shape[:2], -1).permute(2, 0, 1)[None]


def _download(name: str) -> Path:
    """The set's folder in the cache, filled from ``eugenesiow/<set>`` on the Hub where it is not there yet."""
    if name not in SETS:
        raise PictureError(f"{name}: not one of {', '.join(SETS)}; give --data DIR that holds a folder of this name")
    folder = expanded("~/.cache/sr_zoo/benchmarks") / name
    if len(list(folder.glob("*.png"))) == SETS[name]:
        return folder
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        archive = hf_hub_download(f"eugenesiow/{name}", f"data/{name}_HR.tar.gz", repo_type="dataset")
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise PictureError(
            f"{name}: cannot be downloaded ({one_line(error)}); give --data DIR that holds {name}/*.png"
        ) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        extract_pictures(archive, Path(beside) / name)
        found = len(list((Path(beside) / name).glob("*.png")))
        if found != SETS[name]:
            raise PictureError(f"{archive}: holds {found} pictures, {name} has {SETS[name]}")
        if folder.exists():  # a part of an older download
            shutil.rmtree(folder)
        (Path(beside) / name).rename(folder)
    return folder
