"""``sr-zoo benchmark`` and ``sr-zoo list``."""

import json
import sys
from pathlib import Path

from sr_zoo.cli._common import UsageError

__all__ = ["add"]


def add(commands) -> None:
    command = commands.add_parser("benchmark", help="measure models on Set5, Set14, BSD100 by the published protocol")
    command.add_argument(
        "models", nargs="+", metavar="MODEL", help="name, checkpoint folder, Hub repository, 'bicubic' or 'pinv'"
    )
    command.add_argument("--sets", nargs="+", default=["Set5", "Set14", "BSD100"], metavar="SET")
    command.add_argument("--data", metavar="DIR", help="folder with a folder of PNG files per set; downloaded otherwise")
    command.add_argument(
        "--scale", nargs="+", type=int, metavar="S", help="default: the models' own, 4 for bicubic and pinv"
    )
    command.add_argument("--output", default=".", metavar="DIR", help="where results.json goes (default: here)")
    command.add_argument(
        "--precision", default="float32", choices=("auto", "bf16", "float32"), help="of the network (default: %(default)s)"
    )
    command.add_argument(
        "--ensemble", action="store_true", help="each trained model also with the mean of eight flips and rotations"
    )
    command.set_defaults(run=_benchmark)

    command = commands.add_parser("list", help="list the models that ship with the package")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_list)


def _benchmark(options) -> int:
    from sr_zoo.benchmark import benchmark, format_table, write_results
    from sr_zoo.checkpoint import read_config
    from sr_zoo.hub import checkpoint_folder, load, model_names
    from sr_zoo.metrics import PROTOCOL

    if Path(options.output).exists() and not Path(options.output).is_dir():
        raise UsageError(f"--output {options.output}: is a file; give a folder")
    models, scales = list(options.models), options.scale
    if scales is None:
        trained = [read_config(checkpoint_folder(m)).get("scale", 4) for m in options.models if m not in ("bicubic", "pinv")]
        scales = sorted(set(trained)) or [4]
    if options.ensemble:
        trained = [(name, m) for name, m in zip(model_names(models), models) if m not in ("bicubic", "pinv")]
        models += [(f"{name}, ensemble", load(m).self_ensemble()) for name, m in trained]
    rows = benchmark(
        models, options.sets, options.data, scales, options.precision, lambda line: print(line, file=sys.stderr)
    )
    print(format_table(rows))
    print(f"\n{PROTOCOL}")
    print(f"\nwritten: {write_results(rows, options.output)}", file=sys.stderr)
    return 0


def _list(options) -> int:
    from sr_zoo.hub import list_models

    models = list_models()
    if options.json:
        print(json.dumps(models, indent=1))
        return 0
    for model in models:
        figures = {r["set"]: f"{r['psnr']:.2f}" for r in model["results"]}
        shown = "  ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{model['name']:<16} {model['method']:<8} ×{model['scale']}  {model['kernel']}  {shown} dB")
    return 0
