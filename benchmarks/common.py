"""What the benchmark scripts share."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sr_zoo.files import whole

__all__ = ["RESULTS", "ROOT", "named_file", "parsed", "spawn", "write_json"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def parsed(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; with ``--quick``, what has a place of its own by default goes to a temporary one: it is no result."""
    options = parser.parse_args(arguments)
    for name in ("output", "runs"):
        place = parser.get_default(name)
        if options.quick and place is not None and getattr(options, name) == place:
            setattr(options, name, Path(tempfile.mkdtemp(prefix="quick-")) / place.name)
    return options


def named_file(text: str) -> str:
    """``NAME=FILE``, for ``type=``."""
    name, _, file = text.partition("=")
    if not (name and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return text


def write_json(path: Path, content) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


def spawn(module: str, child: str, *arguments: str) -> dict:
    """What ``python -m benchmarks.MODULE --child CHILD …`` prints in its last line, as JSON; a process of its own for each contender.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", "--child", child, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{child}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])
