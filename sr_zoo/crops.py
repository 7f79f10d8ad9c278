"""Which crops a training sees, and how they are cut: by processors one by one, or a batch at once on the device that trains."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sr_zoo import metrics
from sr_zoo.operators import Downsampler

__all__ = ["TURNS", "Crops", "Places", "Unpaired", "cut"]

# Bits of a turn: upside down, mirrored, rows for columns.
TURNS = {"none": 0, "mirror": 2, "turns": 7}
HALF = Downsampler("bicubic", 2)


class Crops(Dataset):
    """Crop i: a picture, a place in it, one of the flips and rotations, and whether it is reduced, all from (seed, i).

    Args:
        pictures: a :class:`~sr_zoo.data.PictureCache`.
        size: side of a crop in pixels.
        draw, seed, augment, reduced: as those of :class:`~sr_zoo.data.SRDataModule`.
    """

    def __init__(self, pictures, size: int, draw: str, seed: int, augment: str = "turns", reduced: float = 0.0):
        self.pictures, self.size, self.seed, self.turns, self.reduced = pictures, size, seed, TURNS[augment], reduced
        weights = np.array([h * w if draw == "area" else 1 for h, w in pictures.shapes], dtype=np.float64)
        self.shares = np.cumsum(weights / weights.sum())

    def place(self, i: int) -> tuple[int, bool, int, int, int]:
        """Picture, whether it is cut at twice the size and reduced, row, column, turn."""
        random = np.random.default_rng([self.seed, i])
        which = min(int(np.searchsorted(self.shares, random.random())), len(self.shares) - 1)
        height, width = self.pictures.shapes[which]
        # Nothing is drawn without need: crop i stays what it was before there was a choice.
        twice = self.reduced > 0 and random.random() < self.reduced and min(height, width) >= 2 * self.size
        size = 2 * self.size if twice else self.size
        top, left = random.integers(0, height - size + 1), random.integers(0, width - size + 1)
        return which, twice, top, left, random.integers(8) & self.turns

    def __getitem__(self, i: int) -> dict:
        which, twice, top, left, turn = self.place(i)
        size = 2 * self.size if twice else self.size
        crop = self.pictures[which][top : top + size, left : left + size].transpose(2, 0, 1)
        if turn & 1:
            crop = crop[:, ::-1]
        if turn & 2:
            crop = crop[:, :, ::-1]
        if turn & 4:
            crop = crop.transpose(0, 2, 1)
        hr = torch.from_numpy(np.ascontiguousarray(crop))
        return {"hr": _halved(hr) if twice else hr}


class Places(Crops):
    """Where the same crops lie, for :func:`cut`."""

    def __getitem__(self, i: int) -> dict:
        which, twice, top, left, turn = self.place(i)
        width = self.pictures.shapes[which][1]
        start = self.pictures.starts[which] + 3 * (top * width + left)
        return {"place": torch.tensor([start, width, turn, twice])}


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
        places: ``(batch, 4)`` on the processor: first sample, width of the picture, turn, whether it is reduced.
        size: side of a crop in pixels.

    Returns:
        uint8 ``(batch, 3, size, size)``, on the device of ``pixels``.
    """
    crops = torch.empty(len(places), 3, size, size, dtype=torch.uint8, device=pixels.device)
    for twice in (False, True):
        # Chosen on the processor: a GPU would have to be waited for.
        chosen = (places[:, 3] == twice).nonzero()[:, 0]
        if len(chosen):
            some = _gathered(pixels, _sent(places[chosen], pixels), 2 * size if twice else size)
            crops.index_copy_(0, _sent(chosen, pixels), _halved(some) if twice else some)
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


def _halved(crops: Tensor) -> Tensor:
    return metrics.round_clip(HALF.A(crops.float()), 255).to(torch.uint8)


def _sent(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.pin_memory().to(like.device, non_blocking=True) if like.is_cuda else numbers
