"""``sr-zoo export``."""

from sr_zoo.cli._common import UsageError, positive

__all__ = ["add"]


def add(commands) -> None:
    command = commands.add_parser("export", help="write a model as one file for other runtimes, its consistency included")
    command.add_argument("model", metavar="MODEL", help="name, checkpoint folder or owner/name on the Hub")
    command.add_argument("--format", default="onnx", choices=("onnx",), help="default: %(default)s")
    command.add_argument("-o", "--output", metavar="FILE", help="ends in .onnx (default: the model's name, here)")
    command.add_argument(
        "--opset",
        type=positive,
        default=18,
        metavar="N",
        help="version of ONNX's operators, 18 or more (default: %(default)s)",
    )
    command.set_defaults(run=_export)


def _export(options) -> int:
    if options.opset < 18:
        raise UsageError(f"--opset {options.opset}: expected 18 or more")
    from sr_zoo.export import export
    from sr_zoo.hub import model_names

    output = options.output or f"{model_names([options.model.partition('@')[0]])[0]}.onnx"
    path = export(options.model, output, options.opset)
    print(f"{options.model} → {path} ({path.stat().st_size / 2**20:.1f} MiB): lr (batch, 3, height, width) in [0, 1] → sr")
    return 0
