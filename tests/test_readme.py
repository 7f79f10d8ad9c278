"""What README.md and the cards claim is what results.json says, and its commands are the program's."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks import readme
from benchmarks.common import ROOT
from sr_zoo.cli import _parser, main

TEXT = (ROOT / "README.md").read_text()


def test_generated_parts_are_up_to_date():
    for path, text in readme.pages().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is out of date: make readme"


def test_commands_are_the_programs():
    commands = re.findall(
        r"^(?:pip .*&& )?(sr-zoo .*)$", "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)), re.MULTILINE
    )
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if words[0] == "fit":
            with pytest.raises(SystemExit) as stop:
                main([*words, "--print_config"])
            assert stop.value.code == 0, command
        else:
            _parser().parse_args(words)
        for word in words:
            if word.endswith((".yaml", "examples/astronaut.png")):
                assert (ROOT / word).is_file(), word


def test_python_lines_run(tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "large.png").is_file()


def test_every_name_of_the_package_that_is_used_exists():
    import sr_zoo

    names = set(re.findall(r"\bsr_zoo\.([A-Za-z_]+)\(", TEXT))
    assert {"load", "upscale", "upscale_folder"} <= names
    assert all(hasattr(sr_zoo, name) for name in names), names


def test_lines_that_make_any_network_consistent_run(tmp_path, monkeypatch):
    (code,) = re.findall(r"<!-- consistent -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "consistent.png").is_file()


def test_fine_tuning_lines_run(tmp_path, monkeypatch, picture):
    """Those in Python: three besides the imports. One step instead of the thousand, on a few small pictures."""
    from PIL import Image

    import sr_zoo

    (code,) = re.findall(r"<!-- finetune -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for line in code.splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) == 3
    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.fromarray(picture[:32, :32] + np.uint8(i)).resize((128, 128)).save(tmp_path / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "max_steps=1000" in code
    exec(code.replace("max_steps=1000", "max_steps=1"), {})
    assert sr_zoo.load(tmp_path / "mine").scale == 4


def test_pictures_of_a_fine_tuning(checkpoint, tmp_path, monkeypatch, folder):
    import json

    from benchmarks import tuned

    arguments = [str(checkpoint), str(checkpoint), str(folder), "--output", str(tmp_path / "x.png")]
    monkeypatch.setattr("sys.argv", ["tuned", *arguments])
    tuned.main()
    before, after = json.loads((tmp_path / "x.json").read_text())
    assert before == after and before["pictures"] == 3 and before["reproduced"] == 1 and (tmp_path / "x.png").is_file()


def test_a_large_picture_is_measured(tmp_path, monkeypatch):
    import json

    from benchmarks import large

    options = ["--side", "70", "--model", "affmse-x4-fast", "--output", str(tmp_path / "x.json")]
    monkeypatch.setattr("sys.argv", ["large", *options])
    large.main()
    row = json.loads((tmp_path / "x.json").read_text())
    assert row["saved_size"] == [280, 280] and row["samples"] == 3 * 70**2 and row["reproduced"] > 0.99
    assert 2e8 < row["peak_bytes"] < 4e9


def test_the_pictures_of_the_readme_can_be_drawn(tmp_path, monkeypatch):
    import json

    from benchmarks import figure

    monkeypatch.setattr(figure, "METHODS", ("mse-x4", "affmse-x4", "affgan-x4"))
    monkeypatch.setattr("sys.argv", ["figure", "--output", str(tmp_path)])
    figure.main()
    drawn = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")}
    assert drawn >= {"results/methods.png", "checkpoints/affgan-x4/before_after.png"}
    assert json.loads((tmp_path / "results" / "samples.json").read_text())["reproduced"] == 1


@pytest.mark.parametrize(
    "module", ["folder", "learned_pinv", "speed", "swiss_roll", "faces", "grass", "generators", "settings"]
)
def test_benchmark_scripts_run(module, tmp_path, monkeypatch):
    import importlib

    runs = ["--runs", str(tmp_path / "runs")] if module in ("faces", "grass", "generators", "settings") else []
    monkeypatch.setattr("sys.argv", [module, "--quick", "--output", str(tmp_path / "x.json"), *runs])
    importlib.import_module(f"benchmarks.{module}").main()
    assert (tmp_path / "x.json").is_file()


def test_figures_of_trainings_elsewhere_are_completed(tmp_path, monkeypatch):
    import json

    from benchmarks import generators

    name, kept = "residual 64×10", {"seconds": 0.1, "seconds_per_step": 0.006, "steps": 16, "psnr": 28.187}
    (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / name / "figures.json").write_text(json.dumps(kept))
    options = ["--accelerator", "gpu", "--networks", "base", "--only", name, "--output", str(tmp_path / "x.json")]
    monkeypatch.setattr("sys.argv", ["generators", "--quick", *options, "--runs", str(tmp_path / "runs")])
    generators.main()
    content = json.loads((tmp_path / "x.json").read_text())
    row = content["rows"].pop(name)
    assert not content["rows"] and content["accelerator"] == "gpu" and {k: row[k] for k in kept} == kept
    assert row["seconds_per_megapixel_bf16"] > 0 and row["multi_adds"] > 4e10
    monkeypatch.setattr("sys.argv", ["generators", "--quick", "--only", "residual 64×10"])
    with pytest.raises(SystemExit, match="--only residual 64×10: no such row; there are residual 32×5"):
        generators.main()


def test_quick_runs_leave_results_alone(tmp_path, monkeypatch):
    import argparse

    from benchmarks.common import RESULTS, parsed

    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "x.json")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "x")
    assert parsed(parser, []).output == RESULTS / "x.json"
    quick = parsed(parser, ["--quick", "--runs", str(tmp_path)])
    assert quick.output.name == "x.json" and ROOT not in quick.output.parents and quick.runs == tmp_path
