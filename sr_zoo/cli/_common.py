"""What the commands share: errors of one line, and checks of options."""

import argparse
import re
import sys

__all__ = ["UsageError", "complain", "of_an_option", "positive"]


class UsageError(ValueError):
    """Options that contradict each other: exit code 2."""


def complain(error, code: int) -> int:
    """Tell an error in one line; returns the exit code."""
    print(f"sr-zoo: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def of_an_option(error, arguments: list[str]) -> str | None:
    """What a function says of an argument, ``"crop_size: 33 is …"``, as of ``--crop-size``; None if that is not given."""
    word = re.match(r"\w*", str(error))[0]
    option, rest = f"--{word.replace('_', '-')}", str(error)[len(word) :]
    given = any(argument.partition("=")[0] == option for argument in arguments)
    return option + rest if given and rest.startswith((":", " ")) else None


def positive(text: str) -> int:
    """A whole number of 1 or more, for ``type=``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
