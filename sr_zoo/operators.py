"""The known downsampling A, its transpose, its pseudo-inverse A⁺ and the projection Π: the box everything stands on.

Imports torch only. A mirrors the picture with its edge included (half-sample symmetric), correlates with a kernel whose
centre sits in the middle of each scale × scale block and keeps one sample per block. In this border the Gram operator
G = A Aᵀ of a symmetric kernel is itself a convolution of the mirrored picture, so that A⁺ = Aᵀ (A Aᵀ)⁻¹ has a closed
form: one transposed convolution with the kernel k * upsample(g⁻¹), run as its two factors. Nothing is trained and no linear
system is solved.
"""

import contextlib
import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo import _bands

__all__ = ["Downsampler", "IllConditionedKernel", "full_products", "make_kernel"]

# A⁺ amplifies noise in the LR picture by up to the square root of the condition number: beyond a hundredfold, the
# rounding of an 8-bit picture alone would drown the result.
MOST_TAPS = 512  # of a kernel's side: what a config from elsewhere may ask for, and far wider than any blur
MAX_CONDITION = 1e4
# Absolute sum of what is cut off the tail of g⁻¹; it bounds the error of A A⁺ x for x in [0, 1].
TAIL = {torch.float32: 1e-8, torch.float64: 1e-14}
PERIOD_1D, PERIOD_2D = 4096, 256


class Downsampler:
    """A: HR pictures → LR pictures, with all that follows from it.

    Every method takes and returns float tensors ``(..., height, width)`` of any range; leading dimensions (batch, colour)
    are independent pictures. Work is done in float32 (float64 for float64 input) with autocast and TF32 off, on the
    device of the input, and is differentiable.

    Args:
        kernel: ``"bicubic"`` (MATLAB's antialiased imresize), ``"box"``, ``"gaussian:SIGMA"`` or
            ``"gaussian:SIGMA:SIZE"`` (in HR pixels), or a measured 2-D kernel as nested lists or tensor.
        scale: integer factor, 2 or more.
        ridge: ε ≥ 0. Above 0, A⁺ becomes the Tikhonov form Aᵀ (A Aᵀ + εI)⁻¹ and consistency is approximate.

    Attributes:
        reach: LR pixels, on either side of an HR pixel's own, whose value under A depends on it.

    Raises:
        ValueError: the kernel or the scale makes no sense.
        IllConditionedKernel: A Aᵀ is too close to singular to invert without a ridge.

    Source: Sønderby et al. 2017, section 3.1; the closed form replaces their learned A⁺.
    """

    def __init__(self, kernel="bicubic", scale: int = 4, ridge: float = 0.0):
        if not isinstance(scale, int) or scale < 2:
            raise ValueError(f"scale: {scale!r} is not an integer of 2 or more")
        if not 0 <= ridge < math.inf:
            raise ValueError(f"ridge: {ridge!r} is not a number of 0 or more")
        self.kernel, self.scale, self.ridge = kernel, scale, float(ridge)
        taps = make_kernel(kernel, scale)
        rows, columns = taps.sum(1), taps.sum(0)
        self.symmetric = all(torch.allclose(taps, taps.flip(d), rtol=0, atol=1e-12) for d in (0, 1))
        separable = torch.allclose(torch.outer(rows, columns), taps, rtol=0, atol=1e-12)
        self.reach = max(_bands.beside(size, scale) for size in taps.shape)
        products = self.symmetric and separable
        plane = None if products and not ridge else _bands.PlaneFilter(taps, scale, self.ridge, self.symmetric, PERIOD_2D)
        self._filter = _bands.SeparableFilter(rows, columns, scale, PERIOD_1D, plane) if products else plane
        if not self.condition < MAX_CONDITION:
            raise IllConditionedKernel(
                f"kernel {named(kernel)} at scale {scale}: the condition number of A Aᵀ is {self.condition:.3g} (at most "
                f"{MAX_CONDITION:.0e}); {_off_centre(taps)}give a ridge, e.g. ridge=1e-3, for the regularised A⁺ = "
                "Aᵀ (A Aᵀ + εI)⁻¹"
            )

    @property
    def condition(self) -> float:
        """Condition number of A Aᵀ (+ εI), from the spectrum of the Gram kernel; of a kernel that is not symmetric also that at the
        mirrored border of a small picture, if it is larger."""
        return self._filter.condition

    @property
    def exact(self) -> bool:
        """Whether A A⁺ = I, that is, whether outputs of :meth:`project` agree exactly with the LR picture."""
        return self.ridge == 0

    @functools.cached_property
    def radius(self) -> int:
        """LR pixels, in each direction, on which a pixel of :meth:`project` or :meth:`pinv` depends.

        A picture may be projected in pieces that overlap by so many on every side: what lies farther adds up to less than
        1e-8 of the largest value. A⁺ itself reaches a little less far.
        """
        return self._filter.reach(TAIL[torch.float32])

    def A(self, hr: Tensor) -> Tensor:
        """Downsample: ``(..., scale·h, scale·w)`` → ``(..., h, w)``."""
        height, width = hr.shape[-2:]
        if height % self.scale or width % self.scale or not height or not width:
            raise ValueError(f"a picture of {width}×{height} is not a multiple of the scale {self.scale} in size")
        with _exact_arithmetic(hr) as x:
            return self._filter.down(x)

    __call__ = A

    def adjoint(self, lr: Tensor) -> Tensor:
        """Aᵀ: ``(..., h, w)`` → ``(..., scale·h, scale·w)``, with ⟨A y, x⟩ = ⟨y, Aᵀ x⟩."""
        with _exact_arithmetic(lr) as x:
            return self._filter.adjoint(x)

    def pinv(self, lr: Tensor, onto: Tensor | None = None) -> Tensor:
        """A⁺: the smallest HR picture (in the 2-norm) that downsamples to ``lr``.

        With ``onto``, a contiguous HR picture of the same precision, A⁺ lr is added to it in place, without gradients, and
        it is returned: that saves passes over a large picture.
        """
        with _exact_arithmetic(lr) as x:
            return self._filter.pinv(x, TAIL[x.dtype], onto)

    def project(self, raw: Tensor, lr: Tensor) -> Tensor:
        """Π: the HR picture nearest to ``raw`` that downsamples to ``lr``: y + A⁺ (x − A y) (paper, section 3.1)."""
        with _exact_arithmetic(lr.to(torch.promote_types(raw.dtype, lr.dtype))) as x:
            if torch.is_grad_enabled() and (raw.requires_grad or lr.requires_grad):
                y = raw.to(x.dtype)
                return y + self.pinv(x - self.A(y))
            # The same, added in place to a copy that is needed anyway: passes over the large picture are what it costs.
            y = raw.to(x.dtype, memory_format=torch.contiguous_format, copy=True)
            return self.pinv(x - self.A(y), onto=y)

    def same(self, other: "Downsampler") -> bool:
        """Whether the other one is of the same kernel, scale and ridge."""
        mine, theirs = (k if isinstance(k, str) else torch.as_tensor(k).tolist() for k in (self.kernel, other.kernel))
        return (mine, self.scale, self.ridge) == (theirs, other.scale, other.ridge)

    def __repr__(self) -> str:
        return f"Downsampler({named(self.kernel)}, scale={self.scale}, ridge={self.ridge:g}, condition={self.condition:.3g})"


class IllConditionedKernel(ValueError):
    """The kernel removes so much that A A⁺ = I cannot be had numerically."""


def make_kernel(kernel, scale: int) -> Tensor:
    """Kernel weights as a float64 matrix that sums to one, its size of the same parity as ``scale``.

    The parity lets the centre sit in the middle of a block. A Gaussian is sampled there at its size or one tap more; a
    measured kernel of the other parity gets a row and column of zeros, so its centre lies half an HR pixel up and left.
    """
    if isinstance(kernel, str):
        name, *arguments = kernel.split(":")
        try:
            numbers = [float(a) for a in arguments]
            line = _LINES[name](scale, *numbers)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise ValueError(
                f"kernel: {kernel!r} is not 'bicubic', 'box', 'gaussian:SIGMA' or 'gaussian:SIGMA:SIZE'"
            ) from None
        taps = torch.outer(line, line)
    else:
        taps = torch.as_tensor(kernel, dtype=torch.float64)
        if taps.ndim != 2 or not taps.numel() or not torch.isfinite(taps).all() or not taps.sum() > 0:
            raise ValueError("kernel: a measured kernel must be a 2-D array of finite numbers with a positive sum")
        if max(taps.shape) > MOST_TAPS:
            raise ValueError(f"kernel: a measured kernel of {max(taps.shape)} pixels a side, at most {MOST_TAPS} are taken")
        odd = [(size - scale) % 2 for size in taps.shape]
        taps = F.pad(taps, (0, odd[1], 0, odd[0]))
    return taps / taps.sum()


def _bicubic(scale: int) -> Tensor:
    """MATLAB's imresize: Keys' cubic (a = −0.5) stretched by the scale, so that it also removes aliasing."""
    x = _positions(4 * scale - scale % 2).abs() / scale
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def _gaussian(scale: int, sigma: float, size: float | None = None) -> Tensor:
    size = 2 * math.ceil(4 * sigma) + 1 if size is None else size
    if not 0 < sigma < 1e3 or size != int(size) or not 1 <= size <= MOST_TAPS:
        raise ValueError
    size = int(size) + (int(size) - scale) % 2
    return torch.exp(-0.5 * (_positions(size) / sigma) ** 2)


def _box(scale: int) -> Tensor:
    return torch.ones(scale, dtype=torch.float64)


_LINES = {"bicubic": _bicubic, "gaussian": _gaussian, "box": _box}


def _off_centre(taps: Tensor) -> str:
    """What to do first about a kernel whose middle is not where its weights are."""
    off = [float((line * _positions(len(line))).sum()) for line in (taps.sum(1), taps.sum(0))]
    if max(map(abs, off)) < 1:
        return ""
    return f"its centre of mass lies {off[0]:+.1f} rows and {off[1]:+.1f} columns off its middle: shift it there, or "


def _positions(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float64) - (size - 1) / 2


def named(kernel) -> str:
    """A kernel in a word or two, whatever its size."""
    return kernel if isinstance(kernel, str) else "measured " + "×".join(map(str, torch.as_tensor(kernel).shape))


def _exact_arithmetic(x: Tensor):
    """The tensor in float32 or float64, with autocast off and matrix products in full float32 until the block ends."""
    if not x.is_floating_point():
        raise TypeError(f"expected a float tensor, got {x.dtype}")
    x = x if x.dtype == torch.float64 else x.float()
    # Small tensors take less time than switching what is as it should be already.
    return contextlib.nullcontext(x) if _is_exact(x.device.type) else _switched(x)


def _is_exact(device: str) -> bool:
    if torch.is_autocast_enabled(device) or device not in _PRODUCTS or not hasattr(_PRODUCTS[device], "fp32_precision"):
        return False
    return _PRODUCTS[device].fp32_precision == "ieee"


# Older torch has no switch for the processor's.
_PRODUCTS = {"cuda": torch.backends.cuda.matmul, "cpu": getattr(torch.backends.mkldnn, "matmul", None)}


@contextlib.contextmanager
def _switched(x: Tensor):
    with full_products(), torch.autocast(x.device.type, enabled=False):
        yield x


@contextlib.contextmanager
def full_products():
    """No TF32 or bf16 inside float32 matrix products; afterwards all is as the user set it."""
    if not all(hasattr(backend, "fp32_precision") for backend in _PRODUCTS.values()):  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    # Each backend by itself: the older, common switches refuse to be read once a user has set these.
    backends = _PRODUCTS.values()
    before = [b.fp32_precision for b in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before):
            backend.fp32_precision = precision
