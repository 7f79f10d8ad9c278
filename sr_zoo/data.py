"""SRDataModule: HR crops for training, whole HR pictures for validation, out of one memory-mapped cache.

It yields HR pictures only. The LR ones are made by the model's own operator, so that scale and kernel are said once.
"""

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sr_zoo.cache import JoinedPictures, PictureCache
from sr_zoo.crops import TURNS, Crops, Places, Unpaired, cut
from sr_zoo.files import lies_in, same_place
from sr_zoo.picture import PictureError

__all__ = ["PictureCache", "SRDataModule"]

SMALLEST = 32  # pixels of either side of a held-out picture


class SRDataModule(pl.LightningDataModule):
    """Pictures from folders, for every method.

    Batches are ``{"hr": uint8 (batch, 3, height, width)}``: crops of ``crop_size`` for training, one whole picture at a
    time for validation. Crop number i of a seed is always the same crop, so a resumed training sees what it would have.
    With ``train_lr`` training batches hold ``"lr"`` too, crops that have nothing to do with the HR ones: unpaired training.

    Args:
        train: folder of training pictures, searched recursively.
        train_lr: folder of LR pictures whose originals nobody has; the model then learns from these and from ``train``
            as examples of what HR pictures look like. For objectives that need no pairs.
        also: folders of further training pictures, such as drawn pages (``benchmarks/pages.py``); none of them is held out.
        val: folder of held-out pictures; never a benchmark set.
        batch_size: crops in a batch.
        crop_size: side of a crop in HR pixels, a multiple of the model's scale.
        draw: ``"picture"``: every picture is as likely as any other; ``"area"``: in proportion to its pixels.
        hold_out: without ``val``, so many pictures of ``train`` are held out for validation and never trained on: always the
            same ones, chosen by their names.
        val_size: side of the middle of a held-out picture that is looked at, in HR pixels; 0 for all of it.
        reduced: share of training crops that are cut larger and reduced (MATLAB's bicubic), of pictures that are large enough:
            sharper, with less of what cameras and compression left. 0…1.
        reductions: how many times larger these are cut, integers of 2 or more: each as likely as any other that fits its picture.
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
        reductions: tuple[int, ...] = (2,),
        also: list[str] | None = None,
    ):
        super().__init__()
        self.train_lr, self.also, self.hold_out, self.val_size = train_lr, list(also or ()), hold_out, val_size
        self.val_pictures = None
        self.train, self.val, self.batch_size, self.crop_size = train, val, batch_size, crop_size
        self.draw, self.augment, self.reduced, self.reductions = draw, augment, reduced, tuple(reductions)
        self.num_workers, self.cache_dir, self.seed, self.on_device = num_workers, cache_dir, seed, on_device
        self._pixels = None
        if draw not in ("picture", "area"):
            raise ValueError(f"data.draw: {draw!r} is not 'picture' or 'area'")
        if augment not in TURNS:
            raise ValueError(f"data.augment: {augment!r} is not 'turns', 'mirror' or 'none'")
        if not 0 <= reduced <= 1:
            raise ValueError(f"data.reduced: {reduced!r} is not a share between 0 and 1")
        if not self.reductions or not all(isinstance(f, int) and f >= 2 for f in self.reductions):
            raise ValueError(f"data.reductions: {reductions!r} is not a list of integers of 2 or more")
        if on_device and train_lr is not None:
            raise ValueError("data.on_device: crops for unpaired training (data.train_lr) are cut by processors only")

    def setup(self, stage: str) -> None:
        hold_out = self.hold_out if self.val is None else 0
        if stage == "fit" or hold_out:
            if self.train is None:
                raise PictureError("data.train: no folder of training pictures given")
            self._check_held_out(hold_out)
            # Before those too small for a crop are left out: the same are held out whatever the crops.
            pictures = PictureCache(self.train, self.cache_dir, SMALLEST if hold_out else self.crop_size)
            if hold_out:
                pictures, self.val_pictures = pictures.split(hold_out)
            self.train_pictures = pictures.at_least(self.crop_size)
        if stage == "fit" and self.also:
            others = [PictureCache(folder, self.cache_dir, self.crop_size) for folder in self.also]
            self.train_pictures = JoinedPictures([self.train_pictures, *others])
        if stage == "fit" and self.train_lr is not None:
            self.lr_crop_size = self.crop_size // self.trainer.lightning_module.scale
            self.lr_pictures = PictureCache(self.train_lr, self.cache_dir, self.lr_crop_size)
        if self.val is not None:
            self.val_pictures = PictureCache(self.val, self.cache_dir, SMALLEST)
        elif stage != "fit" and not hold_out:
            raise PictureError("data.val: no folder of held-out pictures given")

    def _check_held_out(self, hold_out: int) -> None:
        """Nothing held out shall lie where it is trained on, neither in ``train`` nor in ``also``."""
        for folder in (self.train, *self.also):
            if self.val is not None and lies_in(self.val, folder):
                raise PictureError(f"data.val: {self.val} lies in {folder}, all of which is trained on; move it elsewhere")
        held_out = self.train if hold_out else self.val
        for folder in self.also:
            if held_out is not None and (
                same_place(folder, held_out) or lies_in(folder, held_out) or lies_in(held_out, folder)
            ):
                raise PictureError(f"data.also: {folder} shares pictures with {held_out}, of which some are held out")

    def train_dataloader(self) -> DataLoader:
        kind = Places if self.on_device else Crops
        crops = kind(self.train_pictures, self.crop_size, self.draw, self.seed, self.augment, self.reduced, self.reductions)
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
