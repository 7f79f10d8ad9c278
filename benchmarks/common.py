"""What the benchmark scripts share."""

import json
from pathlib import Path

from sr_zoo.hub import write_whole

__all__ = ["RESULTS", "ROOT", "write_json"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def write_json(path: Path, content) -> None:
    write_whole(path, lambda beside: Path(beside).write_text(json.dumps(content, indent=1) + "\n"))
