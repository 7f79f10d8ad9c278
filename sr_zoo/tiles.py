"""The network, run so that a picture of any size fits into memory: ỹ row by row of tiles, the same as in one piece."""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sr_zoo.errors import UserError
from sr_zoo.generators.around import Around

__all__ = ["BACKENDS", "PRECISIONS", "NotANumber", "RawRows", "bf16_is_fast", "free_memory", "run_network"]

PRECISIONS = ("auto", "bf16", "float32")
BACKENDS = ("torch", "compile", "onnxruntime")
SMALLEST_TILE = 16
# Automatic tiles: what the halo costs falls with their size; from here on it is a few percent.
LARGEST_TILE = 1024
# Bytes that a network with one channel takes for one LR pixel at its peak: about four planes in float32 are alive at once.
BYTES_PER_CHANNEL = 16
MOST_ROWS = 2**28  # bytes of ỹ in one row of tiles: of wide pictures it is less high than a tile is wide


class NotANumber(UserError):
    """A network whose output is not finite, in float32 too."""


class RawRows:
    """ỹ of one picture, computed in tiles when its rows are asked for.

    A tile is larger than what is kept of it by the receptive field of the network on each side, so that the result is that of
    the whole picture up to the order of float32 sums. A network that sees the whole picture at once gets it whole.

    Args:
        model: a :class:`~sr_zoo.methods.SuperResolver`, or what :func:`sr_zoo.consistent` returns.
        read: ``(top, bottom)`` → these LR rows, ``(1, 3 or 1, rows, width)`` in [0, 1]; grey comes back as one colour.
        size: height and width of the LR picture.
        precision, seed, tile, backend: see :class:`sr_zoo.engine.Settings`.

    Raises:
        ValueError: unknown precision or backend.
    """

    def __init__(
        self,
        model,
        read: Callable[[int, int], Tensor],
        size: tuple[int, int],
        precision: str = "auto",
        seed: int = 0,
        tile: int | None = None,
        backend: str = "torch",
    ):
        if backend not in BACKENDS:
            raise ValueError(f"backend: {backend!r} is not one of {', '.join(BACKENDS)}")
        self.model, self.read, (self.height, self.width) = model, read, size
        self.precision = "bf16" if _is_low(precision) and "bf16" in model.precisions else "float32"
        self.backend, self.runner = backend, None
        self.tile = (self._side() if tile is None else tile) or max(size)
        self.noise = _noise(model, size, seed)
        self.parts = []  # (first row, its rows of ỹ), in order
        if self.tile < max(size) and self.radius is None:
            self.tile = max(size)

    @functools.cached_property
    def radius(self) -> int | None:
        """Asked for where it is needed: of a network from elsewhere it takes seconds to be found."""
        return getattr(self.model.inference_generator, "radius", None)

    @torch.inference_mode()
    def window(self, top: int, bottom: int) -> Tensor:
        """ỹ ``(1, colours, scale · (bottom − top), scale · width)`` in float32. What lies above ``top`` may be forgotten.

        Raises:
            MemoryError: even small tiles do not fit.
            NotANumber: the network's output is not finite.
            BackendError: what the backend needs is missing.
        """
        scale = self.model.scale
        while not self.parts or self._end() < bottom:
            first = self._end() if self.parts else top
            self._forget(top)
            # Rows of equal height, so that the last one is no sliver.
            count = -(-(self.height - first) // self._most_rows())
            self.parts.append((first, self._row(first, first + -(-(self.height - first) // count))))
        pieces = [part[..., max(0, top - first) * scale : (bottom - first) * scale, :] for first, part in self.parts]
        pieces = [piece for piece in pieces if piece.shape[-2]]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -2)

    def _forget(self, top: int) -> None:
        scale = self.model.scale
        kept = [(first, part[..., max(0, top - first) * scale :, :]) for first, part in self.parts]
        # Copied: a view would keep all of what it is a part of.
        self.parts = [(max(first, top), part.clone()) for first, part in kept if part.shape[-2]]

    def _end(self) -> int:
        first, part = self.parts[-1]
        return first + part.shape[-2] // self.model.scale

    def _row(self, first: int, last: int) -> Tensor:
        """ỹ of LR rows ``first … last``, with smaller tiles where memory does not suffice."""
        while True:
            try:
                return self._tiled(first, last)
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
            if self.tile <= SMALLEST_TILE or self.radius is None:
                raise MemoryError(f"not enough memory for a picture of {self.width}×{self.height}")
            self.tile = max(SMALLEST_TILE, min(self.tile, max(self.height, self.width)) // 2)

    def _tiled(self, first: int, last: int) -> Tensor:
        scale, height = self.model.scale, min(self.tile, last - first)
        radius = 0 if self.tile >= max(self.height, self.width) else self.radius
        out = None
        for top in range(first, last, height):
            bottom = min(last, top + height)
            above, below = max(0, top - radius), min(self.height, bottom + radius)
            lr = self.read(above, below)
            count = -(-self.width // self.tile)
            width = -(-self.width // count)
            for left in range(0, self.width, width):
                right = min(self.width, left + width)
                before, after = max(0, left - radius), min(self.width, right + radius)
                noise = None if self.noise is None else self.noise[..., above:below, before:after]
                raw = self._run(lr[..., before:after], noise)
                raw = raw[
                    ..., (top - above) * scale : (bottom - above) * scale, (left - before) * scale : (right - before) * scale
                ]
                if (top, bottom, left, right) == (first, last, 0, self.width):
                    return raw
                if out is None:
                    out = raw.new_empty(*raw.shape[:2], (last - first) * scale, self.width * scale)
                out[..., (top - first) * scale : (bottom - first) * scale, left * scale : right * scale] = raw
        return out

    def _run(self, lr: Tensor, noise: Tensor | None) -> Tensor:
        raw = self._network(lr, noise)
        if self.precision != "float32" and not raw.isfinite().all():
            self.precision, self.runner = "float32", None  # what overflowed once will again
            raw = self._network(lr, noise)
        if not raw.isfinite().all():
            raise NotANumber("the network's output is not finite: its weights are damaged, or it was made for another range")
        return raw

    def _network(self, lr: Tensor, noise: Tensor | None) -> Tensor:
        if self.runner is None:
            self.runner = _runner(self.model, self.precision, self.backend)
        device, grey = _device(self.model), lr.shape[1] == 1
        inputs = [lr.to(device).expand(-1, 3, -1, -1)] + ([] if noise is None else [noise.to(device)])
        raw = self.runner(*inputs)
        return (raw.mean(1, keepdim=True) if grey else raw).cpu()

    def _most_rows(self) -> int:
        """Of LR, in a row of tiles."""
        if self.tile >= max(self.height, self.width):
            return self.height
        fitting = min(free_memory(torch.device("cpu")) // 8, MOST_ROWS) // (12 * self.model.scale**2 * self.width)
        return min(self.tile, max(fitting, 64))

    def _side(self) -> int:
        """Of a tile whose features take a fair part of the memory that is free; 0 where that is the whole picture."""
        scale, generator = self.model.scale, self.model.inference_generator
        channels = max((m.out_channels for m in generator.modules() if hasattr(m, "out_channels")), default=64)
        budget = free_memory(_device(self.model)) // 3
        pixels = budget / (BYTES_PER_CHANNEL * max(channels, 3 * scale**2))
        side = int(min(LARGEST_TILE, pixels**0.5))
        if side >= max(self.height, self.width):
            return 0
        return max(side - 2 * (self.radius or 0), 64)


@torch.inference_mode()
def run_network(model, lr: Tensor, precision: str = "auto", seed: int = 0) -> Tensor:
    """ŷ in float32 for ``lr`` ``(batch, 3 or 1, h, w)`` in [0, 1], in one piece; grey comes back as one colour.

    Raises:
        MemoryError: it does not fit.
        ValueError: unknown precision.
    """
    lr, low = lr.to(_device(model)), _is_low(precision)
    grey = lr.shape[1] == 1
    try:
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=low):
            noise = {"seed": seed} if getattr(model, "noise_channels", 0) else {}
            sr = model(lr.expand(-1, 3, -1, -1) if grey else lr, **noise)
    except RuntimeError as error:
        if _is_memory(error):
            raise MemoryError(f"not enough memory for a picture of {lr.shape[-1]}×{lr.shape[-2]}") from None
        raise
    return sr.mean(1, keepdim=True) if grey else sr


@functools.cache
def bf16_is_fast() -> bool:
    """Whether the processor multiplies in bf16 (AVX-512-BF16 or AMX); elsewhere bf16 is emulated and slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken without driving others out, where that can be told; 4 GiB elsewhere."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
        group = Path("/sys/fs/cgroup")  # what a container may have
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass  # not Linux, or no limit
    return max(0, min(free, default=4 * 2**30))


def _runner(model, precision: str, backend: str) -> nn.Module:
    from sr_zoo import backends

    def make(generator: nn.Module) -> nn.Module:
        if isinstance(generator, Around):
            return generator.around(make(generator.generator))
        if backend == "onnxruntime":
            return backends.onnx_generator(generator)
        return (backends.compiled_generator if backend == "compile" else backends.prepared)(generator, precision)

    return make(model.inference_generator)


def _noise(model, size: tuple[int, int], seed: int) -> Tensor | None:
    """Of the whole picture, so that it does not depend on the tiles; as :meth:`SuperResolver.forward` draws it."""
    if not model.noise_channels:
        return None
    return torch.randn((1, model.noise_channels, *size), generator=torch.Generator().manual_seed(seed))


def _is_low(precision: str) -> bool:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return precision == "bf16" or (precision == "auto" and bf16_is_fast())


def _is_memory(error: Exception) -> bool:
    # torch has no class of its own for the processor's memory.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def _device(model) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
