"""A module as an ONNX graph for any batch, height and width: what runtimes take and files hold."""

import copy
import warnings

import torch
from torch import nn

from sr_zoo.errors import UserError, one_line

__all__ = ["OPSET", "ExportError", "onnx_graph"]

OPSET = 18
EXTRA = "pip install 'sr_zoo[onnx]'"


class ExportError(UserError):
    """A model that cannot be exported, or a file that cannot be written; the message says why."""


def onnx_graph(
    module: nn.Module, noise_channels: int, output: str, opset: int = OPSET, metadata: dict | None = None
) -> bytes:
    """A module ``(lr[, noise]) → picture`` as the bytes of an ONNX file with free batch, height and width.

    Raises:
        ExportError: it cannot be traced, or the packages of the extra ``onnx`` are missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch.onnx writes with
    except ImportError as error:
        raise ExportError(f"export: needs the package {error.name}; {EXTRA}") from None
    if not OPSET <= opset <= onnx.defs.onnx_opset_version():
        raise ExportError(
            f"opset: {opset} is not between {OPSET} and {onnx.defs.onnx_opset_version()}, what this onnx knows"
        )
    module = copy.deepcopy(module).cpu().eval()
    # Sizes that differ from each other, from 1 and from what one filter reaches, so that none is taken for a constant.
    inputs = [torch.rand(2, 3, 37, 43)] + ([torch.randn(2, noise_channels, 37, 43)] if noise_channels else [])
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    names = ["lr", "noise"][: len(inputs)]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # That an axis of the second input has the name of the first's, as it shall.
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            program = torch.onnx.export(
                module, tuple(inputs), dynamo=True, opset_version=opset, input_names=names, output_names=[output],
                dynamic_shapes=tuple(free for _ in inputs), verbose=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"export: the network cannot be traced ({one_line(error)})") from None
    graph = program.model_proto
    if (made := next(o.version for o in graph.opset_import if not o.domain)) != opset:
        raise ExportError(f"opset: {opset} cannot be had from this onnxscript, but {made}")
    onnx.helper.set_model_props(graph, metadata or {})
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()
