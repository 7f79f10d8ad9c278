"""The command line: argument parsing only; every command calls one public function. One module for each command or two."""

import argparse
import functools
import os
import sys

from sr_zoo.cli import benchmark, export, finetune, hub, upscale
from sr_zoo.cli._common import UsageError, complain, of_an_option
from sr_zoo.errors import UserError

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
    return _reported(lambda: options.run(options), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sr-zoo", description="Super-resolution whose pictures downsample back to the input.")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=functools.partial(argparse.ArgumentParser, allow_abbrev=False)
    )
    for module in (upscale, benchmark, finetune, hub, export):
        module.add(commands)
    for name, text in TRAINING.items():
        commands.add_parser(name, help=f"{text}: --config FILE (see 'sr-zoo {name} --help')", add_help=False)
    return parser


def _train(arguments: list[str]) -> int:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from sr_zoo.descent import TrainingDiverged
    from sr_zoo.training import run

    try:
        run(arguments)
    except MisconfigurationException as error:
        absent = "; --trainer.accelerator cpu trains without" if "gpu" in str(error).lower() else ""
        return complain(f"{str(error).rstrip('!.')}{absent}", 1)
    except TrainingDiverged as error:
        return complain(error, 1)
    return 0


def _reported(run, arguments=()) -> int:
    """Run a command; what a user can mend is one line. Other exceptions are bugs and keep their traceback."""
    try:
        code = run()
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        return code
    except UsageError as error:
        return complain(error, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except MemoryError as error:
        return complain(f"{error or 'not enough memory'}; cut the picture into smaller ones", 1)
    except (ValueError, OSError) as error:
        usage = of_an_option(error, arguments) if type(error) is UserError else None  # others are of files
        return complain(usage or error, 2 if usage else 1)
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return complain("not enough memory; cut the picture into smaller ones", 1)
