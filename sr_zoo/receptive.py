"""How far a network looks: what tiles have to overlap by, found from the network itself."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["influence_radius", "receptive_field"]

RADII = (8, 16, 24, 32, 48)  # that are tried
# Operations on the largest picture that is tried: some seconds of a processor core in float64.
MOST_WORK = 2e10


@torch.inference_mode()
def receptive_field(module: nn.Module, scale: int, limit: int = RADII[-1]) -> int | None:
    """LR pixels on which one LR pixel's block of outputs depends, in each direction: the exact overlap of tiles.

    One LR pixel is made NaN. Convolutions, activations, attention and pooling all pass NaN on, whatever their weights, so
    what comes out as NaN is all that this pixel reaches, dead activations included. Then the network is run on crops by a
    row and by a column, whose outputs must be those of the whole picture from that distance on: so what depends on the
    place (windows of attention, patches, a grid of strides) or swallows NaN is found out as well. All in float64 on a copy.

    Args:
        module: ``(batch, 3, h, w)`` in [0, 1] → ``(batch, 3, scale·h, scale·w)``, of any h and w.
        scale: integer factor.
        limit: the largest radius that is looked for.

    Returns:
        The radius; None where the network needs the whole picture, looks farther than ``limit``, depends on where in the
        picture a pixel lies, or is too large to be tried.
    """
    network = copy.deepcopy(module).cpu().double().eval()
    work = 0.0
    for radius in sorted({min(r, limit) for r in RADII}):
        size = 2 * radius + 3
        if work * size**2 > MOST_WORK:
            return None
        picture = _picture(size).double()
        picture[..., size // 2, size // 2] = torch.nan
        try:
            with FlopCounterMode(display=False) as counter:
                found = _reach(network(picture).isnan().any(1)[0], scale, size // 2)
        except RuntimeError:
            # It computes in single precision only, where a convolution may mix what it keeps apart in double.
            return None
        if found <= radius:
            return found if _same_everywhere(network, _picture(2 * found + 3).double(), scale, found) else None
        work = counter.get_total_flops() / size**2
    return None


@torch.inference_mode()
def influence_radius(module: nn.Module, scale: int, tolerance: float = 1e-4) -> int | None:
    """LR pixels from which on the rest of the picture changes an output by less than ``tolerance``: a measured overlap.

    For networks that are so deep that :func:`receptive_field` finds no radius, of whose reach far the most weighs nothing.
    It is measured on one picture, made of noise of all sizes, in float32, whose rest is cut off, made black or made white; on
    others it may be more.

    Args:
        module, scale: as for :func:`receptive_field`.
        tolerance: largest difference at an output in [0, 1].

    Returns:
        The radius, of a few that are tried; None where the farthest still changes more, as in networks that depend on the
        whole picture or on where in it a pixel lies.
    """
    network = copy.deepcopy(module).cpu().float().eval()
    picture = _picture(RADII[-1] + 24)
    whole, found = network(picture), None
    for radius in reversed(RADII):
        if not _influence(network, picture, whole, scale, radius) < tolerance:
            break
        found = radius
    return found


def _reach(reached: Tensor, scale: int, middle: int) -> int:
    """The farthest LR pixel with a NaN in its block, in the larger of both directions; one too many where it is at the border."""
    blocks = reached.unflatten(0, (-1, scale)).unflatten(2, (-1, scale)).any(3).any(1)
    places = blocks.nonzero()
    if not len(places):
        return 0
    return int((places - middle).abs().max())


def _same_everywhere(network: nn.Module, picture: Tensor, scale: int, radius: int) -> bool:
    """Whether a picture that begins a row or a column later comes out the same, ``radius`` away from where it begins."""
    whole = network(picture)
    crops = (network(picture.narrow(dim, 1, picture.shape[dim] - 1)) for dim in (-2, -1))
    return all(_change(crop, whole, dim, scale, radius) < 1e-9 for dim, crop in zip((-2, -1), crops))


def _influence(network: nn.Module, picture: Tensor, whole: Tensor, scale: int, radius: int) -> float:
    """How much outputs change by what lies more than ``radius`` above or to the left of them."""
    start, changes = RADII[-1] + 1, []
    for dim in (-2, -1):
        far, size = start - radius, picture.shape[dim]
        rests = [picture.narrow(dim, far, size - far)]
        for value in (0.0, 1.0):
            rests.append(picture.clone())
            rests[-1].narrow(dim, 0, far).fill_(value)
        changes += [_change(network(rest), whole, dim, scale, rest.shape[dim] - size + start) for rest in rests]
    return max(changes)


def _change(output: Tensor, whole: Tensor, dim: int, scale: int, start: int) -> float:
    """The largest difference of two pictures that end alike, from LR row or column ``start`` of the first on."""
    rest = output.shape[dim] - scale * start
    change = output.narrow(dim, scale * start, rest) - whole.narrow(dim, whole.shape[dim] - rest, rest)
    return float(change.abs().max().nan_to_num(torch.inf))


def _picture(size: int) -> Tensor:
    """Noise of all sizes, as natural pictures have it, brighter to one corner, so that means are not alike everywhere:
    ``(1, 3, size, size)`` in [0, 1]."""
    random, picture = torch.Generator().manual_seed(0), torch.zeros(1, 3, size, size)
    for step in (1, 2, 4, 8, 16):
        coarse = torch.rand(1, 3, -(-size // step), -(-size // step), generator=random)
        picture += F.interpolate(coarse, scale_factor=step, mode="nearest")[..., :size, :size]
    ramp = torch.linspace(0, 1, size)
    return picture / 5 * (ramp + ramp[:, None]) / 2
