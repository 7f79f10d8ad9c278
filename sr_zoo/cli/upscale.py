"""``sr-zoo upscale``."""

import argparse
import dataclasses
import functools
import os
import sys

from sr_zoo.cli._common import UsageError, complain, positive
from sr_zoo.cli._progress import Progress

__all__ = ["add"]


def add(commands) -> None:
    command = commands.add_parser("upscale", help="upscale pictures and folders of pictures with a pretrained model")
    command.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture files or folders; URLs such as s3://, hf:// too"
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a file for one picture, a folder for several; beside the input as NAME_x4.png otherwise",
    )
    _add_model(command)
    _add_input(command)
    _add_output(command)
    _add_many(command)
    command.set_defaults(run=_upscale)


def _add_model(command) -> None:
    group = command.add_argument_group("model")
    group.add_argument(
        "--model",
        help="name, checkpoint folder, owner/name on the Hub, or a file of weights from elsewhere (.pth, .safetensors: needs "
        "the spandrel extra); default: affmse-x4, or what --outscale and --size need",
    )
    group.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "bf16", "float32"),
        help="of the network (default: bf16 where the processor computes in it)",
    )
    group.add_argument(
        "--ensemble",
        action="store_true",
        help="the mean of eight flips and rotations: eight times the work, a little better",
    )
    group.add_argument(
        "--tile", type=_natural, metavar="N", help="side in input pixels of what is computed at once, 0 for whole pictures"
    )
    group.add_argument(
        "--samples", type=positive, metavar="N", help="write N different pictures, NAME_x4_1.png and so on, each consistent"
    )
    group.add_argument("--seed", type=int, metavar="S", help="of the first sample (default: 0)")
    group.add_argument(
        "--backend",
        default="torch",
        choices=("torch", "compile", "onnxruntime"),
        help="what computes the network (default: %(default)s, the fastest measured); the others need a C++ compiler, or the "
        "onnx extra",
    )


def _add_input(command) -> None:
    group = command.add_argument_group("what the input went through, and how it is read")
    group.add_argument(
        "--kernel", metavar="K", help="its blur: bicubic, box, gaussian:SIGMA[:SIZE], or a picture of a measured kernel"
    )
    group.add_argument("--ridge", type=float, metavar="E", help="for kernels that cannot be inverted without, such as 1e-3")
    group.add_argument(
        "--noise-level", type=float, default=0.0, metavar="S",
        help="standard deviation of its noise, 0 to 100 of 255; about 5 for JPEG of quality 50 to 70, 2 for 90. The output then "
        "agrees with the input only as far as that allows",
    )  # fmt: skip
    group.add_argument(
        "--all-frames", action="store_true", help="each frame or page as a picture of its own, not the first only"
    )
    group.add_argument(
        "--max-pixels", type=positive, metavar="N", help="largest picture that is not taken for a decompression bomb"
    )


def _add_output(command) -> None:
    group = command.add_argument_group("size and format")
    sizes = group.add_mutually_exclusive_group()
    sizes.add_argument(
        "--outscale", type=float, metavar="F", help="any factor, such as 3.3: the nearest network, then bicubic"
    )
    sizes.add_argument("--size", metavar="WxH", help="3840x2160, or 3840x and x2160 to keep the aspect; likewise")
    group.add_argument(
        "--format",
        choices=("png", "tif", "webp", "avif", "jpg", "bmp"),
        help="of the files (default: png, or tif for TIFF and CMYK)",
    )
    group.add_argument(
        "--quality",
        type=_percent,
        metavar="Q",
        help="1 to 100: lossy WebP, AVIF or JPEG; all but JPEG (95) are lossless otherwise",
    )


def _add_many(command) -> None:
    group = command.add_argument_group(
        "folders", "DIR/a/b.jpg becomes OUT/a/b_x4.png. torchrun and srun share a folder among their processes."
    )
    group.add_argument("-r", "--recursive", action="store_true", help="the pictures in the folders of a folder, too")
    group.add_argument(
        "--skip-existing", action="store_true", help="leave out what is in OUT already: an interrupted run goes on"
    )
    group.add_argument("--report", metavar="FILE.csv", help="a table of what became of each picture")
    group = group.add_mutually_exclusive_group()
    group.add_argument("-v", "--verbose", action="store_true", help="a line for each picture of a folder")
    group.add_argument("-q", "--quiet", action="store_true", help="tell of failures only")


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _percent(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100")
    return int(text)


def _upscale(options) -> int:
    from sr_zoo import distributed
    from sr_zoo.delivery import Delivery
    from sr_zoo.engine import Settings
    from sr_zoo.folder import upscale_jobs
    from sr_zoo.hub import load
    from sr_zoo.plan import TargetError, overwrites_nothing, plan
    from sr_zoo.resize import default_model
    from sr_zoo.summary import write_report

    _check(options)

    def see(name: str):
        model = load(name)
        if options.ensemble:
            model = model.self_ensemble()
        if options.kernel is None and options.ridge is None and not options.noise_level:
            return model
        return model.see_through(options.kernel, options.noise_level, options.ridge)

    chosen = functools.cache(lambda scale: see(default_model(scale)))
    choosing = options.model is None and (options.outscale is not None or options.size is not None)
    model = see(options.model or default_model(4))
    delivery = Delivery(options.outscale, options.size, chosen if choosing else None, options.quality, options.max_pixels)
    if options.samples and not model.noise_channels:
        name = options.model or default_model(4)
        raise UsageError(f"--samples: {name} takes no noise, its samples would all be the same; try --model affgan-x4")
    if options.seed is not None and not model.noise_channels:
        raise UsageError("--seed: this model takes no noise, its picture is always the same; leave it out")
    try:
        planned = plan(
            options.inputs, options.output, delivery.label(model.scale), options.samples, options.recursive,
            options.format and f".{options.format}", options.all_frames,
        )  # fmt: skip
        if options.report and not overwrites_nothing(options.report, planned.jobs):
            raise UsageError(f"--report {options.report}: is one of the pictures, to read or to write; give another file")
    except TargetError as error:
        raise UsageError(error) from None
    speaks = distributed.first()
    if speaks:
        for line in (*planned.failures, *(() if options.quiet else planned.notes)):
            complain(line, 1)
    total = sum(len(job.targets) for job in planned.jobs)
    progress = Progress(-(-total // distributed.processes()), speaks and planned.folders > 0 and not options.quiet)
    teller = _Teller(progress, planned.folders == 0 or options.verbose, options, model)
    try:
        settings = Settings(options.precision, options.seed or 0, options.tile, options.backend)
        summary = upscale_jobs(planned.jobs, model, settings, options.skip_existing, teller, delivery)
    except KeyboardInterrupt:
        progress.close()
        again = "; the same with --skip-existing goes on from there" if total > 1 else ""
        return complain(f"interrupted, {progress.number:,} of {progress.total:,} pictures dealt with{again}", 130)
    finally:
        progress.close()
    summary = dataclasses.replace(summary, others=planned.others, failures=tuple(planned.failures))
    if speaks and planned.folders and not options.quiet:
        print(summary.sentence())
    if speaks and options.report:
        write_report(options.report, summary)
    return 1 if summary.failed else 0


def _check(options) -> None:
    """Raises UsageError for what cannot work, whatever the model and the pictures."""
    from sr_zoo.encoding import FORMATS

    report, suffix = options.report, f".{options.format}" if options.format else ""
    if not suffix and options.output and not os.path.isdir(options.output):
        suffix = os.path.splitext(options.output)[1].lower()
    lossless = [
        f.name for s, f in FORMATS.items() if f.lossy == "never" and s in ((suffix,) if suffix else (".png", ".tif"))
    ]
    if options.quality is not None and lossless:
        are = "are" if lossless[1:] else "is"
        raise UsageError(
            f"--quality {options.quality}: {' and '.join(lossless)} {are} always lossless; give --format webp, avif or jpg"
        )
    if options.precision == "bf16" and options.backend == "onnxruntime":
        raise UsageError("--precision bf16: onnxruntime computes in float32; leave one of the two out")
    if report and os.path.isdir(report):
        raise UsageError(f"--report {report}: is a folder; give a file")
    there = os.path.dirname(os.path.abspath(report)) if report else os.curdir
    while not os.path.exists(there):  # missing folders are made
        there = os.path.dirname(there)
    if report and not (os.path.isdir(there) and os.access(there, os.W_OK)):
        raise UsageError(f"--report {report}: cannot be written, since {there} is no folder to write to")


class _Teller:
    """Prints what became of each picture: the proof to stdout if ``proofs``, what is wrong to stderr."""

    def __init__(self, progress: Progress, proofs: bool, options, model):
        self.progress, self.proofs, self.quiet, self.verbose = progress, proofs, options.quiet, options.verbose
        self.promise = "" if model.exact else f". {model.promise.removesuffix('.')}"

    def __call__(self, result) -> None:
        self.progress.advance(worked=result.state != "skipped")
        if result.state == "failed":
            self.complain(result.reason)
            if self.verbose and result.trace:
                self.progress.print(result.trace.rstrip(), sys.stderr)
        elif not self.quiet:
            for note in result.notes:
                self.complain(f"{result.source}: {note}")
            if self.proofs:
                self.progress.print(self.proof(result), sys.stdout)

    def complain(self, text: str) -> None:
        self.progress.print(f"sr-zoo: {' '.join(text.split())}", sys.stderr)

    def proof(self, result) -> str:
        if result.state == "skipped":
            return f"{result.source}: skipped, there is {result.target}"
        if result.spread is None:
            return result.sentence() + self.promise
        return (
            f"{result.sentence()}{self.promise}\n{result.source}: the samples differ by {result.spread:.2f} of 255 levels "
            "(mean standard deviation of a pixel)"
        )
