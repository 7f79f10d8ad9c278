"""How a generator runs where only its output is wanted: in bf16 or float32, a band of rows at a time.

A network in one go writes each layer's output to fresh memory, megabytes that no cache holds and that the system first has to
clear. In bands of rows the same layers run within the cache, with the same result.
"""

import copy
import itertools
import os
import shutil
import weakref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo.errors import UserError, one_line
from sr_zoo.generators import Residual
from sr_zoo.generators.network import Network

__all__ = ["PRECISIONS", "BackendError", "compiled_generator", "onnx_generator", "prepared"]

PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}
# Of one layer's output for one band. Measured with 32 and 64 channels: less pays with repeated rows, more with the clearing of
# fresh memory.
BAND_BYTES = 8 << 20


class BackendError(UserError):
    """Something that a backend needs is missing on this machine; the message says what to install."""


def prepared(generator: nn.Module, precision: str = "float32") -> nn.Module:
    """The generator as a module that only computes, made once and kept for as long as the generator and its weights are.

    It shares nothing with the generator: training goes on undisturbed, and weights that have changed are seen at the next call.
    A :class:`~sr_zoo.generators.Residual`, or one that folds to it, runs on the processor in bands of rows, with the values of
    the whole under autocast; any other module runs as it is, under autocast for bf16.

    Args:
        generator: ``(batch, 3, h, w)`` [, noise] → raw ``(batch, 3, scale·h, scale·w)``.
        precision: of the convolutions, ``"bf16"`` or ``"float32"``.

    Returns:
        A module with the same arguments, which gives float32 without gradients, and has the same ``radius`` and
        ``noise_channels``.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    plain = type(generator) is Residual or (isinstance(generator, Network) and generator.folds_to == "residual")
    if not plain or generator.tail.weight.device.type != "cpu":
        return _Whole(generator, dtype)
    return cached(generator, precision, lambda: _Bands(generator.folded(), dtype))


def onnx_generator(model, threads: int | None = None) -> nn.Module:
    """The generator alone in onnxruntime, in float32 on the processor; otherwise as :func:`prepared`.

    About as fast as float32 is there, so half as fast as bf16 where the processor computes in it.

    Args:
        model: a :class:`~sr_zoo.methods.SuperResolver`, or a generator.
        threads: as many as torch uses if None.

    Raises:
        BackendError: onnxruntime is missing.
        ExportError: the network cannot be traced, or a package is missing that this takes.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BackendError("onnxruntime: is missing; pip install 'sr_zoo[onnx]'") from None
    generator, threads = getattr(model, "inference_generator", model), threads or torch.get_num_threads()
    return cached(generator, ("onnxruntime", threads), lambda: _Onnx(generator, threads, onnxruntime))


def compiled_generator(model, precision: str = "float32") -> nn.Module:
    """The generator alone through ``torch.compile``, for any size; otherwise as :func:`prepared`.

    Compiling takes about as long as some megapixels, once in a process, and with the networks that ship gains nothing over
    :func:`prepared` (``benchmarks/speed_peers.py`` compares); it may with one of your own.

    Args:
        model: a :class:`~sr_zoo.methods.SuperResolver`, or a generator.
        precision: of the convolutions, ``"bf16"`` or ``"float32"``.

    Raises:
        BackendError: there is no C++ compiler, or it fails.
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    generator, compiler = getattr(model, "inference_generator", model), os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BackendError(
            f"torch.compile: needs a C++ compiler, and there is no {compiler}; install it, or name one in CXX"
        )
    return cached(generator, ("compile", precision), lambda: _Compiled(generator, PRECISIONS[precision]))


_kept: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


def cached(generator: nn.Module, key, make) -> nn.Module:
    """What ``make`` returns, as long as the generator's weights stay what they are; it must hold no reference to the generator."""
    # The sum also sees what is written past autograd's counter, through .data.
    state = [(t.data_ptr(), float(t.detach().sum(dtype=torch.float64))) for t in generator.state_dict().values()]
    entries = _kept.setdefault(generator, {})
    if key not in entries or entries[key][0] != state:
        with torch.inference_mode(False):  # what is made inside it would stay bound to it
            entries[key] = state, make()
    return entries[key][1]


class _Runner(nn.Module):
    """The facts about a generator that whoever cuts pictures into tiles asks for."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.radius = getattr(generator, "radius", None)
        self.noise_channels = getattr(generator, "noise_channels", 0)


class _Whole(_Runner):
    """Any generator as it is, under autocast."""

    def __init__(self, generator: nn.Module, dtype: torch.dtype):
        super().__init__(generator)
        self.generator, self.dtype = generator, dtype

    @torch.no_grad()
    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            lr = lr.contiguous(memory_format=torch.channels_last)
            return (self.generator(lr) if noise is None else self.generator(lr, noise)).float()


class _Bands(_Runner):
    """A residual network in bands of rows. Two feature maps are held whole, all else is the size of a band."""

    def __init__(self, generator: Residual, dtype: torch.dtype):
        super().__init__(generator)
        self.scale, self.dtype = generator.scale, dtype
        self.head, self.join, self.tail = (self._layer(x) for x in (generator.head, generator.join, generator.tail))
        self.body = [
            (self._layer(b.first), copy.deepcopy(b.activation).to(dtype), self._layer(b.second)) for b in generator.body
        ]

    def _layer(self, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
        weight = conv.weight.detach().to(self.dtype, memory_format=torch.channels_last, copy=True)
        return weight, conv.bias.detach().to(self.dtype, copy=True)

    @torch.no_grad()
    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        # Centred in float32: near 1, bf16 is coarser than 8 bits.
        x = lr.float() - 0.5
        with torch.autocast(lr.device.type, enabled=False):
            x = x if noise is None else torch.cat([x, noise.float()], 1)
            features = F.conv2d(x.to(self.dtype, memory_format=torch.channels_last), *self.head, padding=1)
            bands = _bands(features)
            body = features.clone(memory_format=torch.preserve_format)
            for block in self.body:
                _add_block(body, block, bands)
            return self._finish(features, body, bands)

    def _finish(self, features: Tensor, body: Tensor, bands: list[tuple[int, int]]) -> Tensor:
        (batch, _, height, width), s = features.shape, self.scale
        raw = torch.empty(batch, 3, s * height, s * width)
        for start, stop in bands:
            ends = start == 0, stop == height
            joined = _conv(body[:, :, max(start - 2, 0) : stop + 2], self.join, *ends)
            joined += features[:, :, max(start - 1, 0) : stop + 1]
            raw[:, :, s * start : s * stop] = F.pixel_shuffle(_conv(joined, self.tail, *ends), s)
        return raw


def _bands(features: Tensor) -> list[tuple[int, int]]:
    """First row and end of each band, of at least 4 rows: a block's halo must not reach beyond the next."""
    batch, channels, height, width = features.shape
    rows = max(4, BAND_BYTES // (batch * channels * width * features.itemsize))
    count = max(1, height // rows)
    edges = [i * height // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def _add_block(x: Tensor, block, bands: list[tuple[int, int]]) -> None:
    """x + second(activation(first(x))) in place."""
    first, activation, second = block
    waiting = None
    for start, stop in bands:
        above, below = start == 0, stop == x.shape[2]
        y = _conv(x[:, :, max(start - 2, 0) : stop + 2], first, above, below)
        y = _conv(activation(y), second, above, below)
        if waiting is not None:
            x[:, :, start - 2 : start] += waiting
        # The next band still needs the last two rows as they were.
        ready = stop - start if below else stop - start - 2
        x[:, :, start : start + ready] += y[:, :, :ready]
        waiting = y[:, :, ready:]


def _conv(x: Tensor, layer: tuple[Tensor, Tensor], above: bool, below: bool) -> Tensor:
    """A 3×3 convolution that sees zeros beside ``x``, and before and after it where the picture ends; elsewhere a row is lost."""
    y = F.conv2d(x, *layer, padding=(1 if above or below else 0, 1))
    if above == below:
        return y
    return y[:, :, :-1] if above else y[:, :, 1:]


class _Onnx(_Runner):
    def __init__(self, generator: nn.Module, threads: int, onnxruntime):
        from sr_zoo.graph import onnx_graph

        super().__init__(generator)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        graph = onnx_graph(_plain(generator), self.noise_channels, "raw")
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @torch.no_grad()
    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        inputs = {"lr": lr} if noise is None else {"lr": lr, "noise": noise}
        (raw,) = self.session.run(["raw"], {k: v.float().contiguous().numpy() for k, v in inputs.items()})
        return torch.from_numpy(raw)


class _Compiled(_Runner):
    def __init__(self, generator: nn.Module, dtype: torch.dtype):
        super().__init__(generator)
        self.dtype = dtype
        network = copy.deepcopy(_plain(generator)).eval().requires_grad_(False)
        # In a list, so that this module has no parameters of its own: as the others, it only computes.
        self.network = [torch.compile(network.to(memory_format=torch.channels_last), dynamic=True)]
        device = next(network.parameters()).device
        tiny = [torch.zeros(2, 3, 24, 32)] + ([torch.zeros(2, self.noise_channels, 24, 32)] * bool(self.noise_channels))
        try:
            self(*(t.to(device) for t in tiny))
        except Exception as error:  # whatever the compiler, or the code that calls it, may raise
            raise BackendError(f"torch.compile: fails here ({one_line(error)})") from None

    @torch.no_grad()
    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        inputs = [t.contiguous(memory_format=torch.channels_last) for t in (lr, noise) if t is not None]
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.network[0](*inputs).float().contiguous()


def _plain(generator: nn.Module) -> nn.Module:
    return generator.folded() if isinstance(generator, Network) else generator
