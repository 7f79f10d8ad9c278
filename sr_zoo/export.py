"""A model as one file that runs without this library: generator and consistency as an ONNX graph for pictures of any size."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_zoo import _bands
from sr_zoo.consistency import CONSISTENCIES, Affine
from sr_zoo.errors import one_line
from sr_zoo.files import expanded, whole
from sr_zoo.generators import Projected
from sr_zoo.graph import OPSET, ExportError, onnx_graph
from sr_zoo.operators import TAIL, Downsampler

__all__ = ["OPSET", "ExportError", "export", "onnx_graph"]


def export(model, path: str | Path, opset: int = OPSET) -> Path:
    """Write a model as an ONNX file, its consistency included.

    The graph takes ``lr`` ``(batch, 3, height, width)``, float32 in [0, 1], and gives ``sr`` ``(batch, 3, scale·height,
    scale·width)``, not clamped; batch, height and width are free, from 1 on. Where the model takes noise there is a second input
    ``noise`` ``(batch, noise_channels, height, width)`` of standard deviation 1. The file's metadata tell name, method, scale,
    kernel, consistency and, where the model's card says it, licence.

    Args:
        model: a name, checkpoint folder or Hub repository, or a :class:`~sr_zoo.methods.SuperResolver`; averaged weights are
            written.
        path: ends in ``.onnx``; the file appears whole or not at all.
        opset: version of ONNX's operators, 18 or more.

    Raises:
        CheckpointError: the model cannot be loaded.
        ExportError: a kernel that is not symmetric and separable, a ridge, a model made for noise, a network that cannot be traced,
            another ending, a place that cannot be written, or the packages of the extra ``onnx`` are missing.
    """
    path = expanded(path)
    if path.suffix.lower() != ".onnx":
        raise ExportError(f"{path}: the file's name must end in .onnx")
    if isinstance(model, (str, Path)):
        from sr_zoo.hub import load, model_names

        name, model = model_names([str(model).partition("@")[0]])[0], load(model)
    else:
        name = model.folder.name if model.folder else type(model).__name__
    try:
        with whole(path) as beside:
            graph = _Model(model.inference_generator, model.consistency)
            beside.write_bytes(onnx_graph(graph, model.noise_channels, "sr", opset, _metadata(model, name)))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None
    return path


class _Model(nn.Module):
    """The whole method in operations that keep their meaning for any size."""

    def __init__(self, generator: nn.Module, consistency):
        super().__init__()
        if not isinstance(consistency, tuple(part for _, part in CONSISTENCIES.items())):
            raise ExportError(
                "export: no graph can be written for a model made for noise; export the one that it was made of"
            )
        if isinstance(generator, Projected):
            generator = _Model(generator.generator, generator.consistency)
        if not getattr(generator, "traceable", True):
            raise ExportError(
                "export: no graph can be written for an ensemble around a model made for another kernel; export that model"
            )
        self.generator, self.operator = generator, _Operator(consistency.base)
        self.affine = isinstance(consistency, Affine)

    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        raw = self.generator(lr) if noise is None else self.generator(lr, noise)
        missing = lr - self.operator.A(raw) if self.affine else lr
        return raw + self.operator.pinv(missing)


class _Operator(nn.Module):
    """A and A⁺ as convolutions of mirrored pictures, in one-channel planes."""

    def __init__(self, downsampler: Downsampler):
        super().__init__()
        lines = downsampler._filter
        if downsampler.ridge or not isinstance(lines, _bands.SeparableFilter):
            what = (
                f"a ridge ({downsampler.ridge:g})" if downsampler.ridge else "a kernel that is not symmetric and separable"
            )
            raise ExportError(f"export: no graph can be written for {what}; only for exact A⁺ of a separable kernel")
        self.scale = downsampler.scale
        rows, columns = lines.rows, lines.columns
        self.register_buffer("taps", torch.outer(rows.taps, columns.taps).float()[None, None])
        solve = [_bands._cut(line.inverse_gram, TAIL[torch.float32]).float() for line in (rows, columns)]
        self.register_buffer("solve_rows", solve[0][None, None, :, None])
        self.register_buffer("solve_columns", solve[1][None, None, None, :])

    def A(self, hr: Tensor) -> Tensor:
        before = [(n - self.scale) // 2 for n in self.taps.shape[2:]]
        return self._planes(hr, lambda x: F.conv2d(_mirrored(x, before), self.taps, stride=self.scale))

    def pinv(self, lr: Tensor) -> Tensor:
        return self._planes(lr, lambda x: self._adjoint(self._solve(x)))

    def _solve(self, x: Tensor) -> Tensor:
        x = F.conv2d(_mirrored(x, (self.solve_rows.shape[2] // 2, 0)), self.solve_rows)
        return F.conv2d(_mirrored(x, (0, self.solve_columns.shape[3] // 2)), self.solve_columns)

    def _adjoint(self, x: Tensor) -> Tensor:
        s, taps = self.scale, self.taps.shape[2:]
        reach = [max(1, -(-(n - s) // (2 * s))) for n in taps]
        y = F.conv_transpose2d(_mirrored(x, reach), self.taps, stride=s)
        top, left = ((n - s) // 2 + s * r for n, r in zip(taps, reach))
        return y[:, :, top : top + s * x.shape[2], left : left + s * x.shape[3]]

    def _planes(self, x: Tensor, function) -> Tensor:
        y = function(x.flatten(0, 1).unsqueeze(1))
        return y.squeeze(1).unflatten(0, (-1, 3))


def _mirrored(x: Tensor, border) -> Tensor:
    """Half-sample symmetric, periodic: right also for pictures that are smaller than the border. It may be negative: then cut."""
    for dim, reach in zip((2, 3), border):
        if reach:
            size = x.shape[dim]
            index = torch.arange(-reach, size + reach)
            # A tensor as divisor: the exporter has no remainder by a number that is not known yet.
            index = index.remainder(torch.full_like(index, 2 * size))
            x = x.index_select(dim, torch.minimum(index, 2 * size - 1 - index))
    return x


def _metadata(model, name: str) -> dict[str, str]:
    from huggingface_hub import ModelCard

    facts = {
        "name": name, "method": type(model).__name__, "scale": str(model.scale), "kernel": str(model.downsampler.kernel),
        "consistency": next(k for k, part in CONSISTENCIES.items() if isinstance(model.consistency, part)),
    }  # fmt: skip
    card = model.folder and model.folder / "README.md"
    if card and card.is_file():
        licence = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict().get("license")
        facts |= {"licence": str(licence)} if licence else {}
    return facts
