"""Networks from elsewhere, with Π behind them: any module, or a file of weights that spandrel knows.

The generator's box of *method = generator × consistency × objective*, filled with what others have trained.
"""

import functools
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from sr_zoo._bands import mirror
from sr_zoo.checkpoint import FOREIGN, CheckpointError
from sr_zoo.errors import one_line
from sr_zoo.files import expanded
from sr_zoo.methods import AffMSE, SuperResolver
from sr_zoo.receptive import influence_radius, receptive_field

__all__ = ["Foreign", "consistent", "load_foreign"]


def consistent(
    module: nn.Module,
    scale: int,
    kernel: str | list[list[float]] = "bicubic",
    ridge: float = 0.0,
    multiple_of: int = 1,
    minimum: int = 1,
) -> SuperResolver:
    """Any upsampler made consistent: ``sr_zoo.consistent(network, 4)``; its pictures downsample exactly to their input.

    What comes back is an ordinary model: :func:`sr_zoo.upscale` takes it. It shares the module, which is put into evaluation
    mode. Whatever the module gets wrong that the operator can see, a shift of colours, a wrong gamma, is put right.

    Args:
        module: ``(batch, 3, h, w)`` in [0, 1] → ``(batch, 3, scale·h, scale·w)`` in [0, 1], in evaluation mode.
        scale: integer factor.
        kernel: of the downsampling that the pictures shall agree with, see :class:`~sr_zoo.operators.Downsampler`.
        ridge: above 0, consistency is approximate, see there.
        multiple_of: height and width must be multiples of it; other pictures are continued by their mirror image.
        minimum: least height and width, likewise.

    Raises:
        ValueError: scale, kernel or sizes make no sense. When it upscales: the module gives another size than promised.
    """
    model = AffMSE(scale=scale, kernel=kernel, ridge=ridge, generator=Foreign(module, scale, multiple_of, minimum))
    # Networks from elsewhere may ask for a view of their features, which channels-last weights would forbid.
    model.generator.to(memory_format=torch.contiguous_format)
    return model.eval()


def load_foreign(path: str | Path, kernel: str | list[list[float]] = "bicubic", ridge: float = 0.0) -> SuperResolver:
    """Weights from elsewhere, made consistent: ESRGAN, SwinIR, SPAN … as far as spandrel knows the architecture.

    No code in the file is run: of a pickle only tensors and plain containers are read, TorchScript is refused.

    Args:
        path: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.
        kernel, ridge: see :func:`consistent`.

    Raises:
        CheckpointError: the file is missing, damaged, holds more than weights, is of no known architecture or not of a
            super-resolution network for RGB pictures; or spandrel is not installed.
        ValueError: the kernel makes no sense.
    """
    path = expanded(path)
    state = _state(path)
    try:
        import spandrel
    except ImportError:
        raise CheckpointError(
            f"{path}: a network from elsewhere needs spandrel, which is not installed; pip install 'sr_zoo[spandrel]'"
        ) from None
    try:
        found = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except spandrel.UnsupportedModelError:
        raise CheckpointError(
            f"{path}: weights of no architecture that spandrel {spandrel.__version__} knows; expected a super-resolution "
            "network such as ESRGAN, SwinIR or SPAN"
        ) from None
    except Exception as error:  # spandrel guesses sizes from shapes, and any of its architectures may stumble over them
        raise CheckpointError(f"{path}: weights that do not fit their architecture ({one_line(error)[:200]})") from None
    _check(path, found)
    needs = found.size_requirements
    model = consistent(_Described(found), found.scale, kernel, ridge, needs.multiple_of, max(1, needs.minimum))
    model.precisions = ("bf16", "float32") if found.supports_bfloat16 else ("float32",)
    return model


class Foreign(nn.Module):
    """A module as generator: pictures of sizes that it cannot take are continued by their mirror image, and cut again."""

    noise_channels = 0

    def __init__(self, module: nn.Module, scale: int, multiple_of: int = 1, minimum: int = 1):
        if not (multiple_of >= 1 and minimum >= 1):
            raise ValueError(f"multiple_of {multiple_of} or minimum {minimum} is not 1 or more")
        super().__init__()
        self.module, self.scale, self.multiple_of, self.minimum = module, scale, multiple_of, minimum

    @functools.cached_property
    def radius(self) -> int | None:
        """As that of :class:`~sr_zoo.generators.network.Network`; looked for when first asked, which takes seconds.

        The exact one or, of a network too deep for that, the distance from which on the rest of a picture changes an output
        by less than 1e-4.
        """
        if getattr(self.module, "whole", False):
            return None
        measured = influence_radius(self, self.scale)
        if measured is None:
            return None
        exact = receptive_field(self, self.scale)
        # A tile smaller than the module takes would be continued where the picture goes on.
        return max(measured if exact is None else exact, self.minimum)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        fitting = lr.contiguous()
        for dim, size in ((-2, height), (-1, width)):
            needed = -(-max(size, self.minimum) // self.multiple_of) * self.multiple_of
            if needed > size:
                fitting = fitting.index_select(dim, mirror(torch.arange(needed, device=lr.device), size))
        raw = self.module(fitting)
        expected = (*lr.shape[:2], *(n * self.scale for n in fitting.shape[-2:]))
        if tuple(raw.shape) != expected:
            raise ValueError(
                f"the network gives {tuple(raw.shape)} for {tuple(fitting.shape)}, expected {expected} at scale {self.scale}"
            )
        return raw[..., : height * self.scale, : width * self.scale]


class _Described(nn.Module):
    """What spandrel loaded, as a module: its call also knows what an architecture wants before and after."""

    def __init__(self, descriptor):
        super().__init__()
        import spandrel

        self.network, self.descriptor = descriptor.model, descriptor
        self.whole = descriptor.tiling is not spandrel.ModelTiling.SUPPORTED

    def forward(self, lr: Tensor) -> Tensor:
        return self.descriptor(lr)


def _state(path: Path) -> dict:
    """The tensors of a file by name, and nothing else that may be in it."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix.lower() not in FOREIGN:
        raise CheckpointError(f"{path}: not a file of weights by its suffix; expected {', '.join(FOREIGN)}")
    with path.open("rb") as file:
        if file.read(64).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs")):
            raise CheckpointError(f"{path}: a web page or a pointer was saved instead of the weights; download it again")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            # What it warns of ends in an error, or does no harm.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in every way
        raise CheckpointError(f"{path}: {_reason(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path}: holds a {type(state).__name__} without names, expected weights by name (a state dict)"
        )
    return state


def _reason(error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return "is TorchScript, which is a program; expected weights alone (a state dict)"
    if "Weights only load failed" in text and ("Unsupported" in text or "GLOBAL" in text or "class" in text):
        return "holds more than weights, which could run code and is not read; expected weights alone (a state dict)"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"damaged, or not a file of weights ({one_line(error)[:100]})"


def _check(path: Path, found) -> None:
    """What is not for upscaling pictures in colour is refused."""
    name = found.architecture.name
    if found.purpose != "SR" or found.scale < 2:
        what = {"FaceSR": "faces of one size", "Inpainting": "filling in masked pictures"}.get(
            found.purpose, "restoring pictures at their own size"
        )
        raise CheckpointError(f"{path}: {name} here is for {what}; expected a super-resolution network of scale 2 or more")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise CheckpointError(
            f"{path}: {name} here takes {found.input_channels} and gives {found.output_channels} channels; expected RGB"
        )
    if not all(p.isfinite().all() for p in found.model.parameters()):
        raise CheckpointError(f"{path}: holds weights that are not finite numbers")
