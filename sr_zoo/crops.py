"""Which crops a training sees, and how they are cut: by processors one by one, or a batch at once on the device that trains."""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sr_zoo import metrics
from sr_zoo.operators import Downsampler

__all__ = ["TURNS", "Crops", "Places", "Unpaired", "cut"]

# Bits of a turn: upside down, mirrored, rows for columns.
TURNS = {"none": 0, "mirror": 2, "turns": 7}


class Crops(Dataset):
    """Crop i: a picture, a place in it, one of the flips and rotations, and how far it is reduced, all from (seed, i).

    Args:
        pictures: a :class:`~sr_zoo.cache.PictureCache`.
        size: side of a crop in pixels.
        draw, seed, augment, reduced, reductions: as those of :class:`~sr_zoo.data.SRDataModule`.
    """

    def __init__(
        self,
        pictures,
        size: int,
        draw: str,
        seed: int,
        augment: str = "turns",
        reduced: float = 0.0,
        reductions: tuple[int, ...] = (2,),
    ):
        self.pictures, self.size, self.seed, self.turns = pictures, size, seed, TURNS[augment]
        self.reduced, self.reductions = reduced, tuple(reductions)
        weights = np.array([h * w if draw == "area" else 1 for h, w in pictures.shapes], dtype=np.float64)
        self.shares = np.cumsum(weights / weights.sum())

    def place(self, i: int) -> tuple[int, int, int, int, int]:
        """Picture, how many times larger it is cut and then reduced, row, column, turn."""
        random = np.random.default_rng([self.seed, i])
        which = min(int(np.searchsorted(self.shares, random.random())), len(self.shares) - 1)
        height, width = self.pictures.shapes[which]
        # Nothing is drawn without need: crop i stays what it was before there was a choice.
        factor = 1
        if self.reduced > 0 and random.random() < self.reduced:
            fitting = [f for f in self.reductions if min(height, width) >= f * self.size]
            factor = fitting[random.integers(len(fitting)) if len(fitting) > 1 else 0] if fitting else 1
        size = factor * self.size
        top, left = random.integers(0, height - size + 1), random.integers(0, width - size + 1)
        return which, factor, top, left, random.integers(8) & self.turns

    def __getitem__(self, i: int) -> dict:
        which, factor, top, left, turn = self.place(i)
        size = factor * self.size
        crop = self.pictures[which][top : top + size, left : left + size].transpose(2, 0, 1)
        if turn & 1:
            crop = crop[:, ::-1]
        if turn & 2:
            crop = crop[:, :, ::-1]
        if turn & 4:
            crop = crop.transpose(0, 2, 1)
        hr = torch.from_numpy(np.ascontiguousarray(crop))
        return {"hr": _reduced(hr, factor)}


class Places(Crops):
    """Where the same crops lie, for :func:`cut`."""

    def __getitem__(self, i: int) -> dict:
        which, factor, top, left, turn = self.place(i)
        width = self.pictures.shapes[which][1]
        start = self.pictures.starts[which] + 3 * (top * width + left)
        return {"place": torch.tensor([start, width, turn, factor])}


class Unpaired(Dataset):
    """An HR crop and an LR crop that do not belong together."""

    def __init__(self, hr: Crops, lr: Crops):
        self.hr, self.lr = hr, lr

    def __getitem__(self, i: int) -> dict:
        return {**self.hr[i], "lr": self.lr[i]["hr"]}


def cut(pixels: Tensor, places: Tensor, size: int) -> Tensor:
    """The crops of a batch of :class:`Places`, as :class:`Crops` would cut them one by one.

    Args:
        pixels: the samples of all pictures, uint8, on any device.
        places: ``(batch, 4)`` on the processor: first sample, width of the picture, turn, how many times it is reduced.
        size: side of a crop in pixels.

    Returns:
        uint8 ``(batch, 3, size, size)``, on the device of ``pixels``.
    """
    crops = torch.empty(len(places), 3, size, size, dtype=torch.uint8, device=pixels.device)
    # Chosen on the processor: a GPU would have to be waited for.
    for factor in sorted(set(places[:, 3].tolist())):
        chosen = (places[:, 3] == factor).nonzero()[:, 0]
        some = _gathered(pixels, _sent(places[chosen], pixels), factor * size)
        crops.index_copy_(0, _sent(chosen, pixels), _reduced(some, factor))
    return crops


def _gathered(pixels: Tensor, places: Tensor, size: int) -> Tensor:
    start, width, turn = places[:, :3, None].unbind(1)  # (batch, 1) each
    along = torch.arange(size, device=pixels.device)
    # A crop whose rows become columns is mirrored before, so each flag stays with its own axis of the picture.
    rows = torch.where(turn & 1 > 0, size - 1 - along, along) * width
    columns = torch.where(turn & 2 > 0, size - 1 - along, along)
    swapped = (turn & 4 > 0)[..., None]
    down, right = rows[:, :, None] + columns[:, None, :], rows[:, None, :] + columns[:, :, None]
    first = start[..., None] + 3 * torch.where(swapped, right, down)
    return pixels[first[:, None] + torch.arange(3, device=pixels.device)[:, None, None]]


def _reduced(crops: Tensor, factor: int) -> Tensor:
    return crops if factor == 1 else metrics.round_clip(_reducer(factor).A(crops.float()), 255).to(torch.uint8)


@functools.cache
def _reducer(factor: int) -> Downsampler:
    return Downsampler("bicubic", factor)


def _sent(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.pin_memory().to(like.device, non_blocking=True) if like.is_cuda else numbers
