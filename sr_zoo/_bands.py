"""How :mod:`sr_zoo.operators` computes: separable filters as banded matrix products, any other kernel in the plane.

A one-channel convolution is slow on processors; the same arithmetic as small matrix products is several times faster.
Small pictures use one dense matrix per axis, large ones blocks of a band that share one Toeplitz matrix.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

DENSE = 64  # LR samples up to which an axis is one dense matrix; benchmarks/speed.py compares
BLOCK = 16  # LR samples in one block of a larger picture
MAX_PERIOD = 1024  # of the plane in which the reach of an inverse is looked for
MOST_SIDE = 24  # LR samples of the picture whose border is looked at
FAR = 1e-4  # of the LR picture: what conjugate gradients may leave, or there is no inverse


class SeparableFilter:
    """A symmetric kernel that is an outer product. All arguments and results as in Downsampler.

    Downwards the rows' axis shrinks first, upwards it grows last: the large picture is touched once, along whole rows.
    """

    def __init__(self, rows: Tensor, columns: Tensor, scale: int, period: int, plane: "PlaneFilter | None" = None):
        """``plane``: the same filter with a ridge. G + εI is no product of the axes, so there it solves; A and Aᵀ still are."""
        self.rows, self.columns, self.plane = _Line(rows, scale, period), _Line(columns, scale, period), plane
        # The spectrum of G is the product of the two axes'.
        self.condition = self.rows.condition * self.columns.condition if plane is None else plane.condition

    def reach(self, tail: float) -> int:
        """LR samples in each direction on which Π depends, but for what tails cut below ``tail`` hold."""
        if self.plane is not None:
            return self.plane.reach(tail)
        return max(line.reach(tail) for line in (self.rows, self.columns))

    def down(self, hr: Tensor) -> Tensor:
        return self.columns.apply(self.rows.apply(hr, "down", -2), "down", -1)

    def adjoint(self, lr: Tensor, onto: Tensor | None = None) -> Tensor:
        return self.rows.apply(self.columns.apply(lr, "adjoint", -1), "adjoint", -2, onto=onto)

    def pinv(self, lr: Tensor, tail: float, onto: Tensor | None = None) -> Tensor:
        """A⁺ lr; with ``onto`` it is added to that picture in place, which saves a pass over it."""
        # G⁻¹ is long but works on the LR picture, Aᵀ is short: cheaper than their product in one go.
        if self.plane is not None:
            solved = self.plane.solve(lr.double()).to(lr)
        else:
            solved = self.columns.apply(self.rows.apply(lr, "solve", -2, tail), "solve", -1, tail)
        return self.adjoint(solved, onto)


class _Line:
    """A (``down``), Aᵀ (``adjoint``) and G⁻¹ (``solve``) along one axis."""

    def __init__(self, taps: Tensor, scale: int, period: int):
        self.taps, self.scale = taps, scale
        spectrum = _spectrum(_gram(taps[:, None], (scale, 1)), (period, 1))[:, 0]
        self.condition = _condition(spectrum)
        self.inverse_gram = torch.fft.ifft(1 / spectrum).real if self.condition < torch.inf else None
        self._matrices = {}

    def reach(self, tail: float) -> int:
        return len(_cut(self.inverse_gram, tail)) // 2 + 2 * beside(len(self.taps), self.scale)

    def apply(self, x: Tensor, what: str, dim: int, tail: float = 0.0, onto: Tensor | None = None) -> Tensor:
        samples = x.shape[dim] // (self.scale if what == "down" else 1)
        if samples <= DENSE:
            matrix = self._cached((what, tail, samples), x, lambda: self._dense(what, tail, samples))
            out = matrix @ x if dim == -2 else x @ matrix.mT
            return out if onto is None else onto.add_(out)
        return self._blocks(x, what, dim, tail, onto)

    def _blocks(self, x: Tensor, what: str, dim: int, tail: float, onto: Tensor | None = None) -> Tensor:
        """Each block of outputs is one product of a Toeplitz matrix, the same for all, with the inputs it depends on."""
        band = self._cached((what, tail), x, lambda: self._band(what, tail))
        planes = x.reshape(-1, *x.shape[-2:])
        hop = BLOCK * self.scale if what == "down" else BLOCK
        # Half of what a window holds beyond its own block lies before it.
        before, size = (band.shape[1] - hop) // 2, x.shape[dim]
        shared = (band if dim == -2 else band.mT).expand(len(planes), -1, -1)
        pieces = []
        for start in range(0, size, hop):
            first, last = start - before, start - before + band.shape[1]
            if first >= 0 and last <= size:
                window = planes.narrow(dim, first, last - first)
            else:
                window = planes.index_select(dim, mirror(torch.arange(first, last, device=x.device), size))
            piece = torch.bmm(shared, window) if dim == -2 else torch.bmm(window, shared)
            if start + hop > size:  # the last block may be cut short
                piece = piece.narrow(dim, 0, (size - start) * band.shape[0] // hop)
            if onto is None:
                pieces.append(piece)
            else:
                target = onto.view(-1, *onto.shape[-2:])
                target.narrow(dim, start * band.shape[0] // hop, piece.shape[dim]).add_(piece)
        if onto is not None:
            return onto
        out = torch.cat(pieces, dim)
        return out.reshape(*x.shape[:-2], *out.shape[-2:])

    def _dense(self, what: str, tail: float, samples: int) -> Tensor:
        size = samples * (self.scale if what == "down" else 1)
        return self._blocks(torch.eye(size, dtype=torch.float64), what, -2, tail)

    def _band(self, what: str, tail: float) -> Tensor:
        """The Toeplitz matrix of one block: outputs × inputs."""
        if what == "adjoint":
            s, taps = self.scale, self.taps
            reach = beside(len(taps), s)
            outputs, inputs = torch.arange(BLOCK * s)[:, None], torch.arange(BLOCK + 2 * reach) - reach
            position = outputs - s * inputs - (s - len(taps)) // 2
        else:
            s, taps = (self.scale, self.taps) if what == "down" else (1, _cut(self.inverse_gram, tail))
            position = torch.arange(s * (BLOCK - 1) + len(taps)) - s * torch.arange(BLOCK)[:, None]
        inside = (position >= 0) & (position < len(taps))
        return torch.where(inside, taps[position.clamp(0, len(taps) - 1)], 0.0)

    def _cached(self, key, like: Tensor, make) -> Tensor:
        key = (*key, like.dtype, like.device)
        if key not in self._matrices:
            # Made outside inference mode: a tensor made inside it could not take part in a later training step.
            with torch.inference_mode(False), torch.no_grad():
                self._matrices[key] = make().to(like)
        return self._matrices[key]


class PlaneFilter:
    """Any 2-D kernel. A⁺ = Aᵀ G⁻¹ with G⁻¹ a convolution of the mirrored picture where the kernel is symmetric, computed by
    FFT; where it is not, the border breaks the convolution and conjugate gradients mend what is left (few steps: away from
    the border the start is nearly exact).

    Works in float64 inside: long sums in the plane would lose a digit in float32 that the projection is meant to keep."""

    def __init__(self, taps: Tensor, scale: int, ridge: float, symmetric: bool, period: int):
        self.taps, self.scale, self.ridge, self.symmetric, self.period = taps, scale, ridge, symmetric, period
        self.gram_kernel = _gram(taps, (scale, scale))
        self.condition = _condition(_spectrum(self.gram_kernel, (period, period)) + ridge)
        if not symmetric and self.condition < torch.inf:
            self.condition = max(self.condition, self._condition_at_the_border())

    def _condition_at_the_border(self) -> float:
        """Of G in a small picture: mirroring a kernel that is not symmetric can make neighbouring rows of A all but equal there."""
        side = min(MOST_SIDE, 2 * max(beside(n, self.scale) for n in self.taps.shape) + 6)
        planes = torch.eye(side * side, dtype=torch.float64).view(-1, side, side)
        return _condition(torch.linalg.eigvalsh(self.gram(planes).view(side * side, -1)))

    def reach(self, tail: float) -> int:
        """As that of a separable filter; away from the border G is a convolution, whatever the kernel's symmetry."""
        period = self.period
        while True:
            inverse = torch.fft.ifft2(1 / (_spectrum(self.gram_kernel, (period, period)) + self.ridge)).real
            # How far from the origin, in the larger of the two directions, each weight of the period lies.
            away = torch.arange(period).minimum(period - torch.arange(period))
            rings = torch.zeros(period // 2 + 1, dtype=inverse.dtype)
            rings.index_add_(0, torch.maximum(away[:, None], away[None]).flatten(), inverse.abs().flatten())
            beyond = rings.flip(0).cumsum(0).flip(0)
            solve = int((beyond > tail).sum())
            # Where the period is too short the tail wraps around, and seems not to end.
            if solve < period // 2 - 1 or period >= MAX_PERIOD:
                return solve + 2 * max(beside(n, self.scale) for n in self.taps.shape)
            period *= 2

    def down(self, hr: Tensor) -> Tensor:
        return self._down(hr.double()).to(hr)

    def adjoint(self, lr: Tensor) -> Tensor:
        return self._adjoint(lr.double()).to(lr)

    def pinv(self, lr: Tensor, tail: float, onto: Tensor | None = None) -> Tensor:
        x = lr.double()
        inverse = self.solve(x) if self.symmetric else _Solve.apply(x, self, tail)
        out = self._adjoint(inverse).to(lr)
        return out if onto is None else onto.add_(out)

    def solve(self, lr: Tensor) -> Tensor:
        """G⁻¹ of the mirrored pictures: exact for a symmetric kernel, for any other that of its symmetric part."""
        height, width = lr.shape[-2:]
        period = (2 * height, 2 * width)
        mirrored = torch.cat([lr, lr.flip(-1)], -1)
        mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
        spectrum = _spectrum(self.gram_kernel, period).to(lr.device)
        if not self.symmetric:
            spectrum = (spectrum + torch.roll(spectrum.flip(0), 1, 0)) / 2
            spectrum = (spectrum + torch.roll(spectrum.flip(1), 1, 1)) / 2
        half = spectrum[:, : width + 1] + self.ridge
        return torch.fft.irfft2(torch.fft.rfft2(mirrored) / half, s=period)[..., :height, :width]

    def gram(self, lr: Tensor) -> Tensor:
        return self._down(self._adjoint(lr)) + self.ridge * lr

    def _down(self, hr: Tensor) -> Tensor:
        height, width = hr.shape[-2:]
        planes = hr.reshape(-1, 1, height, width)
        for dim, index in self._border(height, width, hr.device):
            planes = planes.index_select(dim, index)
        lr = F.conv2d(planes, self.taps.to(hr)[None, None], stride=self.scale)
        return lr.reshape(*hr.shape[:-2], height // self.scale, width // self.scale)

    def _adjoint(self, lr: Tensor) -> Tensor:
        height, width = (n * self.scale for n in lr.shape[-2:])
        planes = F.conv_transpose2d(lr.reshape(-1, 1, *lr.shape[-2:]), self.taps.to(lr)[None, None], stride=self.scale)
        for dim, index in self._border(height, width, lr.device):
            shape = list(planes.shape)
            shape[dim] = height if dim == -2 else width
            planes = planes.new_zeros(shape).index_add(dim, index, planes)
        return planes.reshape(*lr.shape[:-2], height, width)

    def _border(self, height: int, width: int, device):
        for dim, size, taps in ((-2, height, self.taps.shape[0]), (-1, width, self.taps.shape[1])):
            # Negative where the kernel is smaller than a block: then part of each block is not seen at all.
            before = (taps - self.scale) // 2
            index = torch.arange(-before, size - self.scale - before + taps, device=device)
            yield dim, mirror(index, size)


class _Solve(torch.autograd.Function):
    """G⁻¹ by conjugate gradients. G is symmetric, so the gradient is the same solve."""

    @staticmethod
    def forward(ctx, lr, plane, accuracy):
        ctx.rest = plane, accuracy
        tiny = torch.finfo(lr.dtype).tiny
        x, residual = torch.zeros_like(lr), lr
        direction = z = plane.solve(residual)
        rho = _dot(residual, z)
        goal = accuracy * _dot(lr, lr).sqrt()
        for _ in range(200):
            if (_dot(residual, residual).sqrt() <= goal).all():
                break
            image = plane.gram(direction)
            step = rho / _dot(direction, image).clamp_min(tiny)
            x, residual = x + step * direction, residual - step * image
            z = plane.solve(residual)
            rho, previous = _dot(residual, z), rho
            direction = z + rho / previous.clamp_min(tiny) * direction
        residual = lr - plane.gram(x)  # what was updated along the way may have drifted from it
        if not (_dot(residual, residual) <= FAR**2 * _dot(lr, lr)).all():
            raise ValueError(
                f"kernel: at the border of a picture of {lr.shape[-1]}×{lr.shape[-2]} its A Aᵀ cannot be inverted; give a ridge, "
                "e.g. ridge=1e-3, or a kernel whose centre of mass is its middle"
            )
        return x

    @staticmethod
    def backward(ctx, gradient):
        return _Solve.apply(gradient, *ctx.rest), None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1), keepdim=True)


def beside(taps: int, scale: int) -> int:
    """LR samples on either side of one's own that its kernel reaches into."""
    return max(0, -(-(taps - scale) // (2 * scale)))


def mirror(index: Tensor, size: int) -> Tensor:
    """Half-sample symmetric border, periodic: right for any distance, also beyond one picture's width."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def _gram(taps: Tensor, stride: tuple[int, int]) -> Tensor:
    """g[j] = Σ k[i] k[i + s·j], as a matrix of odd size with g[0] in the middle."""
    period = [
        2 * n for n in taps.shape
    ]  # nothing wraps around; by FFT, since a large kernel would take minutes in the plane
    gram = torch.fft.irfft2(torch.fft.rfft2(taps, s=period).abs() ** 2, s=period)
    for dim, (n, s) in enumerate(zip(taps.shape, stride)):
        reach = (n - 1) // s
        gram = gram.index_select(dim, (s * torch.arange(-reach, reach + 1)).remainder(2 * n))
    return gram


def _spectrum(gram: Tensor, period: tuple[int, int]) -> Tensor:
    """Eigenvalues of the periodic convolution with a kernel whose origin is its middle, also where it is the longer."""
    plane = torch.zeros(period, dtype=gram.dtype)
    rows, columns = (torch.arange(n) - n // 2 for n in gram.shape)
    plane.index_put_((rows.remainder(period[0])[:, None], columns.remainder(period[1])[None]), gram, accumulate=True)
    return torch.fft.fft2(plane).real


def _condition(spectrum: Tensor) -> float:
    # Rounding leaves 1e-17 or so where the truth is zero: that counts as zero.
    low, high = float(spectrum.min()), float(spectrum.max())
    return high / low if low > 1e-14 * high else torch.inf


def _cut(wrapped: Tensor, tail: float) -> Tensor:
    """The middle of a symmetric, wrapped line, as short as the tail allows, of odd length."""
    half = wrapped[: len(wrapped) // 2]
    left_out = 2 * half.abs().flip(0).cumsum(0).flip(0)
    # Below the rounding noise of the FFT no cut could reach a smaller tail.
    noise = 2 * len(half) * torch.finfo(half.dtype).eps * float(half.abs().max())
    reach = max(1, int((left_out > max(tail, noise)).sum()))
    return torch.cat([half[1:reach].flip(0), half[:reach]])
