"""``sr-zoo upscale``."""

import os
from pathlib import Path

from sr_zoo.cli._common import UsageError, complain, positive

__all__ = ["add"]


def add(commands) -> None:
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
        "--samples", type=positive, metavar="N", help="write N different pictures, NAME_x4_1.png and so on, each consistent"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the first sample (default: %(default)s)")
    command.set_defaults(run=_upscale)


def _upscale(options) -> int:
    from sr_zoo.engine import Settings, Spread, upscale_pictures
    from sr_zoo.hub import load
    from sr_zoo.picture import PictureError, open_picture, save_picture

    model = load(options.model)
    if options.samples and not model.noise_channels:
        raise UsageError(f"--samples: {options.model} takes no noise, its samples would all be the same")
    targets = _targets(options.inputs, options.output, model.scale, options.samples)
    failed = 0
    for source, places in zip(options.inputs, targets):
        try:
            picture, spread = open_picture(source), Spread()
            for i, target in enumerate(places):
                done = upscale_pictures([picture], model, Settings(options.precision, options.seed + i))[0]
                save_picture(target, done.picture)
                spread.add(done.array)
                _print_proof(source, target, done, model)
        except PictureError as error:
            failed += complain(error, 1)
            continue
        if len(places) > 1:
            print(
                f"{source}: the samples differ by {spread.deviation:.2f} of 255 levels (mean standard deviation of a pixel)"
            )
    return 1 if failed else 0


def _print_proof(source: str, target: Path, done, model) -> None:
    from sr_zoo.errors import percent

    height, width = done.array.shape[:2]
    samples = done.samples
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
    from sr_zoo.picture import suffix_for

    out = None if output is None else Path(output)
    folder = out is not None and (len(inputs) > 1 or out.is_dir() or output.endswith(("/", os.sep)))
    if folder and out.exists() and not out.is_dir():
        raise UsageError(f"--output {output}: is a file; several pictures need a folder")
    if out is not None and not folder:
        targets = [out]
    else:
        targets = [(out if folder else Path(i).parent) / f"{Path(i).stem}_x{scale}{suffix_for(i)}" for i in inputs]
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
