"""The command line: argument parsing only; every command calls one public function."""

import argparse
import json
import os
import sys
from pathlib import Path

__all__ = ["main"]

TRAINING = {
    "fit": "train from a recipe",
    "validate": "measure a checkpoint on held-out pictures",
    "test": "the same as a test run",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if hasattr(sys.stdout, "reconfigure"):
        # An output that cannot spell → or a file's name gets them escaped: the work is done, its report shall not fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments and arguments[0] in TRAINING:
        return _reported(lambda: _train(arguments))
    options = _parser().parse_args(arguments)
    return _reported(lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sr-zoo", description="Super-resolution whose pictures downsample back to the input.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("upscale", help="upscale pictures with a pretrained model")
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="picture files")
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a file for one input, a folder for several; beside the input as NAME_x4.png otherwise",
    )
    command.add_argument(
        "--model", default="affmse-x4", help="name, checkpoint folder or owner/name on the Hub (default: %(default)s)"
    )
    command.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "bf16", "float32"),
        help="of the network (default: bf16 where the processor computes in it)",
    )
    command.add_argument(
        "--samples", type=_positive, metavar="N", help="write N different pictures, NAME_x4_1.png and so on, each consistent"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the first sample (default: %(default)s)")
    command.set_defaults(run=_upscale)

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
    command.set_defaults(run=_benchmark)

    command = commands.add_parser("finetune", help="go on training a pretrained model on your own photos")
    command.add_argument("model", metavar="MODEL", help="name or checkpoint folder to start from")
    command.add_argument("photos", metavar="PHOTOS", help="folder of pictures, searched recursively")
    command.add_argument("-o", "--output", required=True, metavar="DIR", help="checkpoint folder to write")
    command.add_argument("--steps", type=_positive, default=1000, metavar="N", help="batches (default: %(default)s)")
    command.add_argument(
        "--val", metavar="PHOTOS", help="folder of held-out pictures; a tenth of PHOTOS is held out otherwise"
    )
    command.add_argument(
        "--kernel", help="if not the model's: bicubic, box, gaussian:SIGMA, or a picture file of a measured one"
    )
    command.add_argument("--ridge", type=float, metavar="E", help="for kernels that cannot be inverted without")
    command.add_argument("--scale", type=int, metavar="S", help="the model's own; it cannot change")
    command.add_argument(
        "--learning-rate", type=float, metavar="R", help="peak (default: of the model's own training, at most 5e-4)"
    )
    command.add_argument("--batch-size", type=_positive, metavar="N", help="crops (default: as many as have 131,072 pixels)")
    command.add_argument(
        "--crop-size", type=_positive, metavar="N", help="pixels (default: 128, less if pictures are small)"
    )
    command.add_argument(
        "--augment", default="turns", choices=("turns", "mirror", "none"), help="flips and rotations (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the crops (default: %(default)s)")
    command.add_argument("--logger", default="csv", choices=("csv", "wandb"), help="default: %(default)s")
    command.add_argument("--artifact", action="store_true", help="give the weights to wandb, too")
    command.add_argument("--again", action="store_true", help="start anew where DIR holds a fine-tuning")
    command.set_defaults(run=_finetune)

    command = commands.add_parser("list", help="list the models that ship with the package")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_list)

    command = commands.add_parser("pull", help="fetch a checkpoint from the Hugging Face Hub into a folder")
    command.add_argument("repo", metavar="REPO", help="owner/name")
    command.add_argument("-o", "--output", metavar="DIR", help="folder to make (default: the repository's name, here)")
    command.add_argument("--revision", metavar="R", help="branch, tag, commit or refs/pr/N (default: main)")
    command.set_defaults(run=_pull)

    command = commands.add_parser("push", help="publish a checkpoint on the Hugging Face Hub")
    command.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="name or checkpoint folder")
    command.add_argument("repo", nargs="?", metavar="REPO", help="owner/name, made if there is none")
    command.add_argument("--all", action="store_true", help="every model that ships with the package")
    command.add_argument("--namespace", metavar="NAME", help="with --all: user or organisation that owns the repositories")
    command.add_argument("--private", action="store_true", help="for its owner only")
    command.add_argument("--revision", metavar="R", help="branch to push to, made if there is none (default: main)")
    command.add_argument("--create-pr", action="store_true", help="propose it as a pull request")
    command.set_defaults(run=_push)

    for name, text in TRAINING.items():
        commands.add_parser(name, help=f"{text}: --config FILE (see 'sr-zoo {name} --help')", add_help=False)
    return parser


def _upscale(options) -> int:
    from sr_zoo.engine import Spread, upscale_array
    from sr_zoo.hub import load
    from sr_zoo.picture import PictureError, read_picture, write_picture

    model = load(options.model)
    if options.samples and not model.noise_channels:
        raise UsageError(f"--samples: {options.model} takes no noise, its samples would all be the same")
    targets = _targets(options.inputs, options.output, model.scale, options.samples)
    failed = 0
    for source, places in zip(options.inputs, targets):
        try:
            picture, spread = read_picture(source, keep_grey=True), Spread()
            for i, target in enumerate(places):
                done = upscale_array(picture, model, options.precision, options.seed + i)
                write_picture(target, done.picture)
                spread.add(done.picture)
                _print_proof(source, target, done, model)
        except PictureError as error:
            failed += _complain(error, 1)
            continue
        if len(places) > 1:
            print(
                f"{source}: the samples differ by {spread.deviation:.2f} of 255 levels (mean standard deviation of a pixel)"
            )
    return 1 if failed else 0


def _print_proof(source: str, target: Path, done, model) -> None:
    from sr_zoo.errors import percent

    height, width = done.picture.shape[:2]
    samples = done.picture.size // model.scale**2
    share = f"{percent(done.reproduced)} ({round(done.reproduced * samples):,} of {samples:,})"
    print(
        f"{source} {width // model.scale}×{height // model.scale} → {target} {width}×{height} in {done.seconds:.2f} s; "
        f"downsampled, the saved file gives back {f'all {samples:,}' if done.reproduced == 1 else share} of the input's "
        f"samples (LR-PSNR {done.lr_psnr_8bit:.1f} dB saved, {done.lr_psnr:.1f} dB before rounding)"
        + ("" if model.exact else "; this model does not promise consistency"),
        flush=True,
    )


def _targets(inputs: list[str], output: str | None, scale: int, samples: int | None) -> list[list[Path]]:
    """Where the samples of each picture go; no two to one place, and none onto an input."""
    out = None if output is None else Path(output)
    folder = out is not None and (len(inputs) > 1 or out.is_dir() or output.endswith(("/", os.sep)))
    if folder and out.exists() and not out.is_dir():
        raise UsageError(f"--output {output}: is a file; several pictures need a folder")
    if out is not None and not folder:
        targets = [out]
    else:
        targets = [(out if folder else Path(i).parent) / f"{Path(i).stem}_x{scale}.png" for i in inputs]
    numbered = [
        [t.with_stem(f"{t.stem}_{i + 1:0{len(str(samples))}}") for i in range(samples)] if samples else [t] for t in targets
    ]
    taken = {}
    for source, target in ((i, t) for i, places in zip(inputs, numbered) for t in places):
        if target in taken:
            raise UsageError(
                f"{target}: both {taken[target]} and {source} would go there; upscale them one by one with --output"
            )
        taken[target] = source
        for other in inputs:
            if target.exists() and os.path.exists(other) and os.path.samefile(target, other):
                raise UsageError(f"{target}: is an input and would be overwritten; give another --output")
    return numbered


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _benchmark(options) -> int:
    from sr_zoo.benchmark import PROTOCOL, benchmark, format_table, write_results
    from sr_zoo.hub import checkpoint_folder, read_config

    scales = options.scale
    if scales is None:
        trained = [read_config(checkpoint_folder(m)).get("scale", 4) for m in options.models if m not in ("bicubic", "pinv")]
        scales = sorted(set(trained)) or [4]
    rows = benchmark(
        options.models, options.sets, options.data, scales, options.precision, lambda line: print(line, file=sys.stderr)
    )
    print(format_table(rows))
    print(f"\n{PROTOCOL}")
    print(f"\nwritten: {write_results(rows, options.output)}", file=sys.stderr)
    return 0


def _finetune(options) -> int:
    from sr_zoo.finetune import finetune

    arguments = {name: value for name, value in vars(options).items() if name != "run"}
    record = finetune(**arguments, report=lambda line: print(line, file=sys.stderr, flush=True))
    before, after = record["before"]["psnr"], record["after"]["psnr"]
    note = {
        "best": "",
        "start": "; nothing better was found, so these are the weights it started from",
        "last": "; these are the last weights, whatever the PSNR",
    }
    count = len(record["held_out"])
    print(f"{options.output}: {before:.2f} → {after:.2f} dB on {count} held-out pictures{note[record['kept']]}")
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


def _pull(options) -> int:
    from sr_zoo.remote import pull

    print(f"{options.repo} → {pull(options.repo, options.output, options.revision)}")
    return 0


def _push(options) -> int:
    if options.all != (options.namespace is not None):
        raise UsageError("push: --all and --namespace NAME go together")
    if options.all == (options.repo is not None) or (options.all and options.checkpoint is not None):
        raise UsageError("push: give CHECKPOINT and REPO, or --all --namespace NAME")
    if options.create_pr and options.revision not in (None, "main"):
        raise UsageError(f"push: a pull request starts from the main branch, not from --revision {options.revision}")
    from sr_zoo.publish import push, push_all

    choices = {"private": options.private, "revision": options.revision, "create_pr": options.create_pr}
    if options.all:
        push_all(options.namespace, lambda line: print(line, flush=True), **choices)
    else:
        print(f"{options.checkpoint} → {push(options.checkpoint, options.repo, **choices)}")
    return 0


def _train(arguments: list[str]) -> int:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from sr_zoo.descent import TrainingDiverged
    from sr_zoo.training import run

    try:
        run(arguments)
    except (MisconfigurationException, TrainingDiverged) as error:
        return _complain(error, 1)
    return 0


class UsageError(ValueError):
    """Options that contradict each other: exit code 2."""


def _reported(run) -> int:
    """Run a command; what a user can mend is one line. Other exceptions are bugs and keep their traceback."""
    try:
        code = run()
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        return code
    except UsageError as error:
        return _complain(error, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except MemoryError as error:
        return _complain(f"{error or 'not enough memory'}; cut the picture into smaller ones", 1)
    except (ValueError, OSError) as error:
        return _complain(error, 1)
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return _complain("not enough memory; cut the picture into smaller ones", 1)


def _complain(error, code: int) -> int:
    print(f"sr-zoo: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
