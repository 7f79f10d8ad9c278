"""SRDataModule: HR crops for training, whole HR pictures for validation, out of one memory-mapped cache.

It yields HR pictures only. The LR ones are made by the model's own operator, so that scale and kernel are said once.
"""

import copy
import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sr_zoo.crops import TURNS, Crops, Places, Unpaired, cut
from sr_zoo.files import expanded, whole
from sr_zoo.picture import PictureError, find_pictures, read_picture

__all__ = ["PictureCache", "SRDataModule"]


class SRDataModule(pl.LightningDataModule):
    """Pictures from folders, for every method.

    Batches are ``{"hr": uint8 (batch, 3, height, width)}``: crops of ``crop_size`` for training, one whole picture at a
    time for validation. Crop number i of a seed is always the same crop, so a resumed training sees what it would have.
    With ``train_lr`` training batches hold ``"lr"`` too, crops that have nothing to do with the HR ones: unpaired training.

    Args:
        train: folder of training pictures, searched recursively.
        train_lr: folder of LR pictures whose originals nobody has; the model then learns from these and from ``train``
            as examples of what HR pictures look like. For objectives that need no pairs.
        val: folder of held-out pictures; never a benchmark set.
        batch_size: crops in a batch.
        crop_size: side of a crop in HR pixels, a multiple of the model's scale.
        draw: ``"picture"``: every picture is as likely as any other; ``"area"``: every place of every picture is.
        hold_out: without ``val``, so many pictures of ``train`` are held out for validation and never trained on: always the
            same ones, chosen by their names.
        val_size: side of the middle of a held-out picture that is looked at, in HR pixels; 0 for all of it.
        reduced: share of training crops that are cut at twice the size and reduced to it (MATLAB's bicubic), of pictures that are
            large enough: sharper, with less of what cameras and compression left. 0…1.
        augment: ``"turns"``: the eight flips and rotations; ``"mirror"``: left and right only, for faces or text; ``"none"``.
        num_workers: processes that cut crops; 0 suffices on processors, since they are cut from decoded memory-mapped pictures.
        on_device: hold all training pictures, decoded, in the memory of the device that trains, and cut the same crops there: for
            a GPU that learns faster than processors can cut.
        cache_dir: where decoded pictures are kept.
        seed: of the crops.

    Raises:
        PictureError: a folder is missing or holds no usable picture, or too few to hold any out (when training or validation
            starts).
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        batch_size: int = 16,
        crop_size: int = 128,
        draw: str = "picture",
        num_workers: int = 0,
        cache_dir: str = "~/.cache/sr_zoo/pictures",
        seed: int = 0,
        train_lr: str | None = None,
        augment: str = "turns",
        hold_out: int = 0,
        val_size: int = 0,
        reduced: float = 0.0,
        on_device: bool = False,
    ):
        super().__init__()
        self.train_lr, self.hold_out, self.val_size = train_lr, hold_out, val_size
        self.val_pictures = None
        self.train, self.val, self.batch_size, self.crop_size = train, val, batch_size, crop_size
        self.draw, self.augment, self.reduced = draw, augment, reduced
        self.num_workers, self.cache_dir, self.seed, self.on_device = num_workers, cache_dir, seed, on_device
        self._pixels = None
        if draw not in ("picture", "area"):
            raise ValueError(f"data.draw: {draw!r} is not 'picture' or 'area'")
        if augment not in TURNS:
            raise ValueError(f"data.augment: {augment!r} is not 'turns', 'mirror' or 'none'")
        if not 0 <= reduced <= 1:
            raise ValueError(f"data.reduced: {reduced!r} is not a share between 0 and 1")
        if on_device and train_lr is not None:
            raise ValueError("data.on_device: crops for unpaired training (data.train_lr) are cut by processors only")

    def setup(self, stage: str) -> None:
        hold_out = self.hold_out if self.val is None else 0
        if stage == "fit" or hold_out:
            if self.train is None:
                raise PictureError("data.train: no folder of training pictures given")
            self.train_pictures = PictureCache(self.train, self.cache_dir, self.crop_size)
            if hold_out:
                self.train_pictures, self.val_pictures = self.train_pictures.split(hold_out)
        if stage == "fit" and self.train_lr is not None:
            self.lr_crop_size = self.crop_size // self.trainer.lightning_module.scale
            self.lr_pictures = PictureCache(self.train_lr, self.cache_dir, self.lr_crop_size)
        if self.val is not None:
            self.val_pictures = PictureCache(self.val, self.cache_dir, 32)
        elif stage != "fit" and not hold_out:
            raise PictureError("data.val: no folder of held-out pictures given")

    def train_dataloader(self) -> DataLoader:
        kind = Places if self.on_device else Crops
        crops = kind(self.train_pictures, self.crop_size, self.draw, self.seed, self.augment, self.reduced)
        if self.train_lr is not None:
            lr = Crops(self.lr_pictures, self.lr_crop_size, self.draw, self.seed + 1, self.augment)
            crops = Unpaired(crops, lr)
        # One epoch is the whole training.
        sampler = _From(self.trainer.global_step * self.batch_size, self.trainer.max_steps * self.batch_size)
        return DataLoader(
            crops, self.batch_size, sampler=sampler, num_workers=self.num_workers, persistent_workers=self.num_workers > 0
        )

    def transfer_batch_to_device(self, batch: dict, device: torch.device, dataloader_idx: int) -> dict:
        if "place" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._pixels is None or self._pixels.device != device:
            self._pixels = torch.from_numpy(self.train_pictures.pixels).to(device)
        return {"hr": cut(self._pixels, batch["place"], self.crop_size)}

    def val_dataloader(self):
        return [] if self.val_pictures is None else DataLoader(_Whole(self.val_pictures, self.val_size), batch_size=1)

    test_dataloader = val_dataloader


class PictureCache:
    """The pictures of a folder, decoded once into a memory-mapped file; ``cache[i]`` is uint8 ``(height, width, 3)``.

    ``names[i]`` is its path below the folder.

    The cache is made anew when a file's size or time of change differs, and it is never seen half-written. Broken and too
    small files are named in a warning and skipped.

    Args:
        folder: searched recursively.
        cache_dir: made if missing.
        smallest: pixels that either side must have.

    Raises:
        PictureError: no such folder, or no usable picture in it.
    """

    def __init__(self, folder: str | Path, cache_dir: str | Path, smallest: int = 1):
        self.folder = folder = expanded(folder)
        cache_dir = expanded(cache_dir)
        files = find_pictures(folder)
        stamps = [[str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:20]
        index, self.path = cache_dir / f"{key}.json", cache_dir / f"{key}.bin"
        known = _known(index)
        if known.get("stamps") != stamps or not self.path.is_file() or known.get("bytes") != self.path.stat().st_size:
            known = {"stamps": stamps, **_decode(folder, files, self.path)}
            with whole(index) as beside:
                beside.write_text(json.dumps(known))
        large = [i for i, shape in enumerate(known["shapes"]) if min(shape) >= smallest]
        self.names, self.shapes = ([known[key][i] for i in large] for key in ("names", "shapes"))
        self.starts = np.cumsum([0] + [h * w * 3 for h, w in known["shapes"]])[large]
        self.skipped = known["skipped"] + [
            f"{folder / name}: {width}×{height} pixels, at least {smallest} on either side are needed"
            for name, (height, width) in zip(known["names"], known["shapes"])
            if min(height, width) < smallest
        ]
        for reason in self.skipped:
            warnings.warn(f"skipped {reason}", stacklevel=2)
        if self.skipped:
            warnings.warn(f"{folder}: {len(self.shapes)} pictures used, {len(self.skipped)} skipped", stacklevel=2)
        if not self.shapes:
            raise PictureError(f"{folder}: no usable picture ({len(files)} files, {len(self.skipped)} skipped)")
        # Opened now: what another process decodes later into this path shall not be read with these offsets. Copy on write, as
        # torch wants what could be written to; nothing of it reaches the file.
        self._data, self._bytes = np.memmap(self.path, np.uint8, "c"), known["bytes"]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        if self._data is None:  # in a worker process
            self._data = np.memmap(self.path, np.uint8, "c")
            if self._data.size != self._bytes:
                raise PictureError(f"{self.folder}: its pictures were decoded anew meanwhile; start the training again")
        start, (height, width) = self.starts[i], self.shapes[i]
        return self._data[start : start + height * width * 3].reshape(height, width, 3)

    @property
    def pixels(self) -> np.ndarray:
        """All samples of all pictures, one after the other; picture i begins at ``starts[i]``."""
        return self._data

    def split(self, count: int) -> tuple["PictureCache", "PictureCache"]:
        """All but ``count`` of the pictures, and these, out of the same file.

        Those are chosen by a hash of their names: neighbours in a folder are alike, and a picture more or less changes little.

        Raises:
            PictureError: nothing would be left.
        """
        if not 0 < count < len(self):
            raise PictureError(f"{self.folder}: {count} of {len(self)} usable pictures cannot be held out")
        order = sorted(range(len(self)), key=lambda i: hashlib.sha256(os.fsencode(self.names[i])).digest())
        return self._part(sorted(order[count:])), self._part(sorted(order[:count]))

    def _part(self, which: list[int]) -> "PictureCache":
        part = copy.copy(self)
        part.names, part.shapes = [self.names[i] for i in which], [self.shapes[i] for i in which]
        part.starts, part._data = self.starts[which], self._data
        return part

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_data": None}


def _known(index: Path) -> dict:
    """What an earlier run wrote; a cache that cannot be read is made anew."""
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) and {"stamps", "names", "shapes", "skipped", "bytes"} <= set(known) else {}


def _decode(folder: Path, files: list[Path], target: Path) -> dict:
    names, shapes, skipped = [], [], []
    with whole(target) as beside, open(beside, "wb") as out:
        for path, picture in _read(files):
            if isinstance(picture, PictureError):
                skipped.append(str(picture))
                continue
            out.write(picture.data)
            names.append(path.relative_to(folder).as_posix())
            shapes.append([int(side) for side in picture.shape[:2]])
        size = out.tell()
    return {"names": names, "shapes": shapes, "skipped": skipped, "bytes": size}


def _read(files: list[Path]):
    """Each file and its picture, or why there is none; several are decoded at a time, few are held."""

    def read(path: Path):
        try:
            return path, read_picture(path)
        except PictureError as error:
            return path, error

    at_once = os.cpu_count() or 1
    with ThreadPoolExecutor(at_once) as pool:
        for i in range(0, len(files), 2 * at_once):
            yield from pool.map(read, files[i : i + 2 * at_once])


class _Whole(Dataset):
    """Each picture once; of large ones the middle, where ``size`` is given."""

    def __init__(self, pictures: PictureCache, size: int):
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> dict:
        picture = self.pictures[i]
        if self.size:
            top, left = (max(0, (n - self.size) // 2) for n in picture.shape[:2])
            picture = picture[top : top + self.size, left : left + self.size]
        return {"hr": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))}


class _From(Sampler):
    """start, start + 1, …, end − 1, with the length of the whole: Lightning counts what was done before a resume."""

    def __init__(self, start: int, end: int):
        self.start, self.end = start, end

    def __iter__(self):
        return iter(range(self.start, self.end))

    def __len__(self) -> int:
        return self.end
