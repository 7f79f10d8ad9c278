"""What the benchmark scripts share."""

import json
from pathlib import Path

from sr_zoo.files import whole

__all__ = ["RESULTS", "ROOT", "write_json"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def write_json(path: Path, content) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")
