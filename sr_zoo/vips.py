"""libvips, quiet: what it has to say comes as an exception."""

import os

# Read once, when the library starts: its warnings would go to stderr past Python.
os.environ.setdefault("VIPS_WARNING", "0")

import pyvips

__all__ = ["pyvips", "reason"]

# pyvips hands warnings on to logging, and prints a traceback where one is not UTF-8; without that, libvips keeps them.
if hasattr(pyvips, "_remove_log_handler"):
    pyvips._remove_log_handler()

# Each picture is an object of its own, so that no operation is met again: keeping them would only keep their memory.
pyvips.cache_set_max(0)


# What says only that something failed.
EMPTY_WORDS = ("unable to", "source: bad seek", "vips__tiff_openin_source: unable to", "(")


def reason(error: pyvips.Error) -> str:
    """The last line of what the library says that tells anything, without the name of the part that says it."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(EMPTY_WORDS)]
    return telling[-1].partition(": ")[2] or telling[-1] if telling else "its data do not fit its header"
