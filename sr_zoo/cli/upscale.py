"""``sr-zoo upscale``."""

import dataclasses
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
    _add_many(command)
    command.set_defaults(run=_upscale)


def _add_model(command) -> None:
    group = command.add_argument_group("model")
    group.add_argument(
        "--model", default="affmse-x4", help="name, checkpoint folder or owner/name on the Hub (default: %(default)s)"
    )
    group.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "bf16", "float32"),
        help="of the network (default: bf16 where the processor computes in it)",
    )
    group.add_argument(
        "--tile", type=_natural, metavar="N", help="side in input pixels of what is computed at once, 0 for whole pictures"
    )
    group.add_argument(
        "--samples", type=positive, metavar="N", help="write N different pictures, NAME_x4_1.png and so on, each consistent"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of the first sample (default: %(default)s)")


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
    return 0 if text == "0" else positive(text)


def _upscale(options) -> int:
    from sr_zoo import distributed
    from sr_zoo.engine import Settings
    from sr_zoo.folder import upscale_jobs
    from sr_zoo.hub import load
    from sr_zoo.plan import TargetError, plan
    from sr_zoo.summary import write_report

    if options.report and os.path.isdir(options.report):
        raise UsageError(f"--report {options.report}: is a folder; give a file")
    model = load(options.model)
    if options.samples and not model.noise_channels:
        raise UsageError(f"--samples: {options.model} takes no noise, its samples would all be the same")
    try:
        planned = plan(options.inputs, options.output, model.scale, options.samples, options.recursive)
    except TargetError as error:
        raise UsageError(error) from None
    speaks = distributed.first()
    if speaks:
        for line in (*planned.failures, *(() if options.quiet else planned.notes)):
            complain(line, 1)
    total = sum(len(job.targets) for job in planned.jobs)
    progress = Progress(-(-total // distributed.processes()), speaks and planned.folders > 0 and not options.quiet)
    teller = _Teller(progress, planned.folders == 0 or options.verbose, options, model.exact)
    try:
        settings = Settings(options.precision, options.seed, options.tile)
        summary = upscale_jobs(planned.jobs, model, settings, options.skip_existing, teller)
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


class _Teller:
    """Prints what became of each picture: the proof to stdout if ``proofs``, what is wrong to stderr."""

    def __init__(self, progress: Progress, proofs: bool, options, exact: bool):
        self.progress, self.proofs, self.quiet, self.verbose = progress, proofs, options.quiet, options.verbose
        self.promise = "" if exact else "; this model does not promise consistency"

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
